//! The process on its host: its sandbox, its sockets and messages of systemd, its secret.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use testkit::TempDir;
use testkit::process::{Finished, Process, run};
use testkit::signer::{Running, With, binary};
use tkcore::protocol::RPC_PATH;

use super::wire::{Connection, Key, Line};

/// The example that denies itself what the server denies itself, and then tries something.
fn sandboxed(act: &str, argument: &str, own: &TempDir) -> Finished {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().find(|at| at.join("examples").is_dir()).unwrap();
    let program: PathBuf = folder.join("examples/sandboxed");
    let own = format!("OWN={}", own.path().display());
    run("env", [own.as_str(), program.to_str().unwrap(), act, argument], b"")
}

/// Whether this kernel has what the rest of a test is about; says loudly when it has not.
fn in_force(report: &str, what: &str) -> bool {
    let found = report.contains(&format!("{what}: ")) && !report.contains(&format!("{what}: NOT IN FORCE"));
    if !found {
        println!("NOT RUN: {what} is not in force on this kernel: {report}");
        assert!(std::env::var_os("TK_REQUIRE_ALL").is_none(), "{report}");
    }
    found
}

#[test]
fn outside_of_its_folder_no_file_is_opened() {
    let (own, other) = (TempDir::new(), TempDir::new());
    own.write("mine", 0o600, "x");
    other.write("other", 0o600, "x");
    let path = |dir: &TempDir, name: &str| dir.join(name).to_str().unwrap().to_owned();
    let mine = sandboxed("read", &path(&own, "mine"), &own);
    assert!(mine.stdout.contains("done: read"), "{}{}", mine.stdout, mine.stderr);
    assert!(sandboxed("write", &path(&own, "new"), &own).stdout.contains("done: written"));
    if !in_force(&mine.stdout, "files") {
        return;
    }
    for (act, argument) in
        [("read", path(&other, "other")), ("write", path(&other, "new")), ("read", "/etc/passwd".to_owned())]
    {
        let done = sandboxed(act, &argument, &own);
        assert!(done.stdout.contains("refused: Permission denied"), "{act} {argument}: {}", done.stdout);
    }
    assert!(!other.join("new").exists());
}

#[test]
fn nothing_is_run_connected_to_or_listened_on() {
    let own = TempDir::new();
    let ran = sandboxed("thread", "", &own);
    assert!(ran.stdout.contains("done: a thread ran"), "{}{}", ran.stdout, ran.stderr);
    if !in_force(&ran.stdout, "calls") {
        return;
    }
    let socket = own.join("socket");
    let _unix = UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (unix, tcp) = (socket.to_str().unwrap(), tcp.local_addr().unwrap().to_string());
    for (act, argument) in [("exec", "/bin/true"), ("unix", unix), ("tcp", &tcp), ("listen", "127.0.0.1:0")] {
        let done = sandboxed(act, argument, &own);
        // SIGSYS: no exit code, and nothing that came after.
        assert_eq!(done.code, None, "{act}: {}", done.stdout);
        assert!(
            done.stdout.contains("calls: seccomp") && !done.stdout.contains("done"),
            "{act}: {}",
            done.stdout
        );
    }
    // What is allowed is allowed, and no more: the ports are Landlock's matter.
    let allowed = sandboxed("unix-allowed", unix, &own);
    assert!(allowed.stdout.contains("done: connected"), "{}{}", allowed.stdout, allowed.stderr);
    if in_force(&ran.stdout, "files") {
        assert!(sandboxed("tcp-allowed", &tcp, &own).stdout.contains("refused: Permission denied"));
    }
}

#[test]
fn it_is_not_dumpable() {
    let found = sandboxed("dumpable", "", &TempDir::new());
    assert!(
        found.stdout.contains("done: NotDumpable") && found.stdout.contains("dumps: off"),
        "{}",
        found.stdout
    );
}

#[test]
fn status_and_doctor_say_what_is_in_force() {
    let signer = Running::start();
    let status = signer.must("status", &[]);
    assert!(
        status.contains("dumps: off") && status.contains("memory: ") && status.contains("files: "),
        "{status}"
    );
    if in_force(&status, "calls") {
        assert!(status.contains("calls: seccomp, "), "{status}");
        let seccomp = std::fs::read_to_string(format!("/proc/{}/status", signer.id())).unwrap();
        assert!(seccomp.contains("Seccomp:\t2") && seccomp.contains("NoNewPrivs:\t1"), "{seccomp}");
    }
    // Whether it can be locked is the machine's matter (a limit, a capability); that it is then, ours.
    let process = std::fs::read_to_string(format!("/proc/{}/status", signer.id())).unwrap();
    let locked = process.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let is_locked = !status.contains("memory: NOT IN FORCE");
    assert_eq!(is_locked, !locked.trim().starts_with("0 "), "{status}: {locked}");
    let off = Running::start_with(With { arguments: vec!["--no-sandbox".to_owned()], ..With::default() });
    let doctor = off.run("doctor", &[], b"");
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("switched off by --no-sandbox") && doctor.stdout.contains("warning"));
}

const OLDER: &str = "TKSIGN_TEST_OLDER_KERNEL";

/// Not a test of its own: becomes the program in `OLDER` (a word a line, an error number first), on a
/// kernel that has no Landlock and no filters of system calls, or denies them.
#[test]
fn older_kernel() {
    use seccompiler::{SeccompAction, SeccompFilter, TargetArch, apply_filter};
    use std::os::unix::process::CommandExt as _;
    let Ok(order) = std::env::var(OLDER) else { return };
    let mut words = order.lines();
    let error = SeccompAction::Errno(words.next().unwrap().parse().unwrap());
    let calls = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
        libc::SYS_seccomp,
    ];
    let rules = calls.map(|call| (call, Vec::new())).into();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
    let failed = Command::new(words.next().unwrap()).args(words).exec();
    panic!("not run: {failed}");
}

/// It serves, and says what it could not deny itself: at the start, in `status` and in `doctor`.
#[test]
fn a_kernel_without_landlock_and_seccomp_is_told_loudly_and_served_on() {
    let mut signer = super::signer();
    signer.stop();
    for error in [libc::ENOSYS, libc::EPERM] {
        let serve = signer.command();
        let words = std::iter::once(serve.get_program()).chain(serve.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap().to_owned()).collect();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "host::older_kernel", "--nocapture"]);
        child.env(OLDER, format!("{error}\n{}", words.join("\n")));
        let mut process = Process::start(&mut child);
        process.await_line("ready line", |line| line.contains("\"ready\":true").then_some(()));
        // On standard error, of which nothing says when it is read beside the other.
        for what in ["files", "calls"] {
            let warning = format!("tksign: warning: {what}: NOT IN FORCE");
            if !process.output().contains(&warning) {
                process.await_line(&warning, |line| line.starts_with(&warning).then_some(()));
            }
        }
        let status = signer.must("status", &[]);
        assert!(status.contains("files: NOT IN FORCE") && status.contains("calls: NOT IN FORCE"), "{status}");
        let doctor = signer.run("doctor", &["--json"], b"");
        let sandbox = doctor.stdout.lines().find(|line| line.contains("\"check\":\"sandbox\"")).unwrap();
        assert!(sandbox.contains("\"found\":\"warning\"") && sandbox.contains("NOT IN FORCE"), "{sandbox}");
        assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
        signer.must("mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"]);
        assert!(process.terminate().success());
    }
}

/// Two listeners whose descriptors follow one another and are inherited, as systemd passes them.
fn inherited(dir: &TempDir) -> (TcpListener, UnixListener, i32) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(dir.join("passed.sock")).unwrap();
    // Above what the tests beside this one have open, where two free places are side by side.
    for first in (200..1000).step_by(2) {
        let pair =
            (fcntl_dupfd_cloexec(&tcp, first).unwrap(), fcntl_dupfd_cloexec(&unix, first + 1).unwrap());
        if (pair.0.as_raw_fd(), pair.1.as_raw_fd()) == (first, first + 1) {
            fcntl_setfd(&pair.0, FdFlags::empty()).unwrap();
            fcntl_setfd(&pair.1, FdFlags::empty()).unwrap();
            return (pair.0.into(), pair.1.into(), first);
        }
    }
    panic!("no two descriptors follow one another")
}

#[test]
fn sockets_of_systemd_are_served_and_it_is_told_of_start_and_stop() {
    let dir = TempDir::new();
    let (tcp, unix, first) = inherited(&dir);
    let told = UnixDatagram::bind(dir.join("notify")).unwrap();
    told.set_read_timeout(Some(testkit::process::PATIENCE)).unwrap();
    let hear = || {
        let mut message = [0; 512];
        let len = told.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    let mut signer = Running::start();
    signer.stop();
    let variables = [
        ("LISTEN_FDS", "2".to_owned()),
        ("LISTEN_FDS_FIRST_FD", first.to_string()),
        ("LISTEN_FDNAMES", "public:rpc".to_owned()),
        ("NOTIFY_SOCKET", dir.join("notify").to_str().unwrap().to_owned()),
    ];
    let (state, secret) = (signer.state(), signer.secret());
    let serve = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["serve", "--dir", &state, "--secret-file", &secret]).args(more);
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        Process::start(&mut command)
    };
    // A name that no unit has given is told, and what to do.
    let mut wrong = serve(&["--rpc", "systemd:other", "--public", "systemd:public"]);
    wrong.await_line("advice", |line| line.contains("FileDescriptorName").then_some(()));
    assert_eq!(wrong.wait().code(), Some(23));
    let mut right = serve(&["--rpc", "systemd:rpc", "--public", "systemd:public"]);
    assert!(hear().starts_with("READY=1\n"));
    let line =
        right.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
    let public = tcp.local_addr().unwrap().to_string();
    let rpc = format!("unix:{}", unix.local_addr().unwrap().as_pathname().unwrap().display());
    assert!(line.contains(&public) && line.contains(&rpc), "{line}");
    // Each behind its own name: the feed takes no calls.
    assert_eq!(Connection::to(&public).post(RPC_PATH, b"").unwrap().0, 405);
    assert_eq!(Connection::to(&rpc).post(RPC_PATH, b"").unwrap().0, 400);
    assert!(right.terminate().success());
    assert_eq!(hear(), "STOPPING=1");
    // The sockets are systemd's, and stay.
    assert!(std::path::Path::new(rpc.strip_prefix("unix:").unwrap()).exists());
}

#[test]
fn the_secret_comes_by_descriptor_credential_or_named_variable() {
    let mut signer = Running::start();
    signer.stop();
    let (state, secret) = (signer.state(), signer.secret());
    let program = binary().display();
    // A variable that is not named by the flag is not looked at.
    let text = "0123456789abcdef0123456789abcdef-0123456789";
    let status = |variable: &str, args: &[&str]| {
        let all = ["env", variable, binary().to_str().unwrap(), "status", "--dir", &state];
        run(all[0], [&all[1..], args].concat(), b"")
    };
    assert_eq!(status(&format!("TKSIGN_SECRET={text}"), &[]).code, Some(21));
    let named = status(&format!("TKSIGN_SECRET={text}"), &["--insecure-secret-env", "TKSIGN_SECRET"]);
    assert!(named.code == Some(21) && named.stderr.contains("sealed under"), "{}", named.stderr);
    let new = signer.dir().join("text-secret");
    signer.dir().write("text-secret", 0o400, text);
    signer.must("rewrap", &["--secret-file", &secret, "--new-secret-file", new.to_str().unwrap()]);
    let named = status(&format!("TKSIGN_SECRET={text}"), &["--insecure-secret-env", "TKSIGN_SECRET"]);
    assert_eq!(named.code, Some(0), "{}", named.stderr);
    // By descriptor and by systemd's credential, to the server. A secret that is set and wrong is an
    // error, never a reason to look at the next source.
    let serve = format!("{program} serve --dir {state} --rpc 127.0.0.1:0 --public 127.0.0.1:0");
    signer.dir().write("tksign-secret", 0o400, text);
    let credentials = format!("CREDENTIALS_DIRECTORY={}", signer.dir().path().display());
    for script in [
        format!("exec {serve} --secret-fd 3 3<{}", new.display()),
        format!("exec env {credentials} {serve}"),
        format!("exec env {credentials} {serve} --secret-file {secret}"),
    ] {
        let mut process = Process::start(Command::new("sh").args(["-c", &script]));
        process.await_line("ready line", |line| line.contains("\"ready\":true").then_some(()));
        assert!(process.terminate().success());
    }
    let script = format!("exec env {credentials} {serve} --secret-fd 3 3<{secret}");
    assert_eq!(run("sh", ["-c", &script], b"").code, Some(21));
}

/// What the changed secret is bound to: one transaction. Killed at every single change that a rewrap
/// makes on the disk, one secret opens everything, and the other one nothing.
#[test]
fn a_rewrap_that_is_cut_off_leaves_one_secret_that_opens_everything() {
    use std::os::unix::process::ExitStatusExt as _;
    let mut signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    for _ in 0..5 {
        signer.must("mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"]);
    }
    signer.stop();
    let path = |name: &str| signer.dir().join(name).to_str().unwrap().to_owned();
    let (state, mut secret) = (signer.state(), signer.secret());
    let opens = |secret: &str| signer.run("audit verify", &["--secret-file", secret], b"").code;
    let mut after_commit = Vec::new();
    for kill in 1..=1000 {
        let next: Vec<u8> = (0..32u8).map(|at| at.wrapping_mul(7).wrapping_add(kill as u8)).collect();
        let new = path(&format!("new {kill}"));
        signer.dir().write(&format!("new {kill}"), 0o400, next);
        let rewrap = Command::new(binary())
            .args(["rewrap", "--dir", &state, "--secret-file", &secret, "--new-secret-file", &new])
            .env("LD_PRELOAD", testkit::disk::library())
            .env("TK_DISK_ROOT", &state)
            .env("TK_DISK_KILL", kill.to_string())
            .output()
            .unwrap();
        if !rewrap.status.success() {
            assert_eq!(rewrap.status.signal(), Some(9), "{}", String::from_utf8_lossy(&rewrap.stderr));
        }
        let codes = (opens(&secret), opens(&new));
        assert!(codes == (Some(0), Some(21)) || codes == (Some(21), Some(0)), "{codes:?} at change {kill}");
        let is_moved = codes.1 == Some(0);
        if is_moved {
            secret = new;
        }
        if rewrap.status.success() {
            assert!(is_moved);
            break;
        }
        after_commit.push(is_moved);
    }
    // Both ends were seen: killed before the commit, and after it without an answer.
    assert!(!after_commit[0] && after_commit.last() == Some(&true), "{after_commit:?}");
    let served = signer.secret();
    std::fs::remove_file(&served).unwrap();
    std::fs::rename(secret, served).unwrap();
    signer.serve();
    assert_eq!(signer.must("tokens list", &["--tenant", "acme", "--json"]).lines().count(), 5);
}

#[test]
fn a_static_key_is_rotated_with_an_overlap() {
    let mut signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    let pinned = |signer: &Running| -> Vec<String> {
        let trust = std::fs::read_to_string(format!("{}/trust.json", signer.state())).unwrap();
        let _: serde_json::Value = serde_json::from_str(&trust).unwrap();
        let served = std::fs::read_to_string(signer.trust()).unwrap();
        let served: serde_json::Value = serde_json::from_str(&served).unwrap();
        let keys = served["signers"].as_array().unwrap().iter();
        keys.map(|signer| signer["key"].as_str().unwrap().to_owned()).collect()
    };
    let old = pinned(&signer);
    assert_eq!(old.len(), 1);
    let key = Key::allowed(&signer, &["verify"]);
    let bytes = |hex: &str| -> [u8; 32] {
        core::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    };
    let speaks = |signer: &Running, pin: &str| Line::at(signer.rpc(), &bytes(pin), &key).is_ok();
    let told: serde_json::Value =
        serde_json::from_str(&signer.must("keys static rotate", &["--json"])).unwrap();
    let current = told["current"].as_str().unwrap().to_owned();
    assert_eq!(told["before"].as_str(), Some(old[0].as_str()));
    assert_ne!(current, old[0]);
    // At once, without a restart, and the command line goes on with the new one.
    assert!(speaks(&signer, &current) && speaks(&signer, &old[0]));
    // Rotating again in the overlap changes nothing: who has pinned the first would be cut off.
    let again: serde_json::Value =
        serde_json::from_str(&signer.must("keys static rotate", &["--json"])).unwrap();
    assert_eq!(again, told);
    let done = signer.run("keys static retire", &[&current], b"");
    assert_eq!(done.code, Some(10), "{}", done.stderr);
    // Both survive a restart, and the trust file names both, the current one first.
    signer.stop();
    signer.serve();
    assert_eq!(pinned(&signer), [current.clone(), old[0].clone()]);
    assert!(speaks(&signer, &current) && speaks(&signer, &old[0]));
    signer.must("keys static retire", &[&old[0]]);
    assert!(speaks(&signer, &current) && !speaks(&signer, &old[0]));
    assert_eq!(signer.run("keys static retire", &[&old[0]], b"").code, Some(11));
    signer.stop();
    signer.serve();
    assert_eq!(pinned(&signer), std::slice::from_ref(&current));
    assert!(speaks(&signer, &current) && !speaks(&signer, &old[0]));
    assert!(signer.must("keys static list", &[]).contains(&current));
    assert!(signer.must("audit tail", &["--json"]).contains("static-retire"));
}

#[test]
fn the_audit_chain_is_exported_pruned_and_still_whole() {
    let signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    for _ in 0..5 {
        signer.must("mint", &["--tenant", "acme", "--expires", "8h", "--caveat", "action in read"]);
    }
    let last = || -> u64 {
        let status: serde_json::Value = serde_json::from_str(&signer.must("status", &["--json"])).unwrap();
        status["audit lines"].as_u64().unwrap()
    };
    let export = signer.must("audit export", &[]);
    signer.dir().write("export", 0o600, &export);
    let file = signer.dir().join("export").to_str().unwrap().to_owned();
    assert!(signer.must("audit verify", &["--file", &file]).contains("the chain holds to line"));
    let every: Vec<serde_json::Value> =
        export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((every[0]["line"].as_u64(), every[0]["event"].is_null()), (Some(0), true));
    assert_eq!(every[2]["event"]["op"], "key-create");
    // One changed byte of an export is named by its line.
    signer.dir().write("changed", 0o600, export.replacen("key-create", "key-retire", 1));
    let changed = signer.dir().join("changed").to_str().unwrap().to_owned();
    let found = signer.run("audit verify", &["--file", &changed], b"");
    assert!(found.code == Some(25) && found.stderr.contains("line 2 "), "{}", found.stderr);
    let before = last();
    assert_eq!(signer.run("audit prune", &["--before", "999999"], b"").code, Some(10));
    let pruned: serde_json::Value =
        serde_json::from_str(&signer.must("audit prune", &["--before", "4", "--json"])).unwrap();
    assert_eq!((pruned["removed"].as_u64(), pruned["first line"].as_u64()), (Some(3), Some(4)));
    // The chain goes on: numbers and hashes are of the whole, and the pruning is a line of it.
    assert!(last() > before);
    assert!(signer.must("audit verify", &[]).contains("the chain holds"));
    let rest = signer.must("audit export", &[]);
    let first: serde_json::Value = serde_json::from_str(rest.lines().next().unwrap()).unwrap();
    assert_eq!((first["line"].as_u64(), &first["hash"]), (Some(3), &every[3]["hash"]));
    assert!(rest.contains("\"op\":\"audit-prune\""));
    // Again, past the first pruning; and once more for what is gone.
    signer.must("audit prune", &["--before", "6"]);
    signer.must("audit prune", &["--before", "6"]);
    assert!(signer.must("audit verify", &[]).contains("the chain holds"));
    // A beginning that somebody else has cut off is found.
    let mut signer = signer;
    signer.stop();
    let store = rusqlite::Connection::open(format!("{}/tksign.db", signer.state())).unwrap();
    let (six, hash): (Vec<u8>, Vec<u8>) = store
        .query_row("SELECT key, value FROM audit ORDER BY key LIMIT 1 OFFSET 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    store.execute("DELETE FROM audit WHERE key < ?", [&six]).unwrap();
    store.execute("UPDATE audit SET value = ? WHERE key = ?", rusqlite::params![&hash[..32], &six]).unwrap();
    drop(store);
    let found = signer.run("audit verify", &["--secret-file", &signer.secret()], b"");
    assert!(found.code == Some(25) && found.stderr.contains("line 6 "), "{}", found.stderr);
}
