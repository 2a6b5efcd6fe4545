//! `kill -9` of `refresh` at every write step, in a real process: whatever the step, the folder
//! holds the state before or the state after, it loads, and the next run ends well.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use feed_support::{FEED, Random, Signer};
use testkit::TempDir;
use testkit::http::{Reply, Server};
use tkcore::revocation::{ExpiryDay, Revocation};

use super::{Colours, Exit, Streams, Watched, run};
use crate::clock::{Clock as _, SystemClock};
use crate::trust::Trust;

#[path = "../../../tkcore/tests/feed_support/mod.rs"]
#[allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared with the tests of tkcore; a test fails by panicking"
)]
mod feed_support;

fn now() -> u64 {
    SystemClock::new().read().wall.millis()
}

/// `refresh --once --json` in this process.
fn refresh(trust: &Path, dir: &Path) -> (Exit, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        stdin: &mut std::io::empty(),
        stdout: &mut stdout,
        stderr: &mut stderr,
        watched: Watched::No,
        colours: Colours::None,
    };
    let args = ["tkverify", "refresh", "--once", "--json", "--trust", trust.to_str().unwrap(), "--dir"];
    let exit = run(args.into_iter().chain([dir.to_str().unwrap()]), &mut streams);
    (exit, String::from_utf8(stdout).unwrap())
}

fn rows(report: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(report).unwrap()["rows"].as_u64().unwrap()
}

/// What the killed process runs.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let (Ok(trust), Ok(dir)) = (std::env::var("CRASH_TRUST"), std::env::var("CRASH_DIR")) else { return };
    let (exit, _) = refresh(trust.as_ref(), dir.as_ref());
    std::process::exit(i32::from(exit.code()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_last_good_state_loads_whatever_the_step() {
    let mut signer = Signer::new(now());
    let mut random = Random(5);
    let mut revoke = |signer: &mut Signer, count: usize| {
        let row = |random: &mut Random| Revocation::Token { lineage: random.lineage(now()) };
        let rows: Vec<_> = (0..count).map(|_| (row(&mut random), ExpiryDay::UNKNOWN)).collect();
        signer.revoke(&rows, None);
        signer.publish_head(now());
    };
    revoke(&mut signer, 3);
    let signer = Arc::new(Mutex::new(signer));
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let server = Server::start({
        let (signer, up) = (Arc::clone(&signer), Arc::clone(&up));
        move |request| {
            if !up.load(std::sync::atomic::Ordering::SeqCst) {
                return Reply::Close;
            }
            let path = request.path.strip_prefix(&format!("/v1/feed/{FEED}/")).unwrap_or("");
            signer
                .lock()
                .unwrap()
                .files
                .get(path)
                .map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone()))
        }
    });
    let dir = TempDir::new();
    let root = *signer.lock().unwrap().root.public().as_bytes();
    let trust =
        Trust { feed: FEED, threshold: 1, root_keys: vec![root], signers: vec![], feeds: vec![server.url()] };
    let trust = dir.write("trust.json", 0o644, trust.to_json());
    let start = dir.join("start");
    let (exit, report) = refresh(&trust, &start);
    assert_eq!((exit, rows(&report)), (Exit::Ok, 3));
    // The step under test: deltas, a new key list, a head, the floor.
    {
        let mut signer = signer.lock().unwrap();
        revoke(&mut signer, 4);
        revoke(&mut signer, 5);
        let epoch = signer.list.epoch;
        signer.publish_keys(epoch, now());
        signer.publish_head(now());
    }
    for (from, before) in [(start.as_path(), 3), (dir.join("absent").as_path(), 0)] {
        let mut killed = 0u64;
        for at in 0.. {
            let folder = dir.join(format!("folder-{before}-{at}"));
            if from.exists() {
                copy(from, &folder);
            }
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "cli::killed::child", "--ignored", "--nocapture"])
                .env("CRASH_AT", at.to_string())
                .env("CRASH_TRUST", &trust)
                .env("CRASH_DIR", &folder)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap();
            if status.signal().is_none() {
                assert_eq!(status.code(), Some(0));
                break;
            }
            assert_eq!(status.signal(), Some(9));
            killed += 1;
            // Without the network: what is there loads, and is one of the two states.
            up.store(false, std::sync::atomic::Ordering::SeqCst);
            let (exit, report) = refresh(&trust, &folder);
            assert_eq!(exit, Exit::Unreachable, "{before}, step {at}");
            let loaded = serde_json::from_str::<serde_json::Value>(&report).unwrap()["rows"].as_u64();
            assert!(loaded == Some(12) || loaded.unwrap_or(0) == before, "{before}, step {at}: {report}");
            up.store(true, std::sync::atomic::Ordering::SeqCst);
            let (exit, report) = refresh(&trust, &folder);
            assert_eq!((exit, rows(&report)), (Exit::Ok, 12), "{before}, step {at}: {report}");
            std::fs::remove_dir_all(&folder).unwrap();
        }
        assert!(killed > 20, "{killed}");
    }
}
