//! A machine that is replaced while it lives: cut off from its operators, and not from the bucket.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use testkit::TempDir;
use testkit::http::{Reply, Server};
use testkit::process::{PATIENCE, Process, run};
use testkit::signer::{binary, tkverify, workspace};

use crate::guide::{BOTH, SYSTEMCTL, blocks};
use crate::litestream::{Bucket, Replica, access, packaging, tool, waits_for_socket};
use crate::scene::{Scene, text};

/// That claim at once.
const MACHINES: usize = 4;

/// Plays systemd for units that the test has started.
const UNITS: &str = r#"#!/bin/sh
[ "$1" = --quiet ] && shift
what=$1
shift
for unit; do
  pid=$(cat "$UNITS/${unit%.service}.pid" 2>/dev/null)
  case $what in
    is-active) [ -n "$pid" ] || exit 3 ;;
    start) echo "$unit" >> "$UNITS/started" ;;
    stop)
      echo "$unit" >> "$UNITS/stopped"
      rm -f "$UNITS/${unit%.service}.pid"
      [ -n "$pid" ] || continue
      kill "$pid"
      # Whoever started it has yet to ask for its status.
      while grep -qs '^State:.[^Z]' "/proc/$pid/status"; do sleep 0.05; done
      ;;
  esac
done
"#;

/// A machine that writes, in its first epoch, and what its timer runs.
struct Writer {
    scene: Scene,
    bucket: Bucket,
    replica: Replica,
    copying: Process,
}

impl Writer {
    fn start(test: &str) -> Option<Self> {
        let mut scene = Scene::with(&[]);
        scene.key("acme");
        let bucket = Bucket::start(test)?;
        let replica = Replica::bucket(test, &scene, &bucket, "1")?;
        let dir = scene.signer.dir();
        for folder in ["old", "old/units", "new", "new/units"] {
            std::fs::create_dir(dir.join(folder)).unwrap();
        }
        dir.write("old/systemctl", 0o755, UNITS);
        let copying = replica.start();
        scene.signer.stop();
        waits_for_socket(&mut scene, &replica);
        scene.signer.dir().write("old/units/tksign.pid", 0o600, scene.signer.id().to_string());
        scene.signer.dir().write("old/units/tksign-litestream.pid", 0o600, copying.id().to_string());
        let writer = Self { scene, bucket, replica, copying };
        let claimed = writer.command(&packaging("writer-epoch"), &writer.bucket.url).arg("claim").status();
        assert!(claimed.unwrap().success());
        Some(writer)
    }

    /// A command of this machine, which finds the bucket there.
    fn command(&self, program: &str, bucket: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.scene.path("old"), std::env::var("PATH").unwrap());
        command.envs(access(bucket)).env("PATH", path).env("UNITS", self.scene.path("old/units"));
        command.env("TKSIGN_MACHINE", "one").env("TKSIGN_EPOCH", "1");
        command.env("TKSIGN_HELD", self.scene.path("old/held"));
        command
    }

    /// What its timer runs, as it stands in the unit.
    fn timer(&self, bucket: &str) -> Command {
        let unit = std::fs::read_to_string(packaging("tksign-writer-epoch.service")).unwrap();
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a line");
        let line = line.replace("/usr/lib/tksign/writer-epoch", &packaging("writer-epoch"));
        let mut command = self.command("sh", bucket);
        command.args(["-c", &line]);
        command
    }
}

/// Machines that claim in the same moment get an epoch each: the bucket here puts what is not there in
/// one step, as a real one does.
#[test]
fn promotion_claims_that_race_get_an_epoch_each() {
    if testkit::need("promotion_claims_that_race", "curl", "apt-get install curl").is_none() {
        return;
    }
    let objects = Mutex::new(BTreeMap::new());
    let bucket = Server::start(move |request| {
        let mut objects = objects.lock().unwrap();
        let is_new = !objects.contains_key(&request.path);
        assert_eq!((request.method.as_str(), request.header("if-none-match")), ("PUT", Some("*")));
        if !is_new {
            return Reply::status(412);
        }
        objects.insert(request.path.clone(), request.body.clone());
        Reply::ok("")
    });
    let start = Barrier::new(MACHINES);
    let claim = |machine: usize| {
        let mut command = Command::new(packaging("writer-epoch"));
        command.arg("claim").envs(access(&bucket.url())).env("TKSIGN_MACHINE", format!("m{machine}"));
        start.wait();
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let mut claimed: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..MACHINES)
            .map(|machine| {
                scope.spawn({
                    let claim = &claim;
                    move || claim(machine)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    claimed.sort();
    assert_eq!(claimed, ["1", "2", "3", "4"]);
}

/// The guide's commands on another machine, while the old one still acknowledges revocations: all that
/// it has acknowledged is refused by the new one, and then it acknowledges none.
#[test]
fn promotion_beside_a_writer_that_lives_loses_nothing_that_it_acknowledged() {
    let test = "promotion_beside_a_writer_that_lives";
    let Some(writer) = Writer::start(test) else { return };
    let Some(litestream) = tool(test, "litestream") else { return };
    let scene = &writer.scene;
    let verifier = scene.client("verifier.key", "verify");
    let (meanwhile, later) = (scene.mint("acme", "meanwhile"), scene.mint("acme", "later"));
    scene.mint("acme", "alive");
    let early = scene.mint("acme", "early");
    scene.signer.must("revoke token", &[&early]);
    scene.refreshed(&scene.path("feed"));

    let dir = scene.signer.dir();
    std::fs::create_dir(dir.join("two")).unwrap();
    for file in ["operator.key", "mint.key", "revoke.key", "signer.pub", "trust.json"] {
        std::fs::copy(format!("{}/{file}", scene.signer.state()), dir.join("two").join(file)).unwrap();
    }
    let page = std::fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let block = blocks(&page).into_iter().find(|block| block.contains("EPOCH=$(writer-epoch claim)"));
    let signer =
        "set -euo pipefail\nsigner() { tksign \"$@\" --dir \"$STATE\" --secret-file \"$SECRET\"; }\n";
    dir.write("promote.sh", 0o755, format!("{signer}{}", block.expect("the promotion")));
    dir.write("new/systemctl", 0o755, SYSTEMCTL);
    // While the new machine waits, the old one revokes, and its minute comes.
    let timer = writer.timer(&writer.bucket.url);
    let variable = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
        format!("export {}='{}'\n", text(name), text(value.expect("a value")))
    };
    let environment: String = timer.get_envs().map(variable).collect();
    let line = text(timer.get_args().nth(1).expect("a line"));
    let revoke = format!("tksign revoke token {meanwhile} --dir '{}'", scene.signer.state());
    let revoke = format!("until {revoke}; do /bin/sleep 0.1; done");
    let sleep = format!(
        "#!/bin/bash\ncase $1 in 0.*) exec /bin/sleep $1 ;; esac\nset -e\n{revoke}\n{environment}\n{line}\n"
    );
    dir.write("new/sleep", 0o755, sleep);
    for (name, program) in [
        ("tksign", binary().to_owned()),
        ("tkverify", tkverify().to_owned()),
        ("litestream", litestream.clone()),
        ("writer-epoch", packaging("writer-epoch").into()),
    ] {
        std::os::unix::fs::symlink(program, dir.join("new").join(name)).unwrap();
    }
    let mut command = Command::new("bash");
    command.arg(dir.join("promote.sh")).current_dir(dir.path()).envs(writer.replica.variables());
    let path = format!("{}:{}", scene.path("new"), std::env::var("PATH").unwrap());
    command.env_remove("AWS_CA_BUNDLE").env("PATH", path).env("TKSIGN_MACHINE", "two");
    let (state, units) = (scene.path("two"), scene.path("new/units"));
    for (name, value) in [
        ("STATE", state.clone()),
        ("TKSIGN_DB", format!("{state}/tksign.db")),
        ("TKSIGN_LITESTREAM_SOCKET", scene.path("two.sock")),
        ("SECRET", scene.signer.secret()),
        ("TRUST", scene.path("two.json")),
        ("FEED", scene.path("feed")),
        ("UNITS", units.clone()),
        ("ROOT_KEY", scene.path("root.key")),
        ("RPC", "127.0.0.1:0".to_owned()),
        ("PUBLIC", "127.0.0.1:0".to_owned()),
        ("LITESTREAM_CONFIG", packaging("litestream.yml")),
        ("TKSIGN", text(binary())),
        ("LITESTREAM", text(&litestream)),
    ] {
        command.env(name, value);
    }
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    // The old machine acknowledges nothing that the new one does not know.
    let late = scene.signer.run("revoke token", &[&later], b"");
    let feed = scene.path("of-two");
    let refreshed = scene.refresh_from(&scene.path("two.json"), &feed);
    let check = |token: &str| {
        let (trust, key, token) = (scene.path("two.json"), scene.path("verifier.key"), scene.path(token));
        let args = ["check", "--trust", &trust, "--client-key", &key, "--token-file", &token];
        run(tkverify(), args.into_iter().chain(["--dir", &feed, "--tenant", "acme", "--action", "read"]), b"")
    };
    let (meanwhile, alive) = (check("meanwhile"), check("alive"));
    let mut stop = Command::new(dir.join("new/systemctl"));
    let _ = stop.arg("stop").args(BOTH).env("UNITS", &units).output();
    assert!(done.status.success(), "{told}");
    assert_ne!(late.code, Some(0), "it is acknowledged where nobody will know of it");
    let stopped = std::fs::read_to_string(scene.path("old/units/stopped")).unwrap();
    let whole = ["tksign.socket", "tksign-public.socket", "tksign.service", "tksign-litestream.service"];
    assert_eq!(stopped.lines().collect::<Vec<_>>(), whole, "a socket that listens starts it again");
    assert_eq!(refreshed.code, Some(0), "{}", refreshed.stderr);
    assert_eq!(meanwhile.code, Some(13), "{}{}\n{told}", meanwhile.stdout, meanwhile.stderr);
    assert_eq!(alive.code, Some(0), "{}{}", alive.stdout, alive.stderr);
    let _ = verifier;
}

/// A writer that its bucket does not answer copies no more, so that nothing it acknowledges is missing
/// in a copy that is restored elsewhere; it goes on verifying, and copies again when it may.
#[test]
fn promotion_may_have_happened_when_the_bucket_does_not_answer() {
    let Some(mut writer) = Writer::start("promotion_may_have_happened") else { return };
    writer.scene.client("verifier.key", "verify");
    let lineage = writer.scene.mint("acme", "token");
    // Nobody listens there.
    let silent = "http://127.0.0.1:1";
    assert!(writer.timer(silent).status().unwrap().success());
    let began = Instant::now();
    while writer.copying.try_wait().is_none() {
        assert!(began.elapsed() < PATIENCE, "it copies on");
        std::thread::sleep(Duration::from_millis(10));
    }
    let scene = &writer.scene;
    let told = scene.signer.run("revoke token", &[&lineage], b"");
    assert!(told.code == Some(12) && told.stderr.contains("not yet remote-durable"), "{}", told.stderr);
    scene.signer.must("status", &[]);
    // Stopped stays stopped while it is not known to be the writer.
    let started = || std::fs::read_to_string(scene.path("old/units/started")).unwrap_or_default();
    assert!(writer.timer(silent).status().unwrap().success());
    assert_eq!(started(), "");
    assert!(writer.timer(&writer.bucket.url).status().unwrap().success());
    assert_eq!(started(), "tksign-litestream.service\n");
    assert!(writer.timer(&writer.bucket.url).status().unwrap().success());
    assert_eq!(started(), "tksign-litestream.service\n", "what an operator stops stays so");
}

/// The copying is stopped before anything is noted, and also where nothing can be noted.
#[test]
fn promotion_is_awaited_by_a_machine_that_cannot_note_why_it_copies_no_more() {
    let test = "promotion_is_awaited_by_a_machine_that_cannot_note";
    if testkit::need(test, "curl", "apt-get install curl").is_none() {
        return;
    }
    let dir = TempDir::new();
    dir.write("systemctl", 0o755, UNITS);
    let mut copying = Process::start(Command::new("sleep").arg("3600"));
    dir.write("tksign-litestream.pid", 0o600, copying.id().to_string());
    let mut guard = Command::new(packaging("writer-epoch"));
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    guard.arg("guard").envs(access("http://127.0.0.1:1")).env("PATH", path).env("UNITS", dir.path());
    guard.env("TKSIGN_MACHINE", "one").env("TKSIGN_EPOCH", "1").env("TKSIGN_HELD", dir.join("none/held"));
    let done = guard.output().unwrap();
    let stopped = std::fs::read_to_string(dir.join("stopped")).unwrap_or_default();
    assert_eq!(stopped, "tksign-litestream.service\n", "{}", String::from_utf8_lossy(&done.stderr));
    assert!(copying.try_wait().is_some(), "it copies on");
}
