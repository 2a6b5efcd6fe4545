//! A file system that is really full: a small one in memory, in a mount namespace of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::process::Process;
use testkit::table::{Fault, fault};

use crate::power::{Told, fails, lineage};
use crate::scene::{Scene, text};

const TEST: &str = "full::a_file_system_without_room_is_told_and_nothing_is_acknowledged";
/// Set in the process that has the namespace.
const INSIDE: &str = "TK_TEST_MOUNTS";
/// The database, its log and the high-water file, and little more.
const SIZE: &str = "size=6m,mode=0700";

/// How often it is filled.
const ROUNDS: usize = 3;

/// Runs the test again where it may mount: as root, or as root of a user namespace.
fn elsewhere() {
    for how in [&["--mount"][..], &["--map-root-user", "--mount"]] {
        let mut can = Command::new("unshare");
        can.args(how).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
        if !can.status().is_ok_and(|status| status.success()) {
            continue;
        }
        let mut again = Command::new("unshare");
        again.args(how).arg(std::env::current_exe().unwrap()).args(["--exact", TEST, "--nocapture"]);
        let done = again.env(INSIDE, "1").status().unwrap();
        assert!(done.success(), "{done}");
        return;
    }
    // Tried just now: a container of CI may forbid it, so only who wants everything fails.
    let said = format!(
        "NOT RUN: {TEST}: no tmpfs can be mounted, neither as root nor in a user namespace. A full disk was only \
         played (power::a_power_full_or_broken_disk_is_told_and_nothing_is_acknowledged)."
    );
    assert!(std::env::var("TK_REQUIRE_ALL").map_or(true, |all| all != "1"), "{said}");
    eprintln!("{said}");
}

/// Writes until there is no room at all.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

#[test]
fn a_file_system_without_room_is_told_and_nothing_is_acknowledged() {
    if std::env::var_os(INSIDE).is_none() {
        return elsewhere();
    }
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let verifier = scene.client("verifier.key", "verify");
    scene.signer.stop();
    let (state, aside) = (scene.signer.dir().join("state"), scene.signer.dir().join("aside"));
    std::fs::rename(&state, &aside).unwrap();
    std::fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&state).status();
    assert!(mounted.unwrap().success());
    let copied = Command::new("cp").args(["-a"]).arg(format!("{}/.", text(&aside))).arg(&state).status();
    assert!(copied.unwrap().success());
    scene.signer.serve();

    let mut told = Told::default();
    let (alive, feed) = (scene.mint("acme", "alive"), scene.path("feed"));
    told.minted.insert(alive);
    scene.refreshed(&feed);
    let mut pause = Duration::ZERO;
    let filler = state.join("filler");
    for round in 0..ROUNDS {
        let kept = scene.mint("acme", "kept");
        told.minted.insert(kept.clone());
        fill(&filler);
        // A log that is used again needs no room, so some writes may succeed before one fails.
        let mint = ["--tenant", "acme", "--expires", "8h", "--caveat", "a = b"];
        let mut refused = scene.signer.run("mint", &mint, b"");
        for _ in 0..500 {
            if refused.code != Some(0) {
                break;
            }
            told.minted.insert(lineage(&refused.stdout));
            refused = scene.signer.run("mint", &mint, b"");
        }
        fails(&refused, "disk is full");
        fails(&scene.signer.run("revoke token", &[&kept], b""), "disk is full");
        fails(&scene.signer.run("clients remove", &[&verifier], b""), "disk is full");
        // Verifies go on.
        assert_eq!(scene.check("verifier.key", "alive", "acme", &feed).code, Some(0), "round {round}");
        if round == 1 {
            // A start without room serves what was, or says why it does not.
            scene.signer.kill();
            let mut started = Process::start(&mut scene.signer.command());
            if started.await_line_or_end(|line| line.contains("\"ready\":true")) {
                fails(&scene.signer.run("mint", &mint, b""), "disk is full");
                assert_eq!(scene.check("verifier.key", "alive", "acme", &feed).code, Some(0), "started full");
            } else {
                assert!(started.output().contains("disk is full"), "{}", started.output());
            }
        }
        std::fs::remove_file(&filler).unwrap();
        if round == 1 {
            scene.signer.serve();
        }
        // By itself, and at once.
        let started = Instant::now();
        scene.signer.must("revoke token", &[&kept]);
        told.revoked.insert(kept);
        pause = pause.max(started.elapsed());
    }
    scene.signer.must("audit verify", &[]);
    scene.signer.kill();
    assert_eq!(told.holds(&scene.signer.state(), &scene.signer.secret()), Ok(()));
    fault(&Fault {
        store: "SQLite",
        fault: "a file system of 6 MiB without room",
        times: ROUNDS,
        lost: 0,
        pause: Some(pause),
        clients_saw: "an error that names it, no acknowledgement; verifies go on",
    });
}
