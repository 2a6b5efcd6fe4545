//! Three signers over three members of etcd, and a network between all of them that can break.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use testkit::etcd::Etcd;
use testkit::process::{Finished, Process, run};
use testkit::proxy::{Proxy, Way};
use testkit::{Clock, TempDir};
use tkcore::protocol::{
    Bytes, Code, Expiry, Mint, MintCaveat, Permit, Revoke, RevokeAnswer, RevokeTarget, Text,
};
use tkcore::revocation::Head;
use tkcore::{KeyClass, LineageId, Name, Presented, Token};
use tkverify::remote::request_id;
use tkverify::{ClientKey, Remote, RemoteError, SignerAddress};
use zeroize::Zeroizing;

/// The program under test; `TKSIGN_BIN` names another one.
pub(crate) static TKSIGN: LazyLock<String> =
    LazyLock::new(|| std::env::var("TKSIGN_BIN").unwrap_or(env!("CARGO_BIN_EXE_tksign").to_owned()));
pub(crate) const NAMES: [&str; 3] = ["one", "two", "three"];
/// How long an awaited state may take: an end for a test that hangs, no measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at something that tells nobody when it changes.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// One cluster at a time: several on few cores elect leaders and do nothing else.
static ONE: Mutex<()> = Mutex::new(());

/// Three signers over three members.
pub(crate) struct World {
    pub(crate) etcd: Etcd,
    dir: TempDir,
    pub(crate) signers: Vec<Signer>,
    /// Clients that were added, by role.
    clients: Vec<(String, [u8; 32])>,
    feed: String,
    /// One signer's own, where a test moves it.
    pub(crate) clock: Option<Clock>,
    _one: MutexGuard<'static, ()>,
}

pub(crate) struct Signer {
    process: Option<Process>,
    /// What is run, with which environment and secret, by the next start.
    pub(crate) program: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) secret: String,
    /// Its own ways to the members.
    links: Vec<Proxy>,
    pub(crate) rpc: String,
    pub(crate) public: String,
    metrics: String,
    key: [u8; 32],
}

impl World {
    pub(crate) fn start(test: &str) -> Option<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let etcd = Etcd::start(test, 3)?;
        let dir = TempDir::new();
        dir.write("secret", 0o400, secret(41));
        let (signers, clients, feed) = (Vec::new(), Vec::new(), String::new());
        let world = Self { etcd, dir, signers, clients, feed, clock: None, _one: one };
        let root = world.text("root.key");
        world.must("init", 0, &["--root-key-out", &root]);
        world.must("keys create", 0, &["--tenant", "acme"]);
        Some(world)
    }

    /// As [`World::start`], with a client of each role, in etcd, all signers ready and serving a head.
    pub(crate) fn serving(test: &str, program: &Path) -> Option<Self> {
        let mut world = Self::start(test)?;
        world.clients = ["mint", "revoke", "verify"].map(|role| (role.to_owned(), world.client(role))).into();
        world.migrate();
        let trust = std::fs::read_to_string(format!("{}/trust.json", world.state(0))).unwrap();
        let (_, feed) = trust.split_once("\"feed\":").unwrap();
        world.feed = feed.split('"').nth(1).unwrap().to_owned();
        for at in 0..3 {
            if at > 0 {
                // A signer's folder holds the keys of its command line and no store.
                let (from, to) = (world.state(0), world.state(at));
                assert!(Command::new("cp").args(["-a", &from, &to]).status().unwrap().success());
                let _ = std::fs::remove_file(format!("{to}/control.sock"));
            }
            let free = || "127.0.0.1:0".to_owned();
            let links = (0..3).map(|member| Proxy::start(&world.etcd.address(member))).collect();
            world.signers.push(Signer {
                process: None,
                program: program.to_owned(),
                environment: Vec::new(),
                secret: world.text("secret"),
                links,
                rpc: free(),
                public: free(),
                metrics: free(),
                key: [0; 32],
            });
            world.serve(at);
        }
        for at in 0..3 {
            world.await_head(at, "start", |_| true);
        }
        Some(world)
    }

    /// Starts a signer, on the addresses that it had before if there were any.
    pub(crate) fn serve(&mut self, at: usize) {
        let mut process = Process::start(&mut self.command(at));
        let line =
            process.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
        let address = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":[\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        let trust = std::fs::read_to_string(self.text(&format!("trust-{at}"))).unwrap();
        let (_, key) = trust.split_once("\"key\":\"").unwrap();
        let signer = &mut self.signers[at];
        signer.key = core::array::from_fn(|n| u8::from_str_radix(&key[2 * n..2 * n + 2], 16).unwrap());
        (signer.rpc, signer.public, signer.metrics) = (address("rpc"), address("public"), address("metrics"));
        signer.process = Some(process);
    }

    fn command(&self, at: usize) -> Command {
        let signer = &self.signers[at];
        let mut command = Command::new(&signer.program);
        command.args(["serve", "--dir", &self.state(at), "--secret-file", &signer.secret]);
        command.args(["--signer", NAMES[at], "--rpc", &signer.rpc, "--public", &signer.public]);
        command.args(["--metrics", &signer.metrics, "--publish", &self.text(&format!("feed-{at}"))]);
        command.args(["--trust-out", &self.text(&format!("trust-{at}"))]);
        for link in &signer.links {
            command.args(["--etcd", &format!("http://{}", link.address())]);
        }
        command.envs(signer.environment.iter().cloned());
        command
    }

    /// Starts a signer that must not come up, and gives what it said.
    pub(crate) fn start_fails(&self, at: usize) -> String {
        let done = self.command(at).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn state(&self, at: usize) -> String {
        self.text(&format!("state-{at}"))
    }

    /// A new secret in a file.
    pub(crate) fn new_secret(&self, name: &str) -> String {
        self.dir.write(name, 0o400, secret(43));
        self.text(name)
    }

    pub(crate) fn run(&self, name: &str, at: usize, args: &[&str]) -> Finished {
        let state = self.state(at);
        run(&*TKSIGN, name.split(' ').chain(["--dir", &state]).chain(args.iter().copied()), b"")
    }

    /// Runs a command on a store that no server holds.
    pub(crate) fn must(&self, name: &str, at: usize, args: &[&str]) -> String {
        let secret = self.text("secret");
        let done = self.run(name, at, &[&["--secret-file", &secret], args].concat());
        assert_eq!(done.code, Some(0), "tksign {name} {args:?}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// What a server that runs says of itself.
    pub(crate) fn status(&self, at: usize) -> String {
        let done = self.run("status", at, &[]);
        done.stdout + &done.stderr
    }

    /// The private half of a new client's key.
    pub(crate) fn client(&self, role: &str) -> [u8; 32] {
        let mut private = [0; 32];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut private).unwrap();
        let key = ClientKey::from_private(Zeroizing::new(private)).unwrap();
        let public = tkcore::protocol::ClientKey::from_bytes(*key.public()).to_string();
        self.must("clients add", 0, &["--key", &public, "--name", role, "--role", role]);
        private
    }

    pub(crate) fn migrate(&self) {
        let to = format!("etcd:{}", self.etcd.urls().join(","));
        let from = format!("sqlite:{}", self.state(0));
        let done = run(&*TKSIGN, ["migrate", "--from", &from, "--to", &to, "--signer", NAMES[0]], b"");
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }

    /// A client of one role that knows these signers.
    pub(crate) fn remote(&self, role: &str, signers: &[usize]) -> Remote {
        let (_, key) = self.clients.iter().find(|(name, _)| name == role).unwrap();
        let key = ClientKey::from_private(Zeroizing::new(*key)).unwrap();
        let of = |at: &usize| {
            let signer = &self.signers[*at];
            SignerAddress { url: format!("http://{}", signer.rpc), key: signer.key }
        };
        Remote::new(&signers.iter().map(of).collect::<Vec<_>>(), key).unwrap()
    }

    pub(crate) fn mint(&self, at: usize) -> Result<(LineageId, Vec<u8>), RemoteError> {
        let minted = self.remote("mint", &[at]).mint(&mint_params(), request_id()?)?;
        Ok((minted.lineage, minted.token.expose().to_vec()))
    }

    pub(crate) fn revoke(
        &self,
        signers: &[usize],
        target: RevokeTarget,
    ) -> Result<RevokeAnswer, RemoteError> {
        self.remote("revoke", signers).revoke(&revoke_params(target), request_id()?)
    }

    pub(crate) fn verify(&self, at: usize, token: &[u8]) -> Result<(), RemoteError> {
        let token = Token::parse(token).unwrap();
        self.remote("verify", &[at]).verify(&Presented::new(token, &[]).unwrap()).map(drop)
    }

    /// What a signer answers of a token: nothing, or why it refuses. One that is late, as on a busy
    /// machine, is asked again.
    pub(crate) fn verdict(&self, at: usize, token: &[u8]) -> Option<Code> {
        until("a verdict", || match self.verify(at, token) {
            Ok(()) => Some(None),
            Err(error) => Some(Some(code(&error)?)),
        })
    }

    /// How a signer that may not write refuses a call, when it does so for this reason.
    pub(crate) fn await_refusal<T>(
        &self,
        wanted: &str,
        call: impl Fn() -> Result<T, RemoteError>,
    ) -> RemoteError {
        until(&format!("a refusal that says {wanted}"), || {
            let Err(refused) = call() else { panic!("it writes") };
            let is_one = code(&refused) == Some(Code::ReadOnly) && refused.to_string().contains(wanted);
            is_one.then_some(refused)
        })
    }

    /// Where a signer's feed is: its address and the feed's name.
    pub(crate) fn feed(&self, at: usize) -> Feed {
        Feed { address: self.signers[at].public.clone(), name: self.feed.clone() }
    }

    /// The signer that publishes, by its own word.
    pub(crate) fn publisher(&self) -> usize {
        let said = |at: &usize| {
            let page = get(&self.signers[*at].metrics, "/metrics").unwrap_or_default();
            String::from_utf8_lossy(&page).lines().any(|line| line == "tksign_publishes 1")
        };
        until("somebody publishes", || (0..3).find(said))
    }

    /// Ends a signer at once.
    pub(crate) fn kill(&mut self, at: usize) {
        self.signers[at].process = None;
    }

    /// Stops a signer well.
    pub(crate) fn stop(&mut self, at: usize) {
        let mut process = self.signers[at].process.take().unwrap();
        let status = process.terminate();
        assert!(status.success(), "{status}: {}", process.output());
    }

    pub(crate) fn signal(&self, at: usize, signal: &str) {
        let id = self.signers[at].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// What becomes of a signer's connections to some members.
    pub(crate) fn link(&self, at: usize, members: impl IntoIterator<Item = usize>, way: Way) {
        members.into_iter().for_each(|member| self.signers[at].links[member].set(0, way));
    }

    /// Waits until a signer serves a head like that.
    pub(crate) fn await_head(&self, at: usize, what: &str, wanted: impl Fn(&Head) -> bool) -> Head {
        let feed = self.feed(at);
        until(&format!("{what}: a head at {}", NAMES[at]), || feed.head().filter(&wanted))
    }

    /// Waits until a signer says something of itself.
    pub(crate) fn await_status(&self, at: usize, wanted: &str) -> String {
        until(&format!("{} says: {wanted}", NAMES[at]), || {
            Some(self.status(at)).filter(|said| said.contains(wanted))
        })
    }
}

/// Waits for what tells nobody when it comes.
pub(crate) fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "it did not come: {what}");
        thread::sleep(LOOK);
    }
}

/// The feed as one signer serves it.
#[derive(Clone)]
pub(crate) struct Feed {
    address: String,
    name: String,
}

impl Feed {
    pub(crate) fn head(&self) -> Option<Head> {
        Head::parse_unverified(&self.object("head")?).ok()
    }

    /// One object; `None` when it is not there, or nobody is.
    pub(crate) fn object(&self, path: &str) -> Option<Vec<u8>> {
        get(&self.address, &format!("/v1/feed/{}/{path}", self.name))
    }
}

fn get(address: &str, path: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    answer.starts_with(b"HTTP/1.1 200 ").then(|| answer.split_off(end))
}

pub(crate) fn mint_params() -> Mint {
    Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(Name::new("user:17").unwrap()),
        label: None,
        expiry: Expiry::After(86_400),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

pub(crate) fn revoke_params(target: RevokeTarget) -> Revoke {
    Revoke { target, reason: Text::default() }
}

/// The code of an authentic refusal.
pub(crate) fn code(error: &RemoteError) -> Option<Code> {
    match error {
        RemoteError::Refused(error) => Some(error.code),
        _ => None,
    }
}

/// 32 bytes that look random, since the signer refuses a secret that does not.
fn secret(factor: usize) -> [u8; 32] {
    core::array::from_fn(|at| u8::try_from((at * factor + 7) % 251).unwrap())
}
