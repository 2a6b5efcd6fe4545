//! The guide, run: every `sh` block of `docs/guides/getting-started.md` in one shell, and what it prints
//! against the `text` block behind it. Only the ports are others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use harness::{text, with_ports};
use testkit::process::Process;
use testkit::{TempDir, free_port, need, signer};

/// What is put between two blocks.
const MARK: &str = "=== the next block";

/// The blocks of commands, each with what it must print.
fn blocks(guide: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let inside: String =
            lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        match (kind, blocks.last_mut()) {
            ("sh", _) => blocks.push((inside, String::new())),
            ("text", Some((_, prints))) => prints.push_str(&inside),
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_command_of_the_guide_does_what_the_guide_says() {
    let test = "every_command_of_the_guide_does_what_the_guide_says";
    if need(test, "curl", "apt-get install curl").is_none() {
        return;
    }
    let guide = std::fs::read_to_string(signer::workspace().join("docs/guides/getting-started.md")).unwrap();
    let guide = with_ports(&guide, &["7300", "7301", "8080"].map(|port| (port, free_port())));
    let blocks = blocks(&guide);
    assert!(blocks.len() >= 5, "the guide has lost its commands");
    let script: String = blocks.iter().map(|(commands, _)| format!("{commands}\necho '{MARK}'\n")).collect();
    let dir = TempDir::new();
    let said = dir.join("said");
    // What programs say to people on their error output depends on the machine.
    let script = format!(
        "set -euo pipefail\nexec 2>{}\ntrap 'kill $(jobs -p)' EXIT\ncd {}\n{script}",
        text(&said),
        text(dir.path())
    );
    let file = dir.write("guide.sh", 0o644, script);

    let programs = [signer::binary(), signer::tkverify(), Path::new(env!("CARGO_BIN_EXE_axum-example"))];
    let folders = programs.map(|program| program.parent().unwrap().to_owned());
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Process::start(Command::new("bash").arg(&file).env("PATH", path));
    for (commands, prints) in &blocks {
        let mut printed = String::new();
        shell.await_line("the end of a block", |line| {
            if line == MARK {
                return Some(());
            }
            printed.push_str(line);
            printed.push('\n');
            None
        });
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        assert_eq!(&printed, prints, "after\n{commands}\nit said\n{said}");
    }
    assert!(shell.wait().success(), "{}", shell.output());
}
