//! A page of commands, run: every `sh` block in one shell, and what it prints against the `text`
//! block behind it. Only the ports are others.

use std::process::Command;

use testkit::process::Process;
use testkit::{TempDir, free_port, signer};

use crate::{text, with_ports};

/// What is put between two blocks.
const MARK: &str = "=== the next block";

/// Runs a page of this project with the programs of the running test's target folder; `ports` are
/// those that it listens on.
///
/// # Panics
/// When a command fails, or prints something else than the page says.
pub fn run_guide(page: &str, ports: &[&str]) {
    let page = std::fs::read_to_string(signer::workspace().join(page)).unwrap();
    let ports: Vec<_> = ports.iter().map(|port| (*port, free_port())).collect();
    let blocks = blocks(&with_ports(&page, &ports));
    assert!(blocks.len() >= 5, "the page has lost its commands");
    let script: String = blocks.iter().map(|(commands, _)| format!("{commands}\necho '{MARK}'\n")).collect();
    let dir = TempDir::new();
    let said = dir.join("said");
    // What programs say to people on their error output depends on the machine; after a command that
    // failed it is shown.
    let script = format!(
        "set -Eeuo pipefail\nexec 2>{said}\ntrap 'tail -n 20 {said}' ERR\ntrap 'kill $(jobs -p)' EXIT\ncd {}\n{script}",
        text(dir.path()),
        said = text(&said),
    );
    let file = dir.write("page.sh", 0o644, script);

    let folders = [signer::binary(), signer::tkverify()].map(|program| program.parent().unwrap().to_owned());
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

/// The blocks of commands, each with what it must print.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut lines = page.lines();
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
