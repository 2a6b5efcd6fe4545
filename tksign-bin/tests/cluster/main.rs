//! A cluster of real processes: three members of etcd and three signers, under load, while one
//! after the other is killed, stopped and continued. What was recorded is checked at the end:
//! nothing acknowledged is lost, no two heads have one place and two contents, publishing goes on,
//! verification never stops.
//!
//! `TK_CLUSTER_SECONDS=600 cargo test -p tksign-bin --features etcd --test cluster -- --nocapture`
//! runs for longer; the seed that is printed replays the order of faults with `TK_SEED`.
#![allow(clippy::disallowed_methods, reason = "a test measures how long something took")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use testkit::TempDir;
use testkit::etcd::Etcd;
use testkit::process::{Process, run};
use tkcore::protocol::{
    Bytes, Code, Expiry, Mint, MintCaveat, Permit, Revoke, RevokeEffect, RevokeTarget, Text,
};
use tkcore::revocation::Head;
use tkcore::{KeyClass, LineageId, Name, Presented, Token};
use tkverify::remote::request_id;
use tkverify::{ClientKey, Remote, RemoteError, SignerAddress};
use zeroize::Zeroizing;

const TKSIGN: &str = env!("CARGO_BIN_EXE_tksign");
const NAMES: [&str; 3] = ["one", "two", "three"];
/// How long an awaited state may take: an end for a test that hangs, no measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three signers over three members.
struct World {
    etcd: Etcd,
    dir: TempDir,
    signers: Vec<Signer>,
}

struct Signer {
    process: Option<Process>,
    rpc: String,
    public: String,
    key: [u8; 32],
}

impl World {
    fn start(test: &str) -> Option<Self> {
        let etcd = Etcd::start(test, 3)?;
        let dir = TempDir::new();
        let secret: [u8; 32] = core::array::from_fn(|at| u8::try_from((at * 41 + 7) % 251).unwrap());
        dir.write("secret", 0o400, secret);
        let world = Self { etcd, dir, signers: Vec::new() };
        let root = world.text("root.key");
        world.must("init", 0, &["--root-key-out", &root]);
        world.must("keys create", 0, &["--tenant", "acme"]);
        Some(world)
    }

    fn serve_all(&mut self) {
        for at in 0..3 {
            let free = "127.0.0.1:0".to_owned();
            if at > 0 {
                // A signer's folder holds the keys of its command line and no store.
                let (from, to) = (self.state(0), self.state(at));
                assert!(Command::new("cp").args(["-a", &from, &to]).status().unwrap().success());
                let _ = std::fs::remove_file(format!("{to}/control.sock"));
            }
            self.signers.push(Signer { process: None, rpc: free.clone(), public: free, key: [0; 32] });
            self.serve(at);
        }
    }

    fn serve(&mut self, at: usize) {
        let folder = self.text(&format!("feed-{at}"));
        let mut command = Command::new(TKSIGN);
        command.args(["serve", "--dir", &self.state(at), "--secret-file", &self.text("secret")]);
        command.args(["--signer", NAMES[at], "--rpc", &self.signers[at].rpc, "--publish", &folder]);
        command.args([
            "--public",
            &self.signers[at].public,
            "--trust-out",
            &self.text(&format!("trust-{at}")),
        ]);
        for url in self.etcd.urls() {
            command.args(["--etcd", &url]);
        }
        let mut process = Process::start(&mut command);
        let line =
            process.await_line("ready line", |line| line.contains("\"ready\":true").then(|| line.to_owned()));
        let address = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":[\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        let trust = std::fs::read_to_string(self.text(&format!("trust-{at}"))).unwrap();
        let (_, key) = trust.split_once("\"key\":\"").unwrap();
        let key = core::array::from_fn(|n| u8::from_str_radix(&key[2 * n..2 * n + 2], 16).unwrap());
        let (rpc, public) = (address("rpc"), address("public"));
        self.signers[at] = Signer { process: Some(process), rpc, public, key };
    }

    fn text(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn state(&self, at: usize) -> String {
        self.text(&format!("state-{at}"))
    }

    fn must(&self, name: &str, at: usize, args: &[&str]) -> String {
        let (state, secret) = (self.state(at), self.text("secret"));
        let words =
            name.split(' ').chain(["--dir", &state, "--secret-file", &secret]).chain(args.iter().copied());
        let done = run(TKSIGN, words, b"");
        assert_eq!(done.code, Some(0), "tksign {name} {args:?}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// The private half of a new client's key.
    fn client(&self, role: &str) -> [u8; 32] {
        let mut private = [0; 32];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut private).unwrap();
        let key = ClientKey::from_private(Zeroizing::new(private)).unwrap();
        let public = tkcore::protocol::ClientKey::from_bytes(*key.public()).to_string();
        self.must("clients add", 0, &["--key", &public, "--name", role, "--role", role]);
        private
    }

    fn migrate(&self) {
        let to = format!("etcd:{}", self.etcd.urls().join(","));
        let from = format!("sqlite:{}", self.state(0));
        let done = run(TKSIGN, ["migrate", "--from", &from, "--to", &to, "--signer", NAMES[0]], b"");
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }

    fn addresses(&self) -> Vec<SignerAddress> {
        let of = |signer: &Signer| SignerAddress { url: format!("http://{}", signer.rpc), key: signer.key };
        self.signers.iter().map(of).collect()
    }

    /// The head that a signer serves.
    fn head(&self, at: usize) -> Option<Head> {
        head(&self.signers[at].public, &self.feed())
    }

    fn feed(&self) -> String {
        let trust = std::fs::read_to_string(format!("{}/trust.json", self.state(0))).unwrap();
        let (_, feed) = trust.split_once("\"feed\":").unwrap();
        feed.split('"').nth(1).unwrap().to_owned()
    }

    /// Which signer the lease belongs to, by its metrics being asked of etcd's own row.
    fn publisher(&self) -> usize {
        let started = Instant::now();
        loop {
            for at in 0..3 {
                let said = self.signers[at].process.as_ref().map(|_| self.notices(at));
                if said.is_some_and(|said| said) {
                    return at;
                }
            }
            assert!(started.elapsed() < PATIENCE, "nobody publishes");
            thread::yield_now();
        }
    }

    /// Whether the process that has the lease is this one: its own row in etcd names it.
    fn notices(&self, at: usize) -> bool {
        let get = |key: &str| self.etcd.control(&[0, 1, 2], &["get", "--print-value-only", "--hex", key]);
        let leader = get("tksign/m/~leader");
        let own = get(&format!("tksign/m/~signer/{}", NAMES[at]));
        !leader.trim().is_empty() && own.trim().starts_with(leader.trim())
    }

    fn signal(&self, at: usize, signal: &str) {
        let id = self.signers[at].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits until a signer serves a head at least this far.
    fn await_head(&self, at: usize, what: &str, wanted: impl Fn(&Head) -> bool) -> Head {
        let started = Instant::now();
        loop {
            if let Some(head) = self.head(at).filter(&wanted) {
                return head;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: no such head at {}", NAMES[at]);
            thread::yield_now();
        }
    }
}

fn head(address: &str, feed: &str) -> Option<Head> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET /v1/feed/{feed}/head HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    Head::parse_unverified(&answer[end..]).ok()
}

fn mint_params() -> Mint {
    Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(Name::new("user:17").unwrap()),
        label: None,
        expiry: Expiry::After(3600),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

fn revoke_params(lineage: LineageId) -> Revoke {
    Revoke { target: RevokeTarget::Token(lineage), reason: Text::default() }
}

/// What was seen, by every client, in one place.
#[derive(Default)]
struct Record {
    minted: Mutex<Vec<(LineageId, Vec<u8>)>>,
    /// Acknowledged.
    revoked: Mutex<Vec<LineageId>>,
    verified: AtomicU64,
    /// Verifies that no signer answered, and the longest that one took.
    unanswered: AtomicU64,
    slowest: Mutex<Duration>,
    /// Longest time without an acknowledged write.
    pause: Mutex<(Option<Instant>, Duration)>,
    heads: Mutex<BTreeMap<(u64, u64), Vec<u8>>>,
    stop: AtomicBool,
}

impl Record {
    fn acknowledged(&self) {
        let mut pause = self.pause.lock().unwrap();
        let now = Instant::now();
        if let Some(last) = pause.0 {
            pause.1 = pause.1.max(now - last);
        }
        pause.0 = Some(now);
    }

    /// One place in the feed has one content, whoever serves it.
    fn head(&self, head: &Head) {
        let place = (head.position.epoch, head.position.sequence);
        let content = format!("{:?} {:?}", head.state, head.chain).into_bytes();
        let before = self.heads.lock().unwrap().entry(place).or_insert_with(|| content.clone()).clone();
        assert_eq!(before, content, "two heads at {place:?}");
    }
}

#[test]
fn faults_under_load_lose_nothing_and_make_one_history() {
    let Some(mut world) = World::start("faults_under_load_lose_nothing_and_make_one_history") else { return };
    let (minter, revoker, verifier) = (world.client("mint"), world.client("revoke"), world.client("verify"));
    world.migrate();
    world.serve_all();
    let seed: u64 = std::env::var("TK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let seconds: u64 =
        std::env::var("TK_CLUSTER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    println!("seed {seed}: TK_SEED={seed} replays the order of faults");
    for at in 0..3 {
        world.await_head(at, "start", |_| true);
    }
    let record = Arc::new(Record::default());
    let (addresses, feed) = (world.addresses(), world.feed());
    let publics: Vec<_> = world.signers.iter().map(|signer| signer.public.clone()).collect();
    let remote = |key: &[u8; 32]| {
        let key = ClientKey::from_private(Zeroizing::new(*key)).unwrap();
        Remote::new(&addresses, key).unwrap().with_deadline(Duration::from_secs(30))
    };
    let (writing, reading) = (Arc::clone(&record), Arc::clone(&record));
    let (mint, revoke, verify) = (remote(&minter), remote(&revoker), remote(&verifier));
    let writer = thread::spawn(move || {
        while !writing.stop.load(Ordering::SeqCst) {
            // The same id until there is an answer: whatever happened to the first try counts once.
            let id = request_id().unwrap();
            let minted = loop {
                match mint.mint(&mint_params(), id) {
                    Ok(minted) => break minted,
                    Err(RemoteError::Refused(error)) => again(error.code),
                    Err(_) => {}
                }
            };
            writing.acknowledged();
            writing.minted.lock().unwrap().push((minted.lineage, minted.token.expose().to_vec()));
            let id = request_id().unwrap();
            let answer = loop {
                match revoke.revoke(&revoke_params(minted.lineage), id) {
                    Ok(answer) => break answer,
                    Err(RemoteError::Refused(error)) => again(error.code),
                    Err(_) => {}
                }
            };
            assert_eq!(answer.effect, RevokeEffect::New, "revoked twice, or told so to the first");
            writing.acknowledged();
            writing.revoked.lock().unwrap().push(minted.lineage);
        }
    });
    let live = {
        let minted = remote(&minter).mint(&mint_params(), request_id().unwrap()).unwrap();
        minted.token.expose().to_vec()
    };
    let reader = thread::spawn(move || {
        while !reading.stop.load(Ordering::SeqCst) {
            let started = Instant::now();
            let token = Token::parse(&live).unwrap();
            match verify.verify(&Presented::new(token, &[]).unwrap()) {
                Ok(_) => reading.verified.fetch_add(1, Ordering::SeqCst),
                Err(RemoteError::Refused(error)) => panic!("a live token was refused: {error}"),
                Err(_) => reading.unanswered.fetch_add(1, Ordering::SeqCst),
            };
            let mut slowest = reading.slowest.lock().unwrap();
            *slowest = (*slowest).max(started.elapsed());
            drop(slowest);
            for public in &publics {
                if let Some(head) = head(public, &feed) {
                    reading.head(&head);
                }
            }
        }
    });
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = seed;
    let mut rounds = 0;
    while rounds < 5 || Instant::now() < until {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fault = if rounds < 5 { rounds } else { usize::try_from(random >> 33).unwrap() % 5 };
        disturb(&mut world, fault, &record);
        rounds += 1;
    }
    record.stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    reader.join().unwrap();
    check(&world, &record, &remote(&revoker), &remote(&verifier));
}

/// Only what passes is asked again.
fn again(code: Code) {
    let passing = [Code::ReadOnly, Code::StoreFailed, Code::Stopping, Code::Busy, Code::Conflict];
    assert!(passing.contains(&code), "refused: {code:?}");
}

/// One fault, and the wait until the feed has gone on after it.
fn disturb(world: &mut World, fault: usize, record: &Record) {
    let publisher = world.publisher();
    let other = (publisher + 1) % 3;
    let before = world.await_head(other, "before a fault", |_| true);
    let goes_on = |world: &World, at: usize, what: &str| {
        let head = world.await_head(at, what, |head| head.position.sequence > before.position.sequence + 3);
        record.head(&head);
    };
    println!("fault {fault}, publisher {}", NAMES[publisher]);
    match fault {
        0 => {
            world.signers[other].process = None;
            goes_on(world, publisher, "a signer was killed");
            world.serve(other);
            goes_on(world, other, "a signer came back");
        }
        1 => {
            world.signers[publisher].process = None;
            goes_on(world, other, "the publisher was killed");
            world.serve(publisher);
        }
        2 => {
            let leader = world.etcd.leader().unwrap();
            world.etcd.kill(leader);
            goes_on(world, other, "etcd's leader was killed");
            world.etcd.restart(leader);
        }
        3 => {
            // Longer than its lease: another publishes, and what it signs when it wakes is refused.
            world.signal(publisher, "-STOP");
            goes_on(world, other, "the publisher was stopped");
            world.signal(publisher, "-CONT");
            goes_on(world, publisher, "the stopped one follows");
        }
        _ => {
            let member = (world.etcd.leader().unwrap() + 1) % 3;
            world.etcd.kill(member);
            goes_on(world, publisher, "a member was killed");
            world.etcd.restart(member);
        }
    }
}

fn check(world: &World, record: &Record, revoker: &Remote, verifier: &Remote) {
    let minted: BTreeMap<_, _> = record.minted.lock().unwrap().iter().cloned().collect();
    let revoked = record.revoked.lock().unwrap();
    for lineage in revoked.iter() {
        let again = revoker.revoke(&revoke_params(*lineage), request_id().unwrap()).unwrap();
        assert_eq!(again.effect, RevokeEffect::Already, "{lineage}: an acknowledged revocation is lost");
        let token = Token::parse(&minted[lineage]).unwrap();
        let refused = verifier.verify(&Presented::new(token, &[]).unwrap());
        assert!(
            matches!(&refused, Err(RemoteError::Refused(error)) if error.code == Code::Revoked),
            "{refused:?}"
        );
    }
    // All serve one history to its end.
    let started = Instant::now();
    loop {
        let heads: Vec<_> = (0..3).filter_map(|at| world.head(at)).collect();
        heads.iter().for_each(|head| record.head(head));
        let first = heads.first().map(|head| (head.position, head.state));
        if heads.len() == 3 && heads.iter().all(|head| Some((head.position, head.state)) == first) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the signers do not come together: {heads:?}");
        thread::yield_now();
    }
    let unanswered = record.unanswered.load(Ordering::SeqCst);
    assert_eq!(unanswered, 0, "verification stopped");
    println!(
        "{} revocations acknowledged, 0 lost; {} verifies, {unanswered} unanswered, slowest {:?}; {} places in the \
         feed, each with one content; longest pause of writes {:?}",
        revoked.len(),
        record.verified.load(Ordering::SeqCst),
        record.slowest.lock().unwrap(),
        record.heads.lock().unwrap().len(),
        record.pause.lock().unwrap().1,
    );
    assert!(revoked.len() > 10);
}

/// There and back: the same rows, one audit chain that verifies, and a source that is closed.
#[test]
fn a_store_moves_to_a_cluster_and_back() {
    let Some(world) = World::start("a_store_moves_to_a_cluster_and_back") else { return };
    world.client("revoke");
    world.migrate();
    let urls = format!("etcd:{}", world.etcd.urls().join(","));
    let state = format!("sqlite:{}", world.state(0));
    let done = run(TKSIGN, ["status", "--dir", &world.state(0), "--secret-file", &world.text("secret")], b"");
    assert_ne!(done.code, Some(0), "the source can still be opened");
    // The target is complete: a second try finds nothing to do or to undo.
    let done = run(TKSIGN, ["migrate", "--from", &state, "--to", &urls, "--signer", NAMES[0]], b"");
    assert_ne!(done.code, Some(0));
    let done = run(TKSIGN, ["migrate", "--from", &urls, "--to", &state], b"");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let audit = world.must("audit verify", 0, &[]);
    assert!(!audit.is_empty());
    assert!(world.must("clients list", 0, &[]).contains("revoke"));
    // Cut off after the copy: the target stays closed, and the next try starts over.
    let put = |key: &str, value: &str| assert!(world.etcd.control(&[0], &["put", key, value]).contains("OK"));
    put("half/m/~migrating", "in");
    put("half/m/keys/rest", "rest");
    let args = ["migrate", "--from", &state, "--to", &urls, "--signer", "one", "--etcd-prefix", "half"];
    let done = run(TKSIGN, args, b"");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(!world.etcd.control(&[0], &["get", "half/m/keys/rest"]).contains("rest"));
}
