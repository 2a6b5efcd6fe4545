//! The guide, run.

use harness::{example, run_guide};
use testkit::need;

#[test]
fn every_command_of_the_guide_does_what_the_guide_says() {
    let test = "every_command_of_the_guide_does_what_the_guide_says";
    if need(test, "curl", "apt-get install curl").is_some() {
        let _ = example("axum-example");
        run_guide("docs/guides/getting-started.md", &["7300", "7301", "8080"]);
    }
}
