//! Each check of `tksign doctor`, sound and broken.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::Clock;
use testkit::process::run;
use testkit::signer::{Running, binary};

use super::signer;

/// What it found, check by check, and its exit code.
struct Found(Vec<Value>, Option<i32>);

fn doctor(signer: &Running, args: &[&str]) -> Found {
    let done = signer.run("doctor", &[args, &["--json"]].concat(), b"");
    Found(done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), done.code)
}

impl Found {
    #[track_caller]
    fn is(&self, check: &str, verdict: &str, detail: &str) {
        let rows: Vec<_> = self.0.iter().filter(|row| row["check"] == check).collect();
        let [row] = &rows[..] else { panic!("{check}: {:?}", self.0) };
        assert_eq!(row["found"], verdict, "{row}");
        assert!(row["detail"].as_str().unwrap().contains(detail), "{row}");
        // One failure is the command's.
        assert!(verdict != "FAILED" || self.1 == Some(25), "{:?}", self.1);
    }

    #[track_caller]
    fn is_sound(&self) {
        let failed = self.0.iter().find(|row| row["found"] == "FAILED");
        assert!(failed.is_none() && self.1 == Some(0), "{failed:?} {:?}", self.1);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_open_to_others_is_found() {
    let signer = signer();
    doctor(&signer, &[]).is_sound();
    let state = signer.dir().join("state");
    for name in [
        "operator.key",
        "mint.key",
        "revoke.key",
        "tksign.db",
        "tksign.db-wal",
        "tksign.db-shm",
        "high-water",
    ] {
        let file = state.join(name);
        doctor(&signer, &[]).is(name, "ok", "mode 0600");
        for mode in [0o640, 0o604, 0o620] {
            set_mode(&file, mode);
            doctor(&signer, &[]).is(name, "FAILED", "open to others");
        }
        set_mode(&file, 0o600);
    }
    set_mode(&state, 0o750);
    doctor(&signer, &[]).is("folder", "FAILED", "open to others");
    set_mode(&state, 0o700);
    // Keys may lie elsewhere, but the one that this speaks with.
    fs::remove_file(state.join("mint.key")).unwrap();
    signer.dir().write("state/root.key", 0o600, b"forgotten");
    let found = doctor(&signer, &[]);
    found.is("root key", "warning", "carry it away");
    found.is_sound();
    fs::remove_file(state.join("operator.key")).unwrap();
    doctor(&signer, &[]).is("operator.key", "FAILED", "No such file");
}

#[test]
fn a_secret_that_would_not_do_is_found() {
    let mut signer = signer();
    let secret = signer.secret();
    let path = |name: &str| signer.dir().join(name).to_str().unwrap().to_owned();
    let (missing, other) = (path("none"), path("other"));
    signer.dir().write("other", 0o400, (0..32u8).collect::<Vec<_>>());
    doctor(&signer, &[]).is("secret", "ok", "none is given");
    doctor(&signer, &["--secret-file", &secret]).is("secret", "ok", "can be read");
    doctor(&signer, &["--secret-file", &missing]).is("secret", "FAILED", "cannot be read");
    set_mode(Path::new(&secret), 0o440);
    doctor(&signer, &["--secret-file", &secret]).is("secret", "FAILED", "chmod 0400");
    set_mode(Path::new(&secret), 0o400);
    // Another one is as good to look at; whether it opens the store is seen while nobody has it.
    doctor(&signer, &["--secret-file", &other]).is("secret", "ok", "while none runs");
    signer.stop();
    doctor(&signer, &["--secret-file", &other]).is(
        "signer",
        "FAILED",
        "not the one this store is sealed under",
    );
    doctor(&signer, &["--secret-file", &secret]).is_sound();
    doctor(&signer, &[]).is("signer", "FAILED", "no secret");
}

#[test]
fn a_damaged_store_and_a_changed_trail_are_found_while_none_runs() {
    let mut signer = signer();
    for _ in 0..40 {
        signer.must("mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "action = read"]);
    }
    signer.stop();
    let (secret, database) = (signer.secret(), signer.dir().join("state/tksign.db"));
    let whole = ["--secret-file", &secret];
    let found = doctor(&signer, &whole);
    found.is("store", "ok", "the audit chain holds to line");
    found.is_sound();
    let sound = fs::read(&database).unwrap();
    let store = || rusqlite::Connection::open(&database).unwrap();
    let changed =
        store().execute("UPDATE audit SET value = x'00' WHERE key = (SELECT max(key) FROM audit)", ());
    assert_eq!(changed.unwrap(), 1);
    doctor(&signer, &whole).is("store", "FAILED", "the audit chain breaks at line");
    fs::write(&database, &sound).unwrap();
    doctor(&signer, &whole).is_sound();
    // A table that the start of the server does not read through.
    let page = "SELECT rootpage FROM sqlite_schema WHERE name = 'tokens'";
    let page: usize = store().query_row(page, (), |row| row.get(0)).unwrap();
    let mut broken = sound;
    let start = (page - 1) * 4096;
    broken[start..start + 200].fill(0xee);
    fs::write(&database, broken).unwrap();
    doctor(&signer, &whole).is("store", "FAILED", "");
}

#[test]
fn a_clock_that_is_another_or_behind_what_was_signed_is_found() {
    let mut signer = signer();
    let test = "a_clock_that_is_another_or_behind_what_was_signed_is_found";
    let Some(clock) = Clock::new(test, signer.dir().join("state/clock")) else { return };
    signer.stop();
    signer.environment(clock.environment());
    clock.after(Duration::from_secs(600));
    signer.serve();
    // By the server's clock all is well; by another, as after one of them was set, it is not.
    doctor(&signer, &[]).is_sound();
    let state = signer.state();
    let apart = run(binary(), ["doctor", "--dir", &state, "--json"], b"");
    let rows = apart.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Found(rows, apart.code).is("clock", "FAILED", "the signer says");
    signer.stop();
    clock.set(0);
    signer.serve();
    let found = doctor(&signer, &[]);
    found.is("clock", "FAILED", "is before the last head");
    found.is("notice", "warning", "the clock is behind the last signed head");
}
