//! The end of the trail is cut off on the disk, by somebody who can write it: whatever of the marks
//! beside it is cut off with it, somebody tells.

use std::fs;
use std::path::Path;

use testkit::process::{Finished, run};
use testkit::signer::{Running, With, tkverify};

use super::signer;

const MINT: [&str; 6] = ["--tenant", "acme", "--expires", "1h", "--caveat", "action = read"];

#[track_caller]
fn says(done: &Finished, code: i32, what: &str) {
    let all = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, Some(code), "{all}");
    assert!(all.contains(what), "\"{what}\" is not in: {all}");
}

fn database(signer: &Running) -> rusqlite::Connection {
    rusqlite::Connection::open(signer.dir().join("state/tksign.db")).unwrap()
}

/// Removes the last three lines; the number of the last one that was there.
fn cut(signer: &Running) -> u64 {
    let store = database(signer);
    let last: Vec<u8> = store.query_row("SELECT max(key) FROM audit", (), |row| row.get(0)).unwrap();
    let last = u64::from_be_bytes(last.try_into().unwrap());
    let from = (last - 2).to_be_bytes();
    assert_eq!(store.execute("DELETE FROM audit WHERE key >= ?", [&from[..]]).unwrap(), 3);
    last
}

/// It only reads, and says that the lines are missing which `witness` has.
fn is_held(signer: &mut Running, last: u64, witness: &str) {
    let told = format!("the audit ends at line {}, {witness} at {last}: 3 lines are lost", last - 3);
    let secret = signer.secret();
    says(&signer.run("restore-check", &["--secret-file", &secret], b""), 25, &told);
    signer.serve();
    let status = signer.run("status", &["--json"], b"");
    says(&status, 25, "\"mode\":\"read-only\"");
    says(&status, 25, &told);
    says(&signer.run("mint", &MINT, b""), 12, "behind");
}

/// A signer that has done something, and has stopped.
fn stopped() -> Running {
    let mut signer = signer();
    (0..3).for_each(|_| drop(signer.must("mint", &MINT)));
    signer.stop();
    signer
}

#[test]
fn a_cut_end_is_told_by_the_high_water_file() {
    let mut signer = stopped();
    let last = cut(&signer);
    is_held(&mut signer, last, "the high-water file");
}

/// The file is gone, and what says that there was one.
#[test]
fn a_cut_end_is_told_by_the_last_signed_head_alone() {
    let mut signer = stopped();
    let last = cut(&signer);
    fs::remove_file(signer.dir().join("state/high-water")).unwrap();
    let row = database(&signer).execute("DELETE FROM meta WHERE key = ?", [&b"high-water"[..]]).unwrap();
    assert_eq!(row, 1);
    is_held(&mut signer, last, "the last signed head");
}

/// Lines of another history in the place of those that were cut off.
#[test]
fn an_end_that_was_written_anew_is_told_by_the_last_signed_head() {
    let mut signer = stopped();
    let copy = signer.dir().join("copy");
    let (state, high_water) = (signer.dir().join("state"), signer.dir().join("state/high-water"));
    copy_files(&state, &copy);
    signer.serve();
    signer.must("clients add", &["--name", "x", "--role", "revoke", "--key", &"ab".repeat(32)]);
    signer.stop();
    // What the copy does meanwhile has as many lines; its trail then stands under the other's head.
    let rows = feed_rows(&signer);
    copy_files(&copy, &state);
    signer.serve();
    signer.must("clients add", &["--name", "x", "--role", "revoke", "--key", &"cd".repeat(32)]);
    signer.stop();
    let last = database(&signer).query_row("SELECT count(*) FROM audit", (), |row| row.get::<_, u64>(0));
    fs::remove_file(&high_water).unwrap();
    let store = database(&signer);
    store.execute("DELETE FROM meta WHERE key = ?", [&b"high-water"[..]]).unwrap();
    for (key, value) in rows {
        store.execute("UPDATE feed SET value = ? WHERE key = ?", rusqlite::params![value, key]).unwrap();
    }
    drop(store);
    let told = format!("audit line {} is not the one that was there", last.unwrap());
    let secret = signer.secret();
    says(&signer.run("restore-check", &["--secret-file", &secret], b""), 25, &told);
}

fn feed_rows(signer: &Running) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = database(signer);
    let mut rows = store.prepare("SELECT key, value FROM feed").unwrap();
    let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if file.metadata().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// All that lies on the signer's disk is put back to an hour before: a verifier's folder tells.
#[test]
fn a_trail_that_was_put_back_with_all_its_marks_is_told_by_a_published_head() {
    let mut signer = stopped();
    let (state, copy) = (signer.dir().join("state"), signer.dir().join("copy"));
    let path = |name: &str| signer.dir().join(name).to_str().unwrap().to_owned();
    let (folder, trust) = (path("folder"), signer.trust().to_str().unwrap().to_owned());
    copy_files(&state, &copy);
    signer.serve();
    signer.must("clients add", &["--name", "x", "--role", "revoke", "--key", &"ab".repeat(32)]);
    signer.stop();
    // The first head of a start is signed over everything before it.
    signer.serve();
    let refreshed = run(tkverify(), ["refresh", "--once", "--trust", &trust, "--dir", &folder], b"");
    assert_eq!(refreshed.code, Some(0), "{}", refreshed.stderr);
    let verify = |signer: &Running, more: &[&str]| signer.run("audit verify", more, b"");
    says(&verify(&signer, &["--feed-folder", &folder]), 0, "the chain holds");
    says(&verify(&signer, &["--feed-folder", copy.to_str().unwrap()]), 24, "there is no head");
    signer.stop();
    copy_files(&copy, &state);
    signer.serve();
    says(&verify(&signer, &[]), 0, "the chain holds");
    says(&verify(&signer, &["--feed-folder", &folder]), 25, "which was published");
    // Given the folder at its start, it does not even begin.
    signer.stop();
    signer.with(vec!["--feed-folder".to_owned(), folder]);
    signer.serve();
    says(&signer.run("status", &[], b""), 25, "the feed folder at");
}

/// The option of the server; what the lines hold is `tests/audit.rs`.
#[test]
fn names_stand_in_the_trail_only_when_the_server_is_told_so() {
    for option in [None, Some("--audit-names")] {
        let arguments = option.map(str::to_owned).into_iter().collect();
        let signer = Running::start_with(With { arguments, ..With::default() });
        signer.must("keys create", &["--tenant", "the tenant"]);
        let lines = signer.must("audit tail", &["--json"]);
        assert!(lines.contains("\"op\":\"key-create\""), "{lines}");
        assert_eq!(lines.contains("the tenant"), option.is_some(), "{lines}");
    }
}
