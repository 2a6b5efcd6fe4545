//! Nothing acknowledged is lost, and nothing is acknowledged that is not durable.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};

use common::*;
use testkit::TempDir;
use tkcore::protocol::*;
use tkcore::revocation::{ExpiryDay, Head, Revocation, RevocationSet};
use tkcore::{KeyClass, LineageId, Timestamp};
use tksign::store::{Change, Op, Refusal, Row, Scan, Sqlite, Store, StoreError, Table};
use tksign::{Clock, Options, Peer, Signer, SignerError, SystemClock};

/// The real store with a hand on its commits.
struct Handled {
    store: Sqlite,
    /// Whether the open group has a new revocation.
    binds: bool,
    hand: Arc<Hold>,
}

#[derive(Default)]
struct Hold {
    /// Commits that made a revocation binding.
    binding: AtomicU64,
    /// Commits that still succeed; the ones after fail. `u64::MAX`: all succeed.
    left: AtomicU64,
    /// Whether a group may begin.
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Hold {
    fn new(left: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(left), ..Self::default() })
    }

    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }
}

impl Store for Handled {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }
    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, StoreError> {
        self.store.scan(scan)
    }
    fn count(&self, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        self.store.count(table, prefix)
    }
    fn begin(&mut self) -> Result<(), StoreError> {
        let mut closed = self.hand.closed.lock().unwrap();
        while *closed {
            closed = self.hand.opened.wait(closed).unwrap();
        }
        self.binds = false;
        self.store.begin()
    }
    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        self.binds |= change.ops.iter().any(|op| matches!(op, Op::Create(Table::Revocations, ..)));
        self.store.apply(change)
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        let left = self.hand.left.load(Ordering::SeqCst);
        if left == 0 {
            // What SQLite says when the disk is full: nothing of the group is kept.
            self.store.begin()?;
            return Err(StoreError::Full);
        }
        if left != u64::MAX {
            self.hand.left.store(left - 1, Ordering::SeqCst);
        }
        self.hand.binding.fetch_add(self.binds.into(), Ordering::SeqCst);
        self.store.commit()
    }
    fn schema(&self) -> u32 {
        self.store.schema()
    }
    fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }
}

/// A world whose signer runs over a handled store.
fn handled(world: &mut World, left: u64) -> Arc<Hold> {
    if world.signer.is_some() {
        world.close();
    }
    let hand = Hold::new(left);
    let store = unheld(|| Sqlite::open(world.path()).map_err(SignerError::Store)).unwrap();
    let store = Handled { store, binds: false, hand: Arc::clone(&hand) };
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    world.signer = Some(Signer::start(Box::new(store), &secret(1), Options::default(), clock).unwrap());
    hand
}

/// Drops the signer as a crash would, and waits until it has let go of the store.
fn crash(world: &mut World) {
    world.signer = None;
    while matches!(Sqlite::open(world.path()), Err(StoreError::Held(_))) {
        std::thread::yield_now();
    }
}

fn all_at_once(world: &World, revoker: ClientKey, count: u8) -> Vec<Result<RevokeAnswer, RpcError>> {
    let service = world.signer().service.clone();
    let ids: Vec<RequestId> = (0..count).map(|_| world.id()).collect();
    run(async move {
        let mut all = tokio::task::JoinSet::new();
        for (n, id) in ids.into_iter().enumerate() {
            let service = service.clone();
            all.spawn(async move {
                let request = revoke(RevokeTarget::Token(lineage(n as u8))).request(id, None).unwrap();
                Revoke::read_answer(&service.handle(revoker, Peer::Control, &request).await).unwrap()
            });
        }
        all.join_all().await
    })
}

#[test]
fn callers_that_wait_share_one_commit_and_one_step() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    let hand = handled(&mut world, u64::MAX);
    let mut head = world.signer().feed.head();
    run(head.wait_for(|at| at.epoch == 1)).unwrap();
    hand.close();
    let requests: Vec<_> = (0..100)
        .map(|n| revoke(RevokeTarget::Token(lineage(n))).request(world.id(), None).unwrap())
        .collect();
    let service = &world.signer().service;
    let mut calls: Vec<_> =
        requests.iter().map(|request| Box::pin(service.handle(revoker, Peer::Control, request))).collect();
    // Each is polled once, which is what puts its job into the queue.
    let mut context = Context::from_waker(Waker::noop());
    assert!(calls.iter_mut().all(|call| call.as_mut().poll(&mut context).is_pending()));
    hand.open();
    run(async {
        for call in calls {
            Revoke::read_answer(&call.await).unwrap().unwrap();
        }
    });
    // The writer may have stood at the door with the first of them when the others came.
    let commits = hand.binding.load(Ordering::SeqCst);
    assert!((1..=2).contains(&commits), "{commits} commits for 100 revocations");
    let rows = (0..100).map(|n| (Revocation::Token { lineage: lineage(n) }, ExpiryDay::UNKNOWN));
    let all = RevocationSet::build(rows).unwrap().digest();
    let tree = &world.signer().feed;
    let newest = || Head::parse_unverified(&tree.get("head").unwrap().bytes).unwrap();
    // No step is closed for less than a commit; it is a heartbeat's chance that there are two.
    run(head.wait_for(|_| newest().state == all)).unwrap();
    let steps = newest().position.sequence;
    assert!((1..=2).contains(&steps), "{steps} steps for 100 revocations");
}

#[test]
fn when_a_commit_fails_all_its_waiters_fail_and_the_signer_recovers() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    let minter = world.minter();
    let verifier = world.client(3, Role::Verify(None));
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    let hand = handled(&mut world, u64::MAX);
    let mut head = world.signer().feed.head();
    run(head.wait_for(|at| at.epoch == 1)).unwrap();
    hand.left.store(0, Ordering::SeqCst);
    for answer in all_at_once(&world, revoker, 20) {
        let error = answer.unwrap_err();
        assert_eq!(error.code, Code::StoreFailed);
        assert!(error.detail.as_str().contains("disk is full"), "{error}");
    }
    let target = || revoke(RevokeTarget::Token(minted.lineage));
    assert_eq!(code(world.call(revoker, &target())), Code::StoreFailed);
    assert_eq!(code(world.call(minter, &mint("acme"))), Code::StoreFailed);
    // What was not acknowledged is not in force, and reading goes on.
    world.verify(verifier, minted.token.expose()).unwrap();
    hand.left.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(world.call(revoker, &target()).unwrap().effect, RevokeEffect::New);
    assert_eq!(code(world.verify(verifier, minted.token.expose())), Code::Revoked);
    world.restart();
    assert_eq!(code(world.verify(verifier, minted.token.expose())), Code::Revoked);
    assert_eq!(world.operate(&Status {}).revocations, 1);
    world.close();
    unheld(|| Signer::verify_audit(world.path())).unwrap();
}

#[test]
fn a_crash_between_any_two_commits_loses_nothing_and_the_feed_goes_on() {
    let mut finished = false;
    for crash_at in 0..40 {
        let mut world = World::new();
        let revoker = world.client(4, Role::Revoke);
        handled(&mut world, crash_at);
        let mut acknowledged = Vec::new();
        let mut failed = false;
        for n in 0..6 {
            match world.call(revoker, &revoke(RevokeTarget::Token(lineage(n)))) {
                Ok(_) => acknowledged.push(lineage(n)),
                Err(_) => failed = true,
            }
        }
        finished |= !failed;
        crash(&mut world);
        world.open();
        let status = world.operate(&Status {});
        for lineage in &acknowledged {
            let again = world.call(revoker, &revoke(RevokeTarget::Token(*lineage))).unwrap();
            assert_eq!(again.effect, RevokeEffect::Already, "crash at commit {crash_at}");
        }
        assert!(status.revocations >= acknowledged.len() as u64);
        let mut head = world.signer().feed.head();
        run(head.wait_for(|at| at.epoch == 1 && (acknowledged.is_empty() || at.sequence > 0))).unwrap();
        world.close();
        let audit = unheld(|| Signer::verify_audit(world.path())).unwrap();
        assert!(audit.lines >= status.audit_lines);
        world.open();
        world.close();
    }
    assert!(finished, "the longest runs crash after everything was acknowledged");
}

#[test]
fn the_files_hold_no_name_no_key_and_no_token() {
    let mut world = World::new();
    let minter = world.minter();
    let billing = world.client(10, Role::Keys(name("billing-audience")));
    world.key("tenant-of-the-test", None, KeyClass::Ordinary);
    world.key("tenant-of-the-test", Some("billing-audience"), KeyClass::Delegable);
    let asked = Mint {
        subject: Some(name("subject-of-the-test")),
        label: Some(name("label-of-the-test")),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"caveat = of-the-test".to_vec()))],
        ..mint("tenant-of-the-test")
    };
    let minted = world.call(minter, &asked).unwrap();
    let page = world.call(billing, &FetchKeys { from: Cursor::default() }).unwrap();
    let revoker = world.client(4, Role::Revoke);
    let target = RevokeTarget::Subject(name("tenant-of-the-test"), name("subject-of-the-test"), Floor::Now);
    world.call(revoker, &revoke(target)).unwrap();
    let token = minted.token.expose();
    let text = tkcore::TokenBuf::from_v2(token.to_vec()).unwrap().to_text().as_str().to_owned();
    let injected: Vec<u8> = (0..32).map(|i: u8| i.wrapping_mul(7) ^ 1).collect();
    let needles: Vec<(&str, Vec<u8>)> = vec![
        ("tenant", b"tenant-of-the-test".to_vec()),
        ("subject", b"subject-of-the-test".to_vec()),
        ("label", b"label-of-the-test".to_vec()),
        ("audience", b"billing-audience".to_vec()),
        ("caveat", b"of-the-test".to_vec()),
        ("signature", token[token.len() - 32..].to_vec()),
        ("text", text.as_bytes()[10..60].to_vec()),
        ("root key", page.items[0].root.expose().to_vec()),
        ("tenant key", page.items[0].rows.expose().to_vec()),
        ("static key", world.signer().service.statics().0.to_vec()),
        ("offline root key", world.trust.root_seed.to_vec()),
        ("secret", injected),
    ];
    let search = |world: &World| {
        let mut seen = Vec::new();
        for entry in fs::read_dir(world.path()).unwrap() {
            let entry = entry.unwrap();
            let bytes = fs::read(entry.path()).unwrap();
            seen.push(entry.file_name().into_string().unwrap());
            for (what, needle) in &needles {
                let found = bytes.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "{what} stands in {:?}", entry.file_name());
            }
        }
        seen
    };
    assert!(search(&world).iter().any(|name| name.ends_with("-wal")), "the log is searched, too");
    world.close();
    search(&world);
    // The search would find something that does stand in clear.
    let bytes = fs::read(world.path().join("tksign.db")).unwrap();
    assert!(bytes.windows(16).any(|window| window == minted.lineage.as_bytes()));
}

const CHILD: &str = "TKSIGN_TEST_CHILD";

/// Not a test of its own: the process that the next one kills. Prints a line for everything
/// that was acknowledged, after it was.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let signer = Signer::open(dir.as_ref(), &secret(1), Options::default(), system()).unwrap();
    let (minter, revoker) = (ClientKey::from_bytes([2; 32]), ClientKey::from_bytes([4; 32]));
    let mut stdout = std::io::stdout().lock();
    let id = |n: u64| {
        let mut id = [0; 16];
        tksign_random(&mut id, n);
        RequestId::from_bytes(id)
    };
    run(async {
        for n in 0.. {
            let request = mint("acme").request(id(n), None).unwrap();
            let answer = signer.service.handle(minter, Peer::Control, &request).await;
            let minted = Mint::read_answer(&answer).unwrap().unwrap();
            writeln!(stdout, "minted {}", minted.lineage).unwrap();
            let request = revoke(RevokeTarget::Token(minted.lineage)).request(id(n), None).unwrap();
            let answer = signer.service.handle(revoker, Peer::Control, &request).await;
            Revoke::read_answer(&answer).unwrap().unwrap();
            writeln!(stdout, "revoked {}", minted.lineage).unwrap();
            stdout.flush().unwrap();
        }
    });
}

/// An id that no other process of the test has used.
fn tksign_random(id: &mut [u8; 16], n: u64) {
    id[..8].copy_from_slice(&n.to_be_bytes());
    id[8..12].copy_from_slice(&std::process::id().to_be_bytes());
}

#[test]
fn kill_9_at_any_point_loses_nothing_that_was_acknowledged() {
    let rounds: u64 = env::var("TKSIGN_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let dir = TempDir::new();
    let trust = Signer::init(dir.path(), &secret(1), &operator(), &SystemClock, |_| Ok(())).unwrap();
    let mut world = World::over(dir, trust, system());
    world.minter();
    world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    world.close();
    let mut acknowledged: BTreeMap<LineageId, bool> = BTreeMap::new();
    let seed = Timestamp::from_millis(NOW).unwrap().millis();
    for round in 0..rounds {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, world.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // Killed after a number of acknowledgements that differs from round to round, at
        // whatever point the process has come to by then.
        let until = 1 + (seed ^ (round * 0x9e37_79b9)) % 23;
        let mut seen = 0;
        let mut line = String::new();
        let mut killed = false;
        while lines.read_line(&mut line).unwrap() > 0 {
            if let Some((_, event)) = line.trim_end().split_once("minted ") {
                acknowledged.entry(LineageId::from_hex(event).unwrap()).or_insert(false);
                seen += 1;
            } else if let Some((_, event)) = line.trim_end().split_once("revoked ") {
                acknowledged.insert(LineageId::from_hex(event).unwrap(), true);
                seen += 1;
            }
            line.clear();
            if seen >= until && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself in round {round}");
        world.open();
        for (lineage, revoked) in &acknowledged {
            let info = world.operate(&TokenShow { lineage: *lineage });
            assert!(!revoked || info.revoked.is_some(), "round {round}: {lineage} lives again");
        }
        world.close();
        unheld(|| Signer::verify_audit(world.path())).unwrap();
    }
    assert!(acknowledged.values().any(|revoked| *revoked));
}
