//! What the signer publishes, followed by the real client state machine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use common::*;
use testkit::TempDir;
use tkcore::protocol::*;
use tkcore::revocation::feed::{Config, Effect, Event, Machine, Moment, Next, Response};
use tkcore::revocation::publish::{FeedSigningKey, kept_day};
use tkcore::revocation::{
    ExpiryDay, FeedPath, Head, Position, Query, Revocation, Revocations as _, Status as Verdict,
};
use tkcore::{KeyClass, LineageId, Timestamp};
use tksign::{Clock as _, FeedTree, SignerError, SystemClock};

/// A client of the feed; it sees nothing but the bytes of the tree.
struct Client {
    machine: Machine,
    monotonic: Duration,
    fetched: Vec<String>,
}

impl Client {
    fn new(world: &World) -> Self {
        let config = Config { long_poll: Duration::ZERO, ..Config::new(world.trust.feed, roots(world)) };
        Self { machine: Machine::new(config), monotonic: Duration::ZERO, fetched: Vec::new() }
    }

    fn moment(&self, world: &World) -> Moment {
        Moment { wall: world.clock.now(), monotonic: self.monotonic }
    }

    /// Polls until there is nothing more to fetch. Any alarm is a failure.
    fn poll(&mut self, world: &World) {
        self.monotonic += Duration::from_secs(1);
        self.machine.poll_now();
        loop {
            let fetch = match self.machine.next(self.moment(world)) {
                Next::Sleep(_) => break,
                Next::Fetch(fetch) => fetch,
            };
            self.fetched.push(fetch.path.to_string());
            let response = match world.signer().feed.get(&fetch.path.to_string()) {
                Some(object) => Response::Body(object.bytes.to_vec()),
                None => Response::NotFound,
            };
            for effect in self.machine.receive(&fetch, response, self.moment(world), 7) {
                if let Effect::Report(event) = effect {
                    let fine =
                        matches!(event, Event::Advanced { .. } | Event::Heartbeat | Event::KeyList { .. });
                    assert!(fine, "{event:?}");
                }
            }
        }
    }

    fn revoked(&self, lineage: LineageId) -> bool {
        let query = Query { branches: &[], ..Query::foreign(lineage, lineage.minted(), &[]) };
        self.machine.set().unwrap().status(&query) != Verdict::Live
    }
}

/// Waits for a head at this position or later.
fn reach(tree: &FeedTree, position: FeedPosition) {
    let mut head = tree.head();
    run(async { head.wait_for(|at| *at >= position).await.map(|_| ()) }).unwrap();
}

/// Revokes and waits until the feed carries it.
fn publish(world: &World, revoker: ClientKey, target: RevokeTarget) {
    let answer = world.call(revoker, &revoke(target)).unwrap();
    let FeedPosition { epoch, sequence } = answer.after;
    reach(&world.signer().feed, FeedPosition { epoch, sequence: sequence + 1 });
}

fn next_head(world: &World, change: impl FnOnce()) {
    let mut head = world.signer().feed.head();
    head.borrow_and_update();
    change();
    run(head.changed()).unwrap();
}

#[test]
fn a_client_follows_every_step_through_a_restart() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 0 });
    let mut client = Client::new(&world);
    for n in 0..40 {
        if n % 13 == 0 {
            client.poll(&world);
        }
        publish(&world, revoker, RevokeTarget::Token(lineage(n)));
        if n == 20 {
            world.restart();
            reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 21 });
        }
    }
    client.poll(&world);
    let mut fresh = Client::new(&world);
    fresh.poll(&world);
    for client in [&client, &fresh] {
        assert_eq!(client.machine.position(), Some(Position { epoch: 1, sequence: 40 }));
        assert!((0..40).all(|n| client.revoked(lineage(n))) && !client.revoked(lineage(41)));
    }
    assert_eq!(client.machine.set().unwrap().digest(), fresh.machine.set().unwrap().digest());
    assert!(world.signer().feed.get("1/delta16/1").is_some(), "merged from both runs' steps");
}

#[test]
fn publication_keys_rotate_and_an_epoch_begins_by_a_signed_list_only() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 0 });
    publish(&world, revoker, RevokeTarget::Token(lineage(1)));
    let mut client = Client::new(&world);
    client.poll(&world);
    for (draft, epoch) in [(PublicationDraft::SameEpoch, 1), (PublicationDraft::NextEpoch, 2)] {
        let prepared = world.operate(&PublicationPrepare { draft });
        let mut forged = sign(&world, &prepared);
        *forged.last_mut().unwrap() ^= 1;
        let forged = PublicationRotate { key_list: Bytes(forged) };
        assert_eq!(code(world.call(OPERATOR, &forged)), Code::BadParameters);
        let good = sign(&world, &prepared);
        next_head(&world, || {
            world.operate(&PublicationRotate { key_list: Bytes(good.clone()) });
        });
        assert_eq!(code(world.call(OPERATOR, &PublicationRotate { key_list: Bytes(good) })), Code::Conflict);
        world.clock.advance(1_000);
        client.monotonic += Duration::from_secs(400);
        client.poll(&world);
        publish(&world, revoker, RevokeTarget::Token(lineage(10 + epoch as u8)));
        client.poll(&world);
        assert_eq!(client.machine.position().unwrap().epoch, epoch);
        assert!(client.revoked(lineage(1)) && client.revoked(lineage(10 + epoch as u8)));
        world.restart();
        assert_eq!(world.operate(&Status {}).key_list, prepared.version);
        publish(&world, revoker, RevokeTarget::Token(lineage(20 + epoch as u8)));
        client.poll(&world);
        assert!(client.revoked(lineage(20 + epoch as u8)));
    }
}

#[test]
fn rows_leave_after_the_last_day_of_what_they_name() {
    let mut world = World::new();
    let minter = world.minter();
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    publish(&world, revoker, RevokeTarget::Token(minted.lineage));
    publish(&world, revoker, RevokeTarget::Token(lineage(77)));
    let mut client = Client::new(&world);
    client.poll(&world);
    assert!(client.revoked(minted.lineage));
    // Past the token's last day, the step after the first head drops the row; one of unknown expiry stays.
    world.clock.advance(20 * 86_400_000);
    publish(&world, revoker, RevokeTarget::Token(lineage(76)));
    client.poll(&world);
    assert!(client.revoked(minted.lineage), "no head yet had a time at which it may leave");
    publish(&world, revoker, RevokeTarget::Token(lineage(78)));
    client.poll(&world);
    assert!(!client.revoked(minted.lineage) && client.revoked(lineage(77)) && client.revoked(lineage(78)));
    world.restart();
    assert_eq!(world.operate(&Status {}).revocations, 3);
    publish(&world, revoker, RevokeTarget::Token(lineage(79)));
    client.poll(&world);
    assert!(client.revoked(lineage(77)) && client.revoked(lineage(79)));
}

/// A clock at which no head can be signed drops nothing: no head could ever say so, and when the clock is
/// right again every client would refuse the step.
#[test]
fn nothing_is_dropped_by_a_clock_that_no_head_was_signed_at() {
    let mut world = World::new();
    let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
    world.key("acme", None, KeyClass::Ordinary);
    let minted = world.call(minter, &mint("acme")).unwrap();
    publish(&world, revoker, RevokeTarget::Token(minted.lineage));
    let mut client = Client::new(&world);
    client.poll(&world);
    world.clock.advance(400 * 86_400_000);
    world.call(revoker, &revoke(RevokeTarget::Token(lineage(77)))).unwrap();
    // Closes a step, twice.
    world.restart();
    world.close();
    world.clock.set(NOW);
    world.open();
    publish(&world, revoker, RevokeTarget::Token(lineage(78)));
    client.poll(&world);
    assert!(client.revoked(lineage(77)) && client.revoked(lineage(78)), "the client goes on");
    assert!(client.revoked(minted.lineage));
    assert_eq!(world.operate(&Status {}).revocations, 3);
}

/// A step dropped rows, and the head that says so was never signed: the last one still counts them, so
/// nothing is written over them until there is one. Then they come back, and every client goes on.
#[test]
fn what_no_head_says_to_be_dropped_comes_back_after_the_next_epoch() {
    const DAY: u64 = 86_400_000;
    let mut world = World::new();
    let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
    world.key("acme", None, KeyClass::Ordinary);
    let real = SystemClock.now().millis();
    world.clock.set(real);
    world.restart();
    let dead = world.call(minter, &mint("acme")).unwrap();
    publish(&world, revoker, RevokeTarget::Token(dead.lineage));
    let mut client = Client::new(&world);
    client.poll(&world);
    let prepared = world.operate(&PublicationPrepare { draft: PublicationDraft::NextEpoch });
    world.close();
    // A head by the wrong clock, then the end of the publication key.
    world.clock.set(NOW + 89 * DAY);
    world.open();
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 0 });
    world.clock.set(NOW + 100 * DAY);
    world.close();
    let refused = turn_back(&world);
    assert_eq!(refused.code, Some(10), "{} {}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("no head says so yet"), "{}", refused.stderr);

    world.clock.set(SystemClock.now().millis());
    world.open();
    let key_list = Bytes(sign(&world, &prepared));
    world.operate(&PublicationRotate { key_list });
    reach(&world.signer().feed, FeedPosition { epoch: 2, sequence: 0 });
    world.close();
    let done = turn_back(&world);
    assert_eq!(done.code, Some(0), "{} {}", done.stdout, done.stderr);
    world.clock.set(SystemClock.now().millis());
    world.open();
    reach(&world.signer().feed, FeedPosition { epoch: 2, sequence: 1 });
    client.monotonic += Duration::from_secs(400);
    client.poll(&world);
    assert_eq!(client.machine.position().unwrap().epoch, 2);
    assert!(client.revoked(dead.lineage));
}

/// PR-85. A service can write any lineage and expiry into a token under its delegated key. Presenting
/// such a token must neither kill a token of ours nor leave a row that is dropped too early.
#[test]
fn a_token_under_a_delegable_key_says_nothing_of_other_lineages() {
    let world = World::new();
    let minter = world.minter();
    let billing = world.client(10, Role::Keys(name("billing")));
    let verifier = world.client(3, Role::Verify(None));
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    world.key("acme", Some("billing"), KeyClass::Delegable);
    let victim = world
        .call(minter, &Mint { expiry: Expiry::Never, never_expires: Permit::Given, ..mint("acme") })
        .unwrap();
    let page = world.call(billing, &FetchKeys { from: Cursor::default() }).unwrap();
    let soon = Timestamp::from_seconds(NOW / 1000 + 60).unwrap();
    let forge =
        |lineage| RevokeTarget::Presented(forged(&page.items[0], lineage, soon), RevokeScope::Lineage);
    assert_eq!(code(world.call(revoker, &revoke(forge(victim.lineage)))), Code::NotAuthentic);
    world.verify(verifier, victim.token.expose()).unwrap();

    // A lineage that is not registered: the row stays, whatever expiry the token claims.
    let unknown = lineage(77);
    publish(&world, revoker, forge(unknown));
    world.clock.advance(20 * 86_400_000);
    publish(&world, revoker, RevokeTarget::Token(lineage(78)));
    let mut client = Client::new(&world);
    client.poll(&world);
    assert!(client.revoked(unknown) && client.revoked(lineage(78)));
}

/// What the holder of a delegated key can write: any lineage, any expiry.
fn forged(delegated: &DelegatedKey, lineage: LineageId, expiry: Timestamp) -> SecretBytes {
    let identifier = tkcore::Identifier {
        caveats_at_mint: 1,
        key: delegated.key,
        lineage,
        expiry: Some(expiry),
        service: None,
        subject: None,
    };
    let root = tkcore::RootKey::from_derived(delegated.root.expose());
    let forged = tkcore::mint(&identifier, &["action = admin"], &root).unwrap();
    forged.as_token().as_v2().into()
}

/// The holder of a delegated key and of a key that may revoke what it presents chooses the days of rows.
/// He gets no more of them than an honest one: each would stand in every table of sections for good.
#[test]
fn expiries_that_somebody_chose_make_no_days_of_their_own() {
    const DAY: u64 = 86_400_000;
    let world = World::new();
    let billing = world.client(10, Role::Keys(name("billing")));
    let scanner = world.client(11, Role::RevokePresented);
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", Some("billing"), KeyClass::Delegable);
    let page = world.call(billing, &FetchKeys { from: Cursor::default() }).unwrap();
    let present = |n: u8, expiry: u64| {
        let expiry = Timestamp::from_millis(expiry).unwrap();
        let token = forged(&page.items[0], lineage(n), expiry);
        world.call(scanner, &RevokePresented { token, reason: Text::default() }).unwrap();
    };
    for n in 0..60 {
        present(n, NOW + (401 + 10 * u64::from(n)) * DAY);
        present(60 + n, NOW - (1 + 10 * u64::from(n)) * DAY);
    }
    present(120, NOW + 400 * DAY);
    publish(&world, revoker, RevokeTarget::Token(lineage(1)));
    let mut client = Client::new(&world);
    client.poll(&world);
    let (mut days, mut rows) = (std::collections::BTreeMap::new(), 0);
    client.machine.set().unwrap().for_each(|revocation, day| {
        if matches!(revocation, Revocation::Branch { .. }) {
            *days.entry(day).or_insert(0) += 1;
            rows += 1;
        }
    });
    assert_eq!(rows, 121);
    let today = kept_day(Some(world.clock.now()), world.clock.now());
    let last = kept_day(Timestamp::from_millis(NOW + 400 * DAY), world.clock.now());
    assert_eq!(days, [(today, 60), (last, 1), (ExpiryDay::UNKNOWN, 60)].into());
}

#[test]
fn a_folder_is_written_whole_and_never_lowered() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 0 });
    let later = TempDir::new();
    publish(&world, revoker, RevokeTarget::Token(lineage(1)));
    world.signer().feed.write_folder(later.path()).unwrap();
    let feed = world.trust.feed.to_string();
    let root = |dir: &TempDir| dir.join("v1").join("feed").join(&feed);
    let head = fs::read(root(&later).join("head")).unwrap();
    assert_eq!(Head::parse_unverified(&head).unwrap().position.sequence, 1);
    for path in ["keys/1".to_owned(), "1/delta/1".to_owned(), base_of(&head)] {
        let served = world.signer().feed.get(&path).unwrap();
        assert_eq!(fs::read(root(&later).join(&path)).unwrap(), served.bytes, "{path}");
    }
    // A folder that is ahead of the tree stays as it is: written by a successor of this signer.
    world.close();
    let older = TempDir::new();
    fs::create_dir_all(root(&older)).unwrap();
    fs::write(root(&older).join("head"), b"not a head").unwrap();
    world.open();
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 1 });
    world.signer().feed.write_folder(older.path()).unwrap();
    assert!(Head::parse_unverified(&fs::read(root(&older).join("head")).unwrap()).is_ok());
    let newer = signed_later(&world, &head);
    fs::write(root(&later).join("head"), &newer).unwrap();
    assert!(world.signer().feed.write_folder(later.path()).is_err());
    assert_eq!(fs::read(root(&later).join("head")).unwrap(), newer);
}

/// Makes all files of a folder older, as time does.
fn age(folder: &Path, by: Duration) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, by);
        } else {
            let file = fs::File::options().write(true).open(&path).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            file.set_modified(written - by).unwrap();
        }
    }
}

/// Files below a folder, as paths with slashes.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.insert(name);
        }
    }
    found
}

/// A folder, and the bucket that the script keeps, hold what readers may ask for and do not grow for ever.
#[test]
fn what_no_head_needs_leaves_a_folder_and_a_bucket() {
    let mut world = World::new();
    let revoker = world.client(4, Role::Revoke);
    let dir = TempDir::new();
    let (www, bucket) = (dir.join("www"), dir.join("bucket"));
    let root = www.join("v1").join("feed").join(world.trust.feed.to_string());
    let put = format!("#!/bin/sh\nset -e\ncd {}\nmkdir -p \"$(dirname \"$2\")\"\n", bucket.display());
    let put =
        dir.write("put", 0o755, format!("{put}cp \"{}/$1\" \"$2\" || cp \"$1\" \"$2\"\n", www.display()));
    let delete = dir.write("delete", 0o755, format!("#!/bin/sh\nrm \"{}/$1\"\n", bucket.display()));
    fs::create_dir(&bucket).unwrap();
    let script = testkit::signer::workspace().join("docs/feed-to-bucket.sh");
    let sent = || {
        let done = std::process::Command::new(&script).args([&www, &put, &delete]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        files(&bucket.join(root.strip_prefix(&www).unwrap()))
    };
    let written = |world: &World| {
        world.signer().feed.write_folder(&www).unwrap();
        files(&root)
    };
    // Each step is days after the base before, so that it makes a new one.
    let step = |world: &World, n: u8| {
        world.clock.advance(2 * 86_400_000);
        publish(world, revoker, RevokeTarget::Token(lineage(n)));
        base_of(&world.signer().feed.get("head").unwrap().bytes)
    };
    let hour = Duration::from_secs(3600);
    let mut bases = Vec::new();
    for n in 1..=3 {
        bases.push(step(&world, n));
        written(&world);
    }
    fs::write(root.join("1/notes.txt"), "ours").unwrap();
    fs::write(root.join("1/delta/4.99.tmp"), "cut off").unwrap();
    let young = written(&world);
    assert!(bases.iter().all(|base| young.contains(base)), "the first is not an hour old: {young:?}");
    assert_eq!(sent().difference(&young).next(), None);
    age(&root, 2 * hour);
    let old = written(&world);
    let gone: Vec<_> = young.difference(&old).collect();
    assert!(gone.contains(&&bases[0]) && gone.contains(&&"1/delta/4.99.tmp".to_owned()), "{gone:?}");
    for stays in [&bases[1], &bases[2], "keys/1", "1/delta/1", "1/delta/2", "1/delta/3", "1/notes.txt"] {
        assert!(old.contains(stays), "{stays} of {old:?}");
    }
    // The bucket follows one run later.
    assert!(sent().contains(&bases[0]));
    assert!(!sent().contains(&bases[0]));
    // While the folder was not written the tree went on by two bases: what the head there named stays.
    world.restart();
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 3 });
    bases.push(step(&world, 4));
    bases.push(step(&world, 5));
    age(&root, 2 * hour);
    let after = written(&world);
    assert!(after.contains(&bases[2]) && after.contains(&bases[3]) && after.contains(&bases[4]), "{after:?}");
    age(&root, 2 * hour);
    let later = written(&world);
    assert!(
        !later.contains(&bases[2]) && later.contains(&bases[3]) && later.contains("1/delta/1"),
        "{later:?}"
    );
    // Of an epoch that has ended nothing stays, once no reader can have its head.
    let prepared = world.operate(&PublicationPrepare { draft: PublicationDraft::NextEpoch });
    let key_list = Bytes(sign(&world, &prepared));
    next_head(&world, || {
        world.operate(&PublicationRotate { key_list });
    });
    reach(&world.signer().feed, FeedPosition { epoch: 2, sequence: 0 });
    assert!(written(&world).contains("1/delta/5"), "the head before may be anybody's");
    age(&root, 2 * hour);
    let epoch = written(&world);
    let of_first: Vec<_> = epoch.iter().filter(|path| path.starts_with("1/")).collect();
    assert_eq!(of_first, ["1/notes.txt", bases[4].as_str()], "the tree keeps two bases");
    step(&world, 6);
    written(&world);
    age(&root, 2 * hour);
    let epoch = written(&world);
    assert!(epoch.iter().all(|path| !path.starts_with("1/") || path == "1/notes.txt"), "{epoch:?}");
    let next = base_of(&fs::read(root.join("head")).unwrap());
    assert!(epoch.contains(&next) && epoch.contains("keys/1") && epoch.contains("keys/2"), "{epoch:?}");
    sent();
    assert_eq!(sent(), epoch.into_iter().filter(|path| path != "1/notes.txt").collect());
}

fn base_of(head: &[u8]) -> String {
    let head = Head::parse_unverified(head).unwrap();
    let position = Position { epoch: head.position.epoch, sequence: head.base.sequence };
    FeedPath::Snapshot { position, digest: head.base.digest }.to_string()
}

/// The same head at a later sequence, as a successor would have signed it.
fn signed_later(world: &World, head: &[u8]) -> Vec<u8> {
    let mut head = Head::parse_unverified(head).unwrap();
    head.position.sequence += 5;
    head.delta_bytes += 500;
    head.sign(&[&FeedSigningKey::from_seed(&world.trust.root_seed).unwrap()]).unwrap()
}

/// Changes the database behind the signer's back.
fn tamper(world: &mut World, sql: &str) -> SignerError {
    world.close();
    rusqlite::Connection::open(world.dir.join("tksign.db")).unwrap().execute_batch(sql).unwrap();
    match world.try_open(&secret(1)) {
        Ok(_) => panic!("it opened after {sql}"),
        Err(error) => error,
    }
}

fn with_two_revocations() -> World {
    let world = World::new();
    let revoker = world.client(4, Role::Revoke);
    world.key("acme", None, KeyClass::Ordinary);
    world.key("other", None, KeyClass::Ordinary);
    publish(&world, revoker, RevokeTarget::Token(lineage(1)));
    publish(&world, revoker, RevokeTarget::Token(lineage(2)));
    world
}

#[test]
fn a_deleted_revocation_shows_at_the_next_start() {
    let mut world = with_two_revocations();
    let error = tamper(&mut world, "DELETE FROM revocations WHERE key = (SELECT min(key) FROM revocations)");
    assert!(matches!(error, SignerError::Feed(_)), "{error}");
}

#[test]
fn a_forged_or_changed_row_does_not_open() {
    let swap = |table: &str| {
        format!(
            "CREATE TEMP TABLE t AS SELECT key, value FROM {table};
             UPDATE {table} SET value = (SELECT value FROM t WHERE t.key != {table}.key LIMIT 1)"
        )
    };
    for table in ["keys", "clients"] {
        let error = tamper(&mut with_two_revocations(), &swap(table));
        assert!(matches!(error, SignerError::Record(..)), "{table}: {error}");
    }
    let error = tamper(
        &mut with_two_revocations(),
        "INSERT INTO revocations VALUES (x'0600000000000f4240', zeroblob(36))",
    );
    assert!(matches!(error, SignerError::Record(..)), "{error}");
    let error =
        tamper(&mut with_two_revocations(), "UPDATE feed SET value = zeroblob(300) WHERE key = x'68656164'");
    assert!(matches!(error, SignerError::Feed(_)), "{error}");
}

#[test]
fn a_wrong_secret_is_a_clear_error() {
    let mut world = World::new();
    world.close();
    let Err(error) = world.try_open(&secret(2)) else { panic!("it opened") };
    assert!(matches!(error, SignerError::WrongSecret), "{error}");
    assert!(error.to_string().contains("secret"));
    world.open();
}

#[test]
fn a_head_never_goes_back_in_time() {
    let mut world = World::new();
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 0 });
    let issued = |world: &World| {
        let head = world.signer().feed.get("head").unwrap();
        Head::parse_unverified(&head.bytes).unwrap().issued_at
    };
    let before = issued(&world);
    world.clock.set(NOW - 5_000);
    world.restart();
    reach(&world.signer().feed, FeedPosition { epoch: 1, sequence: 0 });
    assert!(issued(&world) >= before && before >= Timestamp::from_millis(NOW).unwrap());
}

#[test]
fn the_base_that_the_served_head_names_stays_while_no_head_can_be_signed() {
    let world = World::new();
    let revoker = world.client(5, Role::Revoke);
    publish(&world, revoker, RevokeTarget::Token(lineage(1)));
    let tree = &world.signer().feed;
    let head = tree.get("head").unwrap().bytes;
    // The publication key's window ends; steps go on, and each is a day after the base before.
    for (n, days) in [(2u8, 91), (3, 2), (4, 2)] {
        world.clock.advance(days * 86_400_000);
        world.call(revoker, &revoke(RevokeTarget::Token(lineage(n)))).unwrap();
        let path = format!("1/delta/{n}");
        let steps = (0..12_000).find(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            tree.get(&path).is_some()
        });
        assert!(steps.is_some(), "step {n}");
    }
    assert_eq!(tree.get("head").unwrap().bytes, head);
    assert!(tree.get(&base_of(&head)).is_some(), "what the served head names is served");
}
