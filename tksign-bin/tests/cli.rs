//! The command line as a person meets it: the real program, its exit codes and its advice.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use testkit::TempDir;
use testkit::process::{Finished, Process, run};
use testkit::signer::{Running, binary};

fn tksign(args: &[&str]) -> Finished {
    run(binary(), args, b"")
}

/// The exit code, and that the error says `what` and has a next step.
#[track_caller]
fn fails(done: &Finished, code: i32, what: &str) {
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains(what), "\"{what}\" is not in: {}", done.stderr);
    assert!(done.stderr.contains("\nnext: "), "{}", done.stderr);
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

fn secret(dir: &TempDir, name: &str, from: u8, mode: u32) -> String {
    let bytes: [u8; 32] = core::array::from_fn(|at| (at as u8).wrapping_mul(31).wrapping_add(from));
    dir.write(name, mode, bytes);
    path(dir, name)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn init_makes_a_signer_once_and_leaves_the_root_key_outside() {
    let dir = TempDir::new();
    let (state, root, good) = (path(&dir, "state"), path(&dir, "root.key"), secret(&dir, "secret", 1, 0o400));
    let init = ["init", "--dir", &state, "--secret-file", &good, "--root-key-out", &root];
    let made = tksign(&[&init[..], &["--rpc-url", "http://h:1", "--feed-url", "http://h:2"]].concat());
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(!made.stderr.contains("addresses"), "{}", made.stderr);
    let trust: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(trust["signers"][0]["url"], "http://h:1");
    assert_eq!(trust["feeds"][0], "http://h:2");
    for (name, mode) in
        [("operator.key", 0o600), ("mint.key", 0o600), ("revoke.key", 0o600), ("tksign.db", 0o600)]
    {
        let found = std::fs::metadata(format!("{state}/{name}")).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o700);
    let kept = std::fs::read(&root).unwrap();
    assert_eq!(kept.len(), 65);
    fails(&tksign(&init), 22, "there is a store in");
    // Another signer's root key is never overwritten, and nothing is made.
    let other = path(&dir, "other");
    let clash = ["init", "--dir", &other, "--secret-file", &good, "--root-key-out", &root];
    fails(&tksign(&clash), 24, "root.key");
    assert!(!dir.join("other/tksign.db").exists());
    assert_eq!(std::fs::read(&root).unwrap(), kept);
}

/// Killed before or after every single change that `init` makes on the disk: nobody serves what is
/// half made, and running it again makes a signer whose root key signs its key lists.
#[test]
fn an_init_that_is_killed_at_any_step_is_made_good_by_the_next() {
    use std::os::unix::process::ExitStatusExt as _;
    let mut steps = 0..200;
    let all = steps.find(|step| {
        let dir = TempDir::new();
        let (state, root, good) =
            (path(&dir, "state"), path(&dir, "root.key"), secret(&dir, "secret", 1, 0o400));
        let init = ["init", "--dir", &state, "--secret-file", &good, "--root-key-out", &root];
        let killed = Command::new(binary())
            .args(init)
            .env("LD_PRELOAD", testkit::disk::library())
            .env("TK_DISK_ROOT", dir.path())
            .env("TK_DISK_KILL", (step + 1).to_string())
            .output()
            .unwrap();
        if killed.status.success() {
            return true;
        }
        assert_eq!(killed.status.signal(), Some(9), "{}", String::from_utf8_lossy(&killed.stderr));
        let (is_unfinished, has_store) =
            (dir.join("state/init.part").exists(), dir.join("state/tksign.db").exists());
        if is_unfinished && has_store {
            let status = tksign(&["status", "--dir", &state, "--secret-file", &good]);
            assert_eq!(status.code, Some(22), "{step}: {}", status.stderr);
            assert!(status.stderr.contains("run tksign init again"), "{}", status.stderr);
        }
        if dir.join("root.key").exists() {
            // It was killed after its last change.
            fails(&tksign(&init), 22, "there is a store in");
        } else {
            let again = tksign(&init);
            assert_eq!(again.code, Some(0), "step {step}: {}{}", again.stdout, again.stderr);
            serde_json::from_str::<serde_json::Value>(&again.stdout).unwrap();
        }
        // The whole proof takes three programs more: often, and where the store counted already.
        if step % 8 != 0 && (is_unfinished || !has_store) {
            return false;
        }
        let (list, signed) = (path(&dir, "list"), path(&dir, "signed"));
        let keys = |args: &[&str]| {
            let reach = ["--dir", &state, "--secret-file", &good];
            let reach = if args[1] == "sign" { &[][..] } else { &reach[..] };
            let done = tksign(&[&["keys"][..], args, reach].concat());
            assert_eq!(done.code, Some(0), "step {step}: {}", done.stderr);
        };
        keys(&["publication", "prepare", "--out", &list]);
        keys(&["publication", "sign", "--root-key", &root, &list, "--out", &signed]);
        keys(&["publication", "install", &signed]);
        for folder in [dir.path().to_owned(), dir.join("state")] {
            let left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".part")), "step {step}");
        }
        false
    });
    assert!(all.is_some_and(|steps| steps > 30), "{all:?}");
}

/// Two at once: the second one touches nothing of what the first is making, in its folder or beside it.
#[test]
fn an_init_leaves_anothers_work_alone() {
    let dir = TempDir::new();
    let (state, root, good) = (path(&dir, "state"), path(&dir, "root.key"), secret(&dir, "secret", 1, 0o400));
    let init = ["init", "--dir", &state, "--secret-file", &good, "--root-key-out", &root];
    // As the first one holds it half way.
    std::fs::create_dir(&state).unwrap();
    let first = std::fs::File::open(&state).unwrap();
    rustix::fs::flock(&first, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let making = ["state/init.part", "state/tksign.db", "root.key.part"];
    making.iter().for_each(|name| drop(dir.write(name, 0o600, name)));
    let is_whole = |names: &[&str]| {
        names.iter().all(|name| std::fs::read(dir.join(name)).is_ok_and(|read| read == name.as_bytes()))
    };
    fails(&tksign(&init), 22, "another process");
    assert!(is_whole(&making));
    // It is gone, and another works in another folder on a root key of the same name.
    drop(first);
    std::fs::remove_dir_all(&state).unwrap();
    fails(&tksign(&init), 24, "root.key.part");
    assert!(is_whole(&making[2..]));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "nothing is left that would remove it later");
    std::fs::remove_file(dir.join(making[2])).unwrap();
    let made = tksign(&init);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(
        made.stderr.contains("lacks addresses: give services the one of tksign serve"),
        "{}",
        made.stderr
    );
}

/// No key is ever made of anything else than the system's randomness.
#[test]
fn a_failing_generator_stops_the_program() {
    use std::os::unix::process::ExitStatusExt as _;
    let dir = TempDir::new();
    let (state, good) = (path(&dir, "state"), secret(&dir, "secret", 1, 0o400));
    let init = ["init", "--dir", &state, "--secret-file", &good];
    let init_with = |variable: &str| {
        let mut command = Command::new(binary());
        command.args(init).env("LD_PRELOAD", testkit::disk::library()).env(variable, "1").output().unwrap()
    };
    let failed = init_with("TK_NO_RANDOM");
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.signal(), Some(6), "{said}");
    assert!(said.contains("gives no random bytes; stopping"), "{said}");
    assert!(!dir.join("state/tksign.db").exists() && !dir.join("state/operator.key").exists());
    // The same with a generator that works.
    let made = init_with("TK_NOTHING");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn a_wrong_secret_is_told_at_start() {
    let mut signer = Running::start();
    signer.stop();
    let dir = TempDir::new();
    let state = signer.state();
    let serve = |secret: &str| tksign(&["serve", "--dir", &state, "--secret-file", secret]);
    fails(&serve(&secret(&dir, "wrong", 99, 0o400)), 21, "not the one this store is sealed under");
    fails(&serve(&secret(&dir, "open", 1, 0o644)), 21, "must be 0400");
    fails(&serve(&path(&dir, "absent")), 21, "cannot be read");
    dir.write("short", 0o400, "short");
    let short = serve(&path(&dir, "short"));
    fails(&short, 21, "bytes");
    assert!(short.stderr.contains("next: make another: head -c 32 /dev/urandom"), "{}", short.stderr);
    dir.write("typed", 0o400, "123123123123123123123123123123123123");
    let typed = serve(&path(&dir, "typed"));
    fails(&typed, 21, "not random");
    assert!(typed.stderr.contains("next: make another: head -c 32 /dev/urandom"), "{}", typed.stderr);
    fails(&tksign(&["serve", "--dir", &state]), 21, "no secret");
    // Commands say first that no server runs.
    fails(&tksign(&["status", "--dir", &state]), 21, "no signer runs in");
    fails(&tksign(&["status", "--dir", &state, "--secret-file", &path(&dir, "wrong")]), 21, "sealed under");
}

#[test]
fn stores_that_cannot_be_used_are_told_apart() {
    let dir = TempDir::new();
    let good = secret(&dir, "secret", 1, 0o400);
    let absent = path(&dir, "absent");
    fails(&tksign(&["serve", "--dir", &absent, "--secret-file", &good]), 22, "no store");
    fails(&tksign(&["status", "--dir", &absent, "--secret-file", &good]), 22, "no store");
    // A folder that cannot be made or written (also for root).
    for folder in ["/dev/null/state", "/proc/state"] {
        let root = path(&dir, "root.key");
        fails(
            &tksign(&["init", "--dir", folder, "--secret-file", &good, "--root-key-out", &root]),
            24,
            folder,
        );
        assert!(!dir.join("root.key").exists());
    }
    let mut signer = Running::start();
    signer.stop();
    let database = format!("{}/tksign.db", signer.state());
    let store = rusqlite::Connection::open(&database).unwrap();
    let version: u32 = store.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    store.pragma_update(None, "user_version", version + 1).unwrap();
    drop(store);
    let serve = ["serve", "--dir", &signer.state(), "--secret-file", &signer.secret()];
    fails(&tksign(&serve), 22, "newer");
    std::fs::write(&database, "not a database, and long enough to be looked at as if it were one").unwrap();
    fails(&tksign(&serve), 22, "");
}

#[test]
fn one_server_holds_the_store_and_its_addresses() {
    let mut signer = Running::start();
    let (state, secret) = (signer.state(), signer.secret());
    fails(&tksign(&["serve", "--dir", &state, "--secret-file", &secret]), 22, "serves");
    // Without its control socket it still holds the store.
    std::fs::rename(format!("{state}/control.sock"), format!("{state}/moved")).unwrap();
    fails(&tksign(&["status", "--dir", &state, "--secret-file", &secret]), 22, "");
    fails(&tksign(&["serve", "--dir", &state, "--secret-file", &secret]), 22, "");
    std::fs::rename(format!("{state}/moved"), format!("{state}/control.sock")).unwrap();
    signer.must("status", &[]);
    // Another signer cannot have the same address, and stops whole.
    let dir = TempDir::new();
    let (new_state, root) = (path(&dir, "state"), path(&dir, "root.key"));
    let made = tksign(&["init", "--dir", &new_state, "--secret-file", &secret, "--root-key-out", &root]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let taken = ["serve", "--dir", &new_state, "--secret-file", &secret, "--rpc", signer.rpc()];
    fails(&tksign(&taken), 23, "in use");
    // A socket file left by a killed server is no obstacle.
    signer.kill();
    assert!(std::path::Path::new(&format!("{state}/control.sock")).exists());
    signer.serve();
    signer.stop();
    assert!(!std::path::Path::new(&format!("{state}/control.sock")).exists());
}

#[test]
fn the_same_commands_work_with_and_without_a_server() {
    let mut signer = Running::start();
    let mut lineages = Vec::new();
    for running in [true, false] {
        if !running {
            signer.stop();
        }
        let secret = signer.secret();
        let access: &[&str] = if running { &[] } else { &["--secret-file", &secret] };
        let tenant = if running { "acme" } else { "umbrella" };
        let must = |name: &str, args: &[&str]| signer.must(name, &[args, access].concat());
        must("keys create", &["--tenant", tenant]);
        let id = "00112233445566778899aabbccddeeff";
        let mint = ["--tenant", tenant, "--expires", "8h", "--caveat", "action in read", "--label", "x"];
        let token = must("mint", &mint);
        assert!(
            token.starts_with("tk1_") && token.lines().count() == 1,
            "only the token is printed: {token}"
        );
        let twice = [&mint[..], &["--json", "--request-id", id]].concat();
        if running {
            let first: serde_json::Value = serde_json::from_str(&must("mint", &twice)).unwrap();
            let second: serde_json::Value = serde_json::from_str(&must("mint", &twice)).unwrap();
            assert_eq!(first, second, "a request id is done once");
        }
        let listed = must("tokens list", &["--tenant", tenant, "--json"]);
        let row: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        let lineage = row["lineage"].as_str().unwrap().to_owned();
        let dry: serde_json::Value =
            serde_json::from_str(&must("revoke token", &[&lineage, "--dry-run", "--json"])).unwrap();
        assert_eq!((dry["effect"].as_str(), dry["row"].as_str()), (Some("would revoke"), Some(&lineage[..])));
        assert_eq!(
            (dry["live tokens hit"].as_u64(), dry["of these with a label"].as_u64()),
            (Some(1), Some(1))
        );
        let status: serde_json::Value = serde_json::from_str(&must("status", &["--json"])).unwrap();
        must("revoke token", &[&lineage, "--reason", "lost"]);
        let after: serde_json::Value = serde_json::from_str(&must("status", &["--json"])).unwrap();
        assert_eq!(after["revocations"].as_u64(), status["revocations"].as_u64().map(|count| count + 1));
        let shown: serde_json::Value =
            serde_json::from_str(&must("tokens show", &[&lineage, "--json"])).unwrap();
        assert_eq!(shown["revoked by"], "token");
        lineages.push(lineage);
        let done = signer.run("revoke presented", access, token.as_bytes());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        // PR-45: the chain from its start.
        assert!(must("audit verify", &[]).contains("the chain holds"));
        let status: serde_json::Value = serde_json::from_str(&must("status", &["--json"])).unwrap();
        assert_eq!((status["running"].as_bool(), status["mode"].as_str()), (Some(running), Some("serving")));
        let folder = path(signer.dir(), "www");
        must("publish", &[&folder]);
        let feed = status["feed"].as_str().unwrap();
        assert!(std::path::Path::new(&format!("{folder}/v1/feed/{feed}/head")).exists());
        assert!(std::path::Path::new(&format!("{folder}/v1/feed/{feed}/keys/1")).exists());
    }
    // What was done without a server is there with one.
    signer.serve();
    let shown: serde_json::Value =
        serde_json::from_str(&signer.must("tokens show", &[&lineages[1], "--json"])).unwrap();
    assert_eq!(shown["revoked by"], "token");
}

#[test]
fn refusals_have_their_own_exit_codes() {
    let signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    let run = |name: &str, args: &[&str]| signer.run(name, args, b"");
    fails(&run("tokens show", &["00000000000000000000000000000000"]), 11, "not found");
    fails(&run("keys create", &["--tenant", "acme"]), 10, "already exists");
    let mint = |more: &[&str]| run("mint", &[&["--tenant", "acme"], more].concat());
    fails(&mint(&["--expires", "8h"]), 10, "explicit permission");
    fails(&mint(&["--expires", "never", "--caveat", "action in read"]), 10, "must be meant");
    fails(&mint(&["--expires", "soon", "--caveat", "action in read"]), 2, "soon");
    fails(&run("revoke tenant", &["--tenant", "acme", "--before", "2999-01-01T00:00:00Z"]), 10, "time");
    fails(&signer.run("revoke presented", &[], b"tk1_AgIi"), 10, "");
    fails(&signer.run("revoke presented", &[], b""), 10, "");
    fails(&run("revoke token", &["xyz"]), 2, "lineage");
    fails(&run("clients add", &["--key", "12", "--name", "a", "--role", "verify"]), 2, "64");
    let key = "ab".repeat(32);
    let narrowed = ["--key", &key, "--name", "a", "--role", "verify", "--tenant", "acme"];
    fails(&run("clients add", &narrowed), 2, "takes none of");
    assert_eq!(run("mint", &["--unknown"]).code, Some(2));
    assert_eq!(tksign(&["--help"]).code, Some(0));
}

#[test]
fn a_changed_audit_line_is_found() {
    let mut signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    signer.stop();
    let store = rusqlite::Connection::open(format!("{}/tksign.db", signer.state())).unwrap();
    let tables: Vec<String> = store
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%audit%'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let [table] = &tables[..] else { panic!("{tables:?}") };
    let changed = store
        .execute(
            &format!("UPDATE {table} SET value = CAST(replace(value, 'key-create', 'key-retire') AS BLOB)"),
            [],
        )
        .unwrap();
    assert!(changed > 0);
    drop(store);
    let found = signer.run("audit verify", &["--secret-file", &signer.secret()], b"");
    fails(&found, 25, "does not follow");
}

#[test]
fn each_listener_serves_its_own_and_the_ready_line_goes_where_it_is_asked() {
    let mut signer = Running::start();
    let metrics = get(signer.metrics(), "/metrics");
    assert!(metrics.contains("openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(metrics.contains("tksign_sessions{state=\"confirmed\"}"));
    for (address, path, status) in [
        (signer.public(), "/healthz", "200"),
        (signer.public(), "/readyz", "200"),
        (signer.public(), "/metrics", "404"),
        (signer.public(), "/v1/session", "404"),
        (signer.rpc(), "/healthz", "404"),
        (signer.rpc(), "/v1/session", "405"),
        (signer.metrics(), "/healthz", "404"),
    ] {
        assert_eq!(get(address, path).split(' ').nth(1), Some(status), "{address} {path}");
    }
    signer.stop();
    // Descriptor 3 is what was standard output; the program's own goes nowhere.
    let script = format!(
        "exec {} serve --dir {} --secret-file {} --rpc unix:{} --public 127.0.0.1:0 --ready-fd 3 3>&1 >/dev/null",
        binary().display(),
        signer.state(),
        signer.secret(),
        path(signer.dir(), "rpc.sock"),
    );
    let mut process = Process::start(Command::new("sh").args(["-c", &script]));
    let line =
        process.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
    assert!(line.contains("unix:"), "{line}");
    assert!(process.terminate().success());
}
