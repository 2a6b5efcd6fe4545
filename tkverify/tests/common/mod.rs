//! A feed's origin over real HTTP, as honest or as hostile as a test wants it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

#[path = "../../../tkcore/tests/feed_support/mod.rs"]
pub mod feed_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use feed_support::{FEED, Random, Signer};
use testkit::TempDir;
use testkit::http::{Reply, Request, Server};
use tkcore::LineageId;
use tkcore::revocation::{ExpiryDay, Revocation};
use tkverify::{Clock as _, SystemClock, Trust};

type Fault = Box<dyn Fn(&Request) -> Option<Reply> + Send>;

/// A signer's feed, served.
pub struct Origin {
    shared: Arc<Shared>,
    server: Option<Server>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    fault: Mutex<Option<Fault>>,
    paths: Mutex<Vec<String>>,
}

struct State {
    signer: Signer,
    random: Random,
    ended: bool,
}

pub fn now() -> u64 {
    SystemClock::new().read().wall.millis()
}

impl Default for Origin {
    fn default() -> Self {
        Self::new()
    }
}

impl Origin {
    /// Served from now on, with a state that revokes nothing.
    pub fn new() -> Self {
        Self::since(now())
    }

    /// The same, whose head was signed at `issued`.
    pub fn since(issued: u64) -> Self {
        let state = State { signer: Signer::new(issued), random: Random(99), ended: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            fault: Mutex::default(),
            paths: Mutex::default(),
        });
        let server = Server::start({
            let shared = Arc::clone(&shared);
            move |request| shared.answer(request)
        });
        Self { shared, server: Some(server) }
    }

    pub fn url(&self) -> String {
        self.server.as_ref().unwrap().url()
    }

    /// Looks at every request first; `None` answers honestly.
    pub fn misbehave(&self, fault: impl Fn(&Request) -> Option<Reply> + Send + 'static) {
        *self.shared.fault.lock().unwrap() = Some(Box::new(fault));
        self.shared.changed.notify_all();
    }

    pub fn behave(&self) {
        *self.shared.fault.lock().unwrap() = None;
    }

    /// Paths below the feed, in the order in which they were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.shared.paths.lock().unwrap().clone()
    }

    pub fn signer<T>(&self, work: impl FnOnce(&mut Signer) -> T) -> T {
        let result = work(&mut self.shared.state.lock().unwrap().signer);
        self.shared.changed.notify_all();
        result
    }

    /// Revokes one lineage in one step, with a head signed now.
    pub fn revoke(&self, lineage: LineageId) {
        self.revoke_at(lineage, now());
    }

    /// The same, with a head signed at `issued`.
    pub fn revoke_at(&self, lineage: LineageId, issued: u64) {
        self.signer(|signer| {
            signer.revoke(&[(Revocation::Token { lineage }, ExpiryDay::UNKNOWN)], None);
            signer.publish_head(issued);
        });
    }

    /// Revokes many lineages of nobody's, and makes them the base snapshot.
    pub fn fill(&self, rows: usize) {
        let mut state = self.shared.state.lock().unwrap();
        let State { signer, random, .. } = &mut *state;
        let rows: Vec<_> = (0..rows)
            .map(|_| (Revocation::Token { lineage: random.lineage(now()) }, ExpiryDay::UNKNOWN))
            .collect();
        signer.revoke(&rows, None);
        signer.publish_base();
        signer.publish_head(now());
    }

    pub fn trust(&self) -> Trust {
        let root = self.signer(|signer| *signer.root.public().as_bytes());
        Trust { feed: FEED, threshold: 1, root_keys: vec![root], signers: vec![], feeds: vec![self.url()] }
    }

    /// Writes the trust file into a folder.
    pub fn trust_file(&self, dir: &TempDir) -> PathBuf {
        dir.write("trust.json", 0o644, self.trust().to_json())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().ended = true;
        self.shared.changed.notify_all();
        self.server.take();
    }
}

impl Shared {
    fn answer(&self, request: &Request) -> Reply {
        let prefix = format!("/v1/feed/{FEED}/");
        let Some(path) = request.path.strip_prefix(&prefix) else { return Reply::status(404) };
        self.paths.lock().unwrap().push(path.to_owned());
        if let Some(reply) = self.fault.lock().unwrap().as_ref().and_then(|fault| fault(request)) {
            return reply;
        }
        let mut state = self.state.lock().unwrap();
        if let Some(after) = path.strip_prefix("wait?after=") {
            let before = state.signer.files["head"].clone();
            let held = |state: &mut State| {
                let position = state.signer.publisher.position();
                !state.ended
                    && state.signer.files["head"] == before
                    && format!("{}.{}", position.epoch, position.sequence) == after
            };
            (state, _) = self.changed.wait_timeout_while(state, Duration::from_secs(30), held).unwrap();
            return Reply::ok(state.signer.files["head"].clone());
        }
        let Some(bytes) = state.signer.files.get(path).cloned() else { return Reply::status(404) };
        match request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
        {
            Some(from) if from < bytes.len() => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::Answer(206, vec![("content-range".to_owned(), range)], bytes[from..].to_vec())
            }
            Some(_) => Reply::status(416),
            None => Reply::ok(bytes),
        }
    }
}

/// The real program.
pub fn tkverify() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tkverify"))
}

/// `refresh --once`, and more arguments.
pub fn refresh(trust: &Path, dir: &Path, more: &[&str]) -> Output {
    tkverify()
        .args(["refresh", "--once", "--trust"])
        .arg(trust)
        .arg("--dir")
        .arg(dir)
        .args(more)
        .output()
        .unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every file below a folder with its bytes, except locks and parts.
pub fn files(root: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != ".lock" {
                let bytes = std::fs::read(&path).unwrap();
                all.insert(path.strip_prefix(root).unwrap().to_path_buf(), bytes);
            }
        }
    }
    all
}

pub fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        let to = to.join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
}
