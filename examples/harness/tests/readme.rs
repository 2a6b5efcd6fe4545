//! The commands of the examples' page, run.

use harness::{examples, run_guide};
use testkit::need;

#[test]
fn every_command_of_the_page_does_what_the_page_says() {
    let test = "every_command_of_the_page_does_what_the_page_says";
    if need(test, "curl", "apt-get install curl").is_some() {
        let _ = examples();
        let ports =
            ["7300", "7301", "8001", "8002", "8003", "8004", "8005", "8006", "8008", "8009", "8010", "8011"];
        run_guide("examples/README.md", &ports);
    }
}
