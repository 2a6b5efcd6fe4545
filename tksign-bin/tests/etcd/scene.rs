//! Signers over one cluster, by the command line alone.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::TempDir;
use testkit::etcd::Etcd;
use testkit::process::{Finished, Process, run};
use tkcore::revocation::Head;

pub(crate) const TKSIGN: &str = env!("CARGO_BIN_EXE_tksign");
/// How long an awaited state may take: an end for a test that hangs, no measure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(10);
/// What `tksign` exits with when the same command may succeed in a moment.
const LATER: i32 = 12;

/// A store in a cluster, and folders of signers named `one`, `two` and so on.
pub(crate) struct Scene {
    pub(crate) etcd: Etcd,
    pub(crate) dir: TempDir,
    /// How to speak to etcd, besides where it is.
    pub(crate) args: Vec<String>,
    /// By what URL a signer reaches etcd, where it is not etcd's own.
    pub(crate) ways: BTreeMap<String, String>,
}

/// A running signer.
pub(crate) struct Served {
    pub(crate) process: Process,
    public: String,
    feed: String,
}

impl Scene {
    /// A store of SQLite with one tenant, `acme`.
    pub(crate) fn new(etcd: Etcd) -> Self {
        let dir = TempDir::new();
        let secret: [u8; 32] = core::array::from_fn(|at| u8::try_from((at * 37 + 5) % 251).unwrap());
        dir.write("secret", 0o400, secret);
        let scene = Self { etcd, dir, args: Vec::new(), ways: BTreeMap::new() };
        scene.must("one", "init", &["--root-key-out", &scene.path("root.key")]);
        scene.must("one", "keys create", &["--tenant", "acme"]);
        scene
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Moves it into the cluster.
    pub(crate) fn migrate(&self) -> Finished {
        let (from, to) =
            (format!("sqlite:{}", self.path("one")), format!("etcd:{}", self.etcd.urls().join(",")));
        let args = ["migrate", "--from", &from, "--to", &to, "--signer", "one"];
        run(TKSIGN, args.into_iter().chain(self.args.iter().map(String::as_str)), b"")
    }

    pub(crate) fn migrated(&self) {
        let done = self.migrate();
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }

    /// Makes the folder of another signer: the first one's, which holds no store.
    pub(crate) fn join(&self, name: &str) {
        let done = Command::new("cp").args(["-a", &self.path("one"), &self.path(name)]).status();
        assert!(done.unwrap().success());
        let _ = std::fs::remove_file(Path::new(&self.path(name)).join("control.sock"));
    }

    /// Since which revision somebody has the turn to publish; nothing while nobody has.
    pub(crate) fn turn(&self) -> String {
        let told = self.etcd.control(&[0], &["get", "tksign/m/~leader", "--write-out=json"]);
        let (_, turn) = told.split_once("\"mod_revision\":").unwrap_or_default();
        turn.split(',').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn command(&self, name: &str, more: &[&str]) -> Command {
        let mut command = Command::new(TKSIGN);
        command.args(["serve", "--dir", &self.path(name), "--secret-file", &self.path("secret")]);
        command.args(["--signer", name, "--rpc", "127.0.0.1:0", "--public", "127.0.0.1:0"]);
        for url in self.ways.get(name).map_or_else(|| self.etcd.urls(), |way| vec![way.clone()]) {
            command.args(["--etcd", &url]);
        }
        command.args(&self.args).args(more);
        command
    }

    pub(crate) fn serve(&self, name: &str) -> Served {
        self.served(&mut self.command(name, &[]))
    }

    pub(crate) fn served(&self, command: &mut Command) -> Served {
        let mut process = Process::start(command);
        let line =
            process.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
        let (_, public) = line.split_once("\"public\":[\"").unwrap();
        let public = public.split('"').next().unwrap().to_owned();
        let trust = std::fs::read_to_string(format!("{}/trust.json", self.path("one"))).unwrap();
        let (_, feed) = trust.split_once("\"feed\":").unwrap();
        Served { process, public, feed: feed.split('"').nth(1).unwrap().to_owned() }
    }

    /// What a signer that cannot start says.
    pub(crate) fn refused(&self, name: &str) -> String {
        let mut process = Process::start(&mut self.command(name, &[]));
        assert!(!process.await_line_or_end(|line| line.contains("\"ready\"")), "it serves");
        process.output()
    }

    pub(crate) fn run(&self, signer: &str, name: &str, args: &[&str]) -> Finished {
        let (state, secret) = (self.path(signer), self.path("secret"));
        let words =
            name.split(' ').chain(["--dir", &state, "--secret-file", &secret]).chain(args.iter().copied());
        run(TKSIGN, words, b"")
    }

    /// Runs a command that must succeed. A signer that is cut off for a moment, as by a member that
    /// waits for a slow disk, is asked again.
    pub(crate) fn must(&self, signer: &str, name: &str, args: &[&str]) -> String {
        let mut done = self.run(signer, name, args);
        let _ = awaited(|| {
            if done.code == Some(LATER) {
                done = self.run(signer, name, args);
            }
            (done.code != Some(LATER)).then_some(())
        });
        assert_eq!(done.code, Some(0), "tksign {name} {args:?}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// A floor at one signer, and where its feed is after the step that it is in.
    pub(crate) fn revoke(&self, signer: &str, at: &Served, user: &str) -> Head {
        let before = at.await_head("a head", |_| true).state;
        self.must(signer, "revoke subject", &["--tenant", "acme", "--subject", user]);
        at.await_head("the step of a revocation", |head| head.state != before)
    }
}

impl Served {
    pub(crate) fn feed_url(&self) -> String {
        format!("http://{}", self.public)
    }

    pub(crate) fn head(&self) -> Option<Head> {
        let mut stream = TcpStream::connect(&self.public).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let request =
            format!("GET /v1/feed/{}/head HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", self.feed);
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
        Head::parse_unverified(&answer[end..]).ok()
    }

    /// Waits until it serves such a head.
    pub(crate) fn await_head(&self, what: &str, wanted: impl Fn(&Head) -> bool) -> Head {
        let mut last = None;
        let head = awaited(|| {
            last = self.head();
            last.filter(&wanted)
        });
        head.unwrap_or_else(|| panic!("{what}: no such head; the last {last:?}\n{}", self.process.output()))
    }

    /// Waits until it has printed this: its two outputs arrive in no order.
    pub(crate) fn await_output(&self, wanted: &str) {
        let said = awaited(|| self.process.output().contains(wanted).then_some(()));
        assert!(said.is_some(), "no {wanted:?} in: {}", self.process.output());
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success()
        );
    }
}

/// Asks until there is something; `None` when nothing comes.
pub(crate) fn awaited<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if started.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}
