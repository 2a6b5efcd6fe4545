//! A store that takes few rows in one change, as a cluster does: steps and deletions are parted, and
//! a crash between any two parts is made good.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "an awaited state has a deadline")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use tkcore::LineageId;
use tkcore::protocol::*;
use tkcore::revocation::publish::kept_day;
use tkcore::revocation::{ExpiryDay, Head, Revocation, RevocationSet};
use tksign::store::{Change, Op, Refusal, Row, Scan, Sqlite, Store, StoreError, Table};
use tksign::{Clock as _, Options, Peer, Signer};

/// Rows of the feed that it takes at once.
const ROOM: usize = 4;
const DAY: u64 = 86_400_000;

/// SQLite with little room, which fails after some commits of the feed.
struct Narrow {
    store: Sqlite,
    left: Arc<AtomicI64>,
    is_feed: bool,
}

impl Store for Narrow {
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
        self.is_feed = false;
        self.store.begin()
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        let of = |table: Table| {
            let is_one = |op: &&Op| {
                let (Op::Create(at, ..) | Op::Put(at, ..) | Op::Delete(at, ..)) = op;
                *at == table
            };
            change.ops.iter().filter(is_one).count()
        };
        assert!(of(Table::Revocations).max(of(Table::Deltas)) <= ROOM, "more than there is room for");
        self.is_feed |= of(Table::Feed) > 0;
        self.store.apply(change)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.is_feed && self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.store.begin()?;
            return Err(StoreError::Database("cut off by the test".to_owned()));
        }
        self.store.commit()
    }

    fn room(&self) -> usize {
        ROOM
    }

    fn schema(&self) -> u32 {
        self.store.schema()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }
}

/// Opens the world's store so that this many commits of the feed succeed.
fn open(world: &mut World, commits: i64) -> Arc<AtomicI64> {
    let left = Arc::new(AtomicI64::new(commits));
    let signer = unheld(|| {
        let store = Narrow { store: Sqlite::open(world.path())?, left: Arc::clone(&left), is_feed: false };
        Signer::start(Box::new(store), &secret(1), Options::default(), Arc::clone(&world.clock) as _)
    });
    world.signer = Some(signer.unwrap());
    left
}

/// Deltas that lie in the store, as another reader of it sees.
fn deltas(world: &World) -> i64 {
    let store = rusqlite::Connection::open(world.path().join("tksign.db")).unwrap();
    store.query_row("SELECT count(*) FROM deltas", (), |row| row.get(0)).unwrap()
}

fn head(world: &World) -> Option<Head> {
    let head = world.signer().feed.get("head")?;
    Some(Head::parse_unverified(&head.bytes).unwrap())
}

fn awaited(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All at once, as what one step would cover.
fn revoke_all(world: &World, revoker: ClientKey, lineages: &[LineageId]) {
    let service = world.signer().service.clone();
    run(async {
        let mut all = tokio::task::JoinSet::new();
        for lineage in lineages {
            let (service, id) = (service.clone(), world.id());
            let request = revoke(RevokeTarget::Token(*lineage)).request(id, None).unwrap();
            all.spawn(async move { service.handle(revoker, Peer::Control, &request).await });
        }
        for answer in all.join_all().await {
            Revoke::read_answer(&answer).unwrap().unwrap();
        }
    });
}

#[test]
fn a_step_closes_over_what_there_is_room_for_and_the_next_one_over_the_rest() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    world.close();
    open(&mut world, i64::MAX);
    let lineages: Vec<_> = (0..11).map(lineage).collect();
    revoke_all(&world, revoker, &lineages);
    let rows = lineages.iter().map(|lineage| (Revocation::Token { lineage: *lineage }, ExpiryDay::UNKNOWN));
    let all = RevocationSet::build(rows).unwrap().digest();
    awaited("the last step", || head(&world).is_some_and(|head| head.state == all));
    assert!(head(&world).unwrap().position.sequence >= 3, "eleven in steps of four");
    world.close();
    // What is stored adds up, for a store with room as well.
    world.open();
    awaited("the head", || head(&world).is_some_and(|head| head.state == all));
}

/// The rows of a day are dropped by one step and deleted with several heads. Cut off before any of
/// these commits, the signer starts, and in the end all rows are gone.
#[test]
fn rows_of_a_day_are_deleted_in_parts_whatever_cuts_it_off() {
    for commits in 0..=6 {
        let mut world = World::new();
        let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
        world.key("acme", None, tkcore::KeyClass::Ordinary);
        let mint_one = |_| world.call(minter, &mint("acme")).unwrap().lineage;
        let lineages: Vec<_> = (0..11).map(mint_one).collect();
        world.close();
        open(&mut world, i64::MAX);
        revoke_all(&world, revoker, &lineages);
        let day = kept_day(tkcore::Timestamp::from_millis(NOW + 3_600_000), world.clock.now());
        let rows = lineages.iter().map(|lineage| (Revocation::Token { lineage: *lineage }, day));
        let all = RevocationSet::build(rows).unwrap().digest();
        awaited("the steps", || head(&world).is_some_and(|head| head.state == all));
        world.close();
        world.clock.advance(30 * DAY);
        let mut kept = Vec::new();
        let left = open(&mut world, commits);
        let is_cut = || left.load(Ordering::SeqCst) < 0;
        while !is_cut() && revocations(&world) > kept.len() as u64 {
            step(&world, revoker, &mut kept, is_cut);
        }
        assert!(is_cut() || commits > 3, "a drop and three deletions have more than {commits} commits");
        world.close();
        let reopened = open(&mut world, i64::MAX);
        while revocations(&world) > kept.len() as u64 {
            step(&world, revoker, &mut kept, || false);
        }
        assert!(reopened.load(Ordering::SeqCst) > 0);
        let rows = kept.iter().map(|lineage| (Revocation::Token { lineage: *lineage }, ExpiryDay::UNKNOWN));
        let only = RevocationSet::build(rows).unwrap().digest();
        awaited("the head", || head(&world).is_some_and(|head| head.state == only));
        world.close();
        let store = unheld(|| Ok(Sqlite::open(world.path())?)).unwrap();
        assert_eq!(
            store.count(Table::Revocations, b"").unwrap(),
            kept.len() as u64,
            "after {commits} commits"
        );
    }
}

/// "Log out everywhere", time after time: the floor before goes with the head of the next one. Cut off
/// before any commit of the feed, the signer starts and nothing is left of the earlier ones.
#[test]
fn of_the_floors_of_a_subject_one_row_stays_whatever_cuts_it_off() {
    for commits in 0..=9 {
        let mut world = World::new();
        let revoker = world.client(4, Role::Revoke);
        let log_out = |world: &World| {
            world.clock.advance(1000);
            let target = RevokeTarget::Subject(name("acme"), name("user:1"), Floor::Now);
            world.call(revoker, &revoke(target)).unwrap();
        };
        world.close();
        let left = open(&mut world, commits);
        let is_cut = || left.load(Ordering::SeqCst) < 0;
        for _ in 0..7 {
            let before = head(&world).map(|head| head.position.sequence);
            log_out(&world);
            awaited("the step", || {
                is_cut() || head(&world).is_some_and(|head| Some(head.position.sequence) > before)
            });
        }
        assert!(is_cut(), "seven steps and their heads have more than {commits} commits");
        world.close();
        open(&mut world, i64::MAX);
        awaited("the deletion", || revocations(&world) == 1);
        log_out(&world);
        awaited("the last deletion", || revocations(&world) == 1);
        world.close();
        let store = unheld(|| Ok(Sqlite::open(world.path())?)).unwrap();
        assert_eq!(store.count(Table::Revocations, b"").unwrap(), 1, "after {commits} commits");
        drop(store);
        // What is left adds up to what was signed.
        world.open();
    }
}

/// Lets the publisher make a step now, not with its next heartbeat: revokes one more token.
fn step(world: &World, revoker: ClientKey, kept: &mut Vec<LineageId>, is_cut: impl Fn() -> bool) {
    assert!(kept.len() < 20, "the rows are never deleted");
    let sequence = |world: &World| head(world).map(|head| head.position.sequence);
    let before = sequence(world);
    let next = lineage(100 + kept.len() as u8);
    revoke_all(world, revoker, &[next]);
    kept.push(next);
    awaited("the step", || is_cut() || sequence(world) > before);
}

fn revocations(world: &World) -> u64 {
    world.operate(&Status {}).revocations
}

#[test]
fn old_deltas_leave_the_store_in_parts_and_a_crash_between_them_leaves_none() {
    for commits in 1..5 {
        let mut world = World::new();
        let revoker = world.client(4, Role::Revoke);
        for n in 0..11 {
            revoke_all(&world, revoker, &[lineage(n)]);
            awaited("the step", || head(&world).is_some_and(|head| head.position.sequence > u64::from(n)));
        }
        world.close();
        let left = open(&mut world, i64::MAX);
        assert_eq!(deltas(&world), 11);
        // The steps of an epoch that has ended are of no use to anybody.
        let prepared = world.operate(&PublicationPrepare { draft: PublicationDraft::NextEpoch });
        let key_list = Bytes(sign(&world, &prepared));
        left.store(commits, Ordering::SeqCst);
        world.operate(&PublicationRotate { key_list });
        awaited("the cut", || left.load(Ordering::SeqCst) < 0 || deltas(&world) == 0);
        world.close();
        open(&mut world, i64::MAX);
        awaited("the deletion", || deltas(&world) == 0);
        awaited("the head", || head(&world).is_some_and(|head| head.position.epoch == 2));
    }
}
