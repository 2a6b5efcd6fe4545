//! What the signer does now and then: verifies are written down, what has ended is removed, however busy
//! it is otherwise.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the clock of a test begins somewhere")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;
use testkit::TempDir;
use tkcore::protocol::*;
use tkcore::revocation::Position;
use tkcore::{KeyClass, Timestamp};
use tksign::store::{Sqlite, Store as _, Table};
use tksign::{Clock, Peer, Signer};

/// Both of the signer's clocks, moved by the test alone.
struct Both {
    began: Instant,
    millis: AtomicU64,
}

impl Both {
    fn advance(&self, by: Duration) {
        self.millis.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Both {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(NOW + self.millis.load(Ordering::SeqCst)).unwrap()
    }

    fn monotonic(&self) -> Instant {
        self.began + Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

fn world() -> (World, Arc<Both>) {
    let clock = Arc::new(Both { began: Instant::now(), millis: AtomicU64::new(0) });
    let dir = TempDir::new();
    let trust = Signer::init(dir.path(), &secret(1), &operator(), &*clock, |_| Ok(())).unwrap();
    (World::over(dir, trust, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

/// The audit lines about one operation.
fn lines(world: &World, operation: &str) -> Vec<Value> {
    let (mut found, mut from) = (Vec::new(), Cursor::default());
    loop {
        let page = world.operate(&AuditTail { line: 1, from });
        let all = page.items.iter().map(|line| serde_json::from_slice::<Value>(&line.bytes.0).unwrap());
        found.extend(all.filter(|line| line["op"] == operation));
        match page.next {
            Some(next) => from = next,
            None => return found,
        }
    }
}

#[test]
fn verifies_are_written_down_while_something_is_revoked_all_the_time() {
    let (world, clock) = world();
    let (minter, verifier) = (world.minter(), world.client(3, Role::Verify(None)));
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    let token = minted.token.expose();
    for _ in 0..3 {
        world.verify(verifier, token).unwrap();
    }
    let mut forged = token.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    world.verify(verifier, &forged).unwrap_err();
    // Each revocation has a head of its own, six times as often as a heartbeat.
    for n in 0..8 {
        clock.advance(Duration::from_secs(5));
        let done = world.call(revoker, &revoke(RevokeTarget::Token(lineage(n)))).unwrap();
        let next = Position { sequence: done.after.sequence + 1, ..done.after };
        let mut head = world.signer().feed.head();
        run(async { head.wait_for(|at| *at >= next).await.map(drop) }).unwrap();
    }
    let lines = lines(&world, "verify");
    let [refused, good] = &lines[..] else { panic!("{lines:?}") };
    let seen = Timestamp::from_millis(NOW).unwrap();
    let said = |line: &Value| {
        let field = |name: &str| line.get(name).map(|value| value.as_str().unwrap_or_default().to_owned());
        (field("by"), field("lineage"), field("good"), field("refused-tokens"), field("last"))
    };
    let by = || Some(format!("{verifier}"));
    let count = |text: &str| Some(text.to_owned());
    let last = || Some(seen.to_string());
    assert_eq!(said(refused), (by(), None, count("0"), count("1"), last()));
    assert_eq!(said(good), (by(), Some(minted.lineage.to_string()), count("3"), count("0"), last()));
    assert_eq!(world.operate(&TokenShow { lineage: minted.lineage }).last_seen, Some(seen));
}

/// PR-98: what is refused is written line by line as long as an honest client could have made so many
/// mistakes; the rest costs a number.
#[test]
fn refusals_of_a_thief_of_a_key_do_not_fill_the_disk() {
    let (mut world, clock) = world();
    let verifier = world.client(3, Role::Verify(None));
    let revoker = world.client(4, Role::Revoke);
    let no_key = || revoke(RevokeTarget::Key(tkcore::KeyId::from_bytes([9; 8]), KeyFloor::All));
    let of = |world: &World, client: ClientKey, operation: &str| {
        let by = |line: &Value| line["by"] == client.to_string() && line["op"] == operation;
        lines(world, operation).into_iter().filter(by).collect::<Vec<_>>()
    };
    // Each way to be refused: by the role, by the writer, as unknown, as unreadable.
    for _ in 0..75 {
        assert_eq!(code(world.call(verifier, &Status {})), Code::NotAllowed);
        assert_eq!(code(world.call(revoker, &no_key())), Code::NotFound);
        let unreadable = world.raw(revoker, Peer::Control, b"?");
        assert_eq!(code(Status::read_answer(&unreadable).unwrap()), Code::BadParameters);
    }
    assert_eq!(of(&world, verifier, "status").len(), 75, "below the burst each has a line");
    let both = of(&world, revoker, "revoke").len() + of(&world, revoker, "unknown").len();
    assert_eq!(both, 100, "all of a client's share its lines");
    for _ in 0..75 {
        assert_eq!(code(world.call(verifier, &Status {})), Code::NotAllowed, "the answer is the same");
    }
    assert_eq!(of(&world, verifier, "status").len(), 100);
    clock.advance(Duration::from_secs(1));
    for _ in 0..75 {
        assert_eq!(code(world.call(verifier, &Status {})), Code::NotAllowed);
    }
    assert_eq!(of(&world, verifier, "status").len(), 110, "ten a second");
    world.restart();
    let more =
        |client| of(&world, client, "refusals").iter().map(|line| line["more"].clone()).collect::<Vec<_>>();
    assert_eq!((more(verifier), more(revoker)), (vec!["115".into()], vec!["50".into()] as Vec<Value>));
}

/// More than one change takes: 300 lines of verifies, 300 tokens and as many kept answers.
#[test]
fn what_has_ended_is_removed_as_fast_as_it_was_made() {
    const TOKENS: u64 = 300;
    let (mut world, clock) = world();
    let (minter, verifier) = (world.minter(), world.client(3, Role::Verify(None)));
    world.key("acme", None, KeyClass::Ordinary);
    for _ in 0..TOKENS {
        let minted = world.call(minter, &mint("acme")).unwrap();
        world.verify(verifier, minted.token.expose()).unwrap();
    }
    world.restart();
    assert_eq!(lines(&world, "verify").len() as u64, TOKENS, "none is left out when it stops");
    assert_eq!(world.operate(&Status {}).tokens, TOKENS);
    clock.advance(Duration::from_secs(3 * 86_400));
    let mut rounds = 0;
    while world.operate(&Status {}).tokens > 0 {
        rounds += 1;
        assert!(rounds < 100, "two seconds and a half, and it is not done");
        clock.advance(Duration::from_millis(25));
    }
    world.close();
    let store = unheld(|| Ok(Sqlite::open(world.path())?)).unwrap();
    for table in [Table::Tokens, Table::Seen, Table::Index, Table::Idempotency] {
        assert_eq!(store.count(table, &[]).unwrap(), 0, "{}", table.name());
    }
}
