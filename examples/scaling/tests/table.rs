//! The page and the program say the same, and what the program supposes of the signer's answers is so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use harness::{call, signer};
use scaling::{CACHE_CONTROL, HEADERS, report};
use testkit::signer::workspace;

const BEGIN: &str = "<!-- printed by examples/scaling -->\n";
const END: &str = "<!-- end of what is printed -->\n";

#[test]
fn the_page_has_what_the_simulator_prints() {
    let page = workspace().join("docs/scaling.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (printed, after) = rest.split_once(END).unwrap();
    let now = report();
    if std::env::var_os("TK_WRITE_TABLES").is_some() {
        fs::write(page, format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
    } else {
        assert_eq!(printed, now, "TK_WRITE_TABLES=1 writes it into docs/scaling.md");
    }
}

#[test]
fn the_signer_says_to_caches_what_the_simulator_supposes() {
    let signer = signer();
    let feed = fs::read_to_string(signer.trust()).unwrap();
    let (_, feed) = feed.split_once("\"feed\":\"").unwrap();
    let (feed, _) = feed.split_once('"').unwrap();
    for (path, control) in ["head", "keys/1", "keys/2"].into_iter().zip(CACHE_CONTROL) {
        let answer = call(signer.public(), "HEAD", &format!("/v1/feed/{feed}/{path}"), &[]);
        assert!(
            answer.head.contains(&format!("\r\ncache-control: {control}\r\n")),
            "{path}: {}",
            answer.head
        );
        // `call` closes the connection, which clients do not.
        let len = answer.head.len() + "\r\n\r\n".len() - "connection: close\r\n".len();
        assert!(len as u64 <= HEADERS[1], "{path}: {len} bytes");
    }
}
