//! Each attack and fault of the feed against a verifier over a real HTTP server that misbehaves on
//! purpose. The same list runs against the pure machine in `tkcore/tests/feed_attacks.rs`; two
//! histories, error pages, deleted caches, cut files and proxies are in the tests beside this one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use testkit::TempDir;
use testkit::http::{Reply, Request, Server};
use tkcore::revocation::publish::{KeyListDraft, Publisher};
use tkcore::revocation::{ExpiryDay, FeedPath, PublicationKey, Revocation, RevocationSet, Rule};
use tkcore::{Error, LineageId, NotKnowable, Presented, Timestamp, TokenText};
use tkverify::testing::{Kit, Spec, TestClock};
use tkverify::{Clock as _, Freshness, Verifier};

use super::common::feed_support::{FEED, Random, Signer, at, key};
use super::common::{self, Origin, code, now, refresh};
use super::{LONG, builder, check, kit, lineage, until};

const REVOKED: Result<(), Error> = Err(Error::Revoked(Rule::Token));

/// Well within the life of the tokens, which is an hour.
const STALE: Duration = Duration::from_secs(600);

/// A verifier that knows one live token and one revoked one, over a feed that polls.
struct Scene {
    origin: Origin,
    kit: Kit,
    clock: Arc<TestClock>,
    verifier: Verifier,
    live: TokenText,
    dead: TokenText,
}

/// All of it at one moment of a clock that only the test moves, so that no head comes from the future of
/// a verifier however long the test takes.
fn scene() -> Scene {
    scene_where(without_waits)
}

fn scene_where(origins_way: fn(&Request) -> Option<Reply>) -> Scene {
    let (clock, kit) = (Arc::new(TestClock::default()), kit());
    clock.set_wall(kit.clock().read().wall);
    let origin = Origin::since(clock.read().wall.millis());
    origin.misbehave(origins_way);
    let verifier = builder(&origin, &kit).clock(Arc::clone(&clock) as _).stale_after(STALE).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let (live, dead) = (kit.signer().mint(&Spec::new("acme")), kit.signer().mint(&Spec::new("acme")));
    assert_eq!((check(&verifier, &live), check(&verifier, &dead)), (Ok(()), Ok(())));
    let scene = Scene { origin, kit, clock, verifier, live, dead };
    scene.revoke(&scene.dead);
    scene.until("the revocation", |verifier| check(verifier, &scene.dead) == REVOKED);
    scene
}

/// Honest, and holds nothing: a request that is held while a test becomes dishonest is answered honestly.
fn without_waits(request: &Request) -> Option<Reply> {
    object(request)?.starts_with("wait").then(|| Reply::status(404))
}

impl Scene {
    fn now(&self) -> u64 {
        self.clock.read().wall.millis()
    }

    fn revoke(&self, token: &TokenText) {
        self.origin.revoke_at(lineage(token), self.now());
    }

    fn behave(&self) {
        self.origin.misbehave(without_waits);
    }

    /// Polls until `wanted` holds.
    fn until(&self, what: &str, wanted: impl Fn(&Verifier) -> bool) {
        until(what, || {
            self.verifier.poll_now();
            wanted(&self.verifier)
        });
    }

    fn counted(&self, name: &'static str) {
        let before = self.verifier.feed().counts().get(name).copied();
        self.until(name, |verifier| verifier.feed().counts().get(name).copied() > before);
    }

    /// What was known stays known, and nothing else is refused.
    fn holds(&self, position: (u64, u64)) {
        assert_eq!(self.verifier.feed().position(), Some(position));
        assert_eq!(check(&self.verifier, &self.dead), REVOKED);
        assert_eq!(check(&self.verifier, &self.live), Ok(()));
    }

    /// The origin is honest again: the next revocation arrives.
    fn recovers(&self) {
        self.behave();
        self.revoke(&self.live);
        self.until("recovery", |verifier| check(verifier, &self.live) == REVOKED);
        assert_eq!(check(&self.verifier, &self.dead), REVOKED);
        assert_eq!(self.verifier.health().freshness, Freshness::Fresh);
    }

    /// Answers heads with `head`, data from `files`, and all else honestly.
    fn serve(&self, head: Vec<u8>, files: BTreeMap<String, Vec<u8>>) {
        self.origin.misbehave(move |request| match object(request) {
            Some("head") => Some(Reply::ok(head.clone())),
            Some(path) if path.starts_with("wait") => Some(Reply::status(404)),
            Some(path) if path.starts_with("keys/") => None,
            Some(path) => files.get(path).map(|bytes| Reply::ok(bytes.clone())),
            None => None,
        });
    }
}

fn object(request: &Request) -> Option<&str> {
    request.path.strip_prefix(&format!("/v1/feed/{FEED}/"))
}

fn nobody(n: u8) -> LineageId {
    LineageId::new([n; 10], Timestamp::from_millis(now()).unwrap())
}

fn token(lineage: LineageId) -> (Revocation, ExpiryDay) {
    (Revocation::Token { lineage }, ExpiryDay::UNKNOWN)
}

// RV-42, RV-47
#[test]
fn rollback() {
    let scene = scene();
    let old = Signer::new(scene.now() - 20_000);
    scene.serve(old.files["head"].clone(), old.files.clone());
    scene.counted("lagging");
    scene.holds((1, 1));
    // Signed later, with a lower sequence: no mirror that merely lags can have that.
    let late = old.head(scene.now() + 5_000);
    scene.serve(late, old.files.clone());
    scene.counted("rolled-back");
    scene.holds((1, 1));
    assert!(scene.verifier.health().alarm);
    scene.recovers();
}

/// A process that starts knows what the one before it knew: by its folder, and by its floor alone when
/// the folder was cleaned.
// RV-49
#[test]
fn rollback_after_a_restart() {
    for is_cleaned in [false, true] {
        let (kit, clock, dir) = (kit(), Arc::new(TestClock::default()), TempDir::new());
        clock.set_wall(kit.clock().read().wall);
        let start = clock.read().wall.millis();
        let origin = Origin::since(start);
        origin.misbehave(without_waits);
        let old = origin.signer(|signer| signer.files.clone());
        let start_again = || {
            let builder = builder(&origin, &kit).clock(Arc::clone(&clock) as _).stale_after(STALE);
            builder.folder(dir.join("feed")).floor(dir.join("floor")).build().unwrap()
        };
        let polls = |verifier: &Verifier, what: &str, wanted: &dyn Fn() -> bool| {
            until(what, || {
                verifier.poll_now();
                wanted()
            });
        };
        let first = start_again();
        first.wait_until_loaded(LONG);
        let (live, dead) = (kit.signer().mint(&Spec::new("acme")), kit.signer().mint(&Spec::new("acme")));
        origin.revoke_at(lineage(&dead), start);
        polls(&first, "the revocation", &|| check(&first, &dead) == REVOKED);
        drop(first);

        if is_cleaned {
            fs::remove_dir_all(dir.join("feed")).unwrap();
        }
        // What was there before the revocation, and then the same, signed anew by who has the key.
        let anew = Signer::new(start).head(start + 5_000);
        for (head, refusal) in [(old["head"].clone(), "lagging"), (anew, "rolled-back")] {
            let old = old.clone();
            origin.misbehave(move |request| {
                let path = object(request)?;
                let bytes = if path == "head" { Some(&head) } else { old.get(path) };
                Some(bytes.map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone())))
            });
            let second = start_again();
            polls(&second, refusal, &|| second.feed().counts().contains_key(refusal));
            if is_cleaned {
                assert_eq!(second.feed().position(), None);
                assert_eq!(check(&second, &dead), Err(NotKnowable::Stale.into()));
                assert_eq!(check(&second, &live), Err(NotKnowable::Stale.into()));
            } else {
                assert_eq!(second.feed().position(), Some((1, 1)));
                assert_eq!((check(&second, &dead), check(&second, &live)), (REVOKED, Ok(())));
            }
        }
        origin.misbehave(without_waits);
        let third = start_again();
        polls(&third, "the truth", &|| third.feed().position() == Some((1, 1)));
        assert_eq!((check(&third, &dead), check(&third, &live)), (REVOKED, Ok(())));
    }
}

// RV-48
#[test]
fn freeze() {
    let scene = scene();
    let start = scene.clock.read().wall;
    let head = scene.origin.signer(|signer| signer.files["head"].clone());
    scene.serve(head, BTreeMap::new());
    scene.revoke(&scene.live);
    let polls = |scene: &Scene| {
        let before = scene.origin.asked().len();
        scene.until("polls", |_| scene.origin.asked().len() > before + 2);
    };
    scene.clock.advance(Duration::from_secs(125));
    polls(&scene);
    assert_eq!(scene.verifier.health().freshness, Freshness::Aging);
    assert_eq!(check(&scene.verifier, &scene.live), Ok(()), "as long as an outage may last");
    scene.clock.advance(STALE);
    polls(&scene);
    assert_eq!(scene.verifier.health().freshness, Freshness::Stale);
    assert_eq!(check(&scene.verifier, &scene.live), Err(NotKnowable::Stale.into()));
    scene.clock.set_wall(start);
    assert_eq!(check(&scene.verifier, &scene.live), Err(NotKnowable::Stale.into()), "a clock set back");
    scene.behave();
    scene.origin.signer(|signer| signer.publish_head(start.millis() + 724_000));
    scene.until("the news", |verifier| check(verifier, &scene.live) == REVOKED);
}

// RV-44
#[test]
fn mix_and_match() {
    let scene = scene();
    let mut other = Signer::new(scene.now());
    for n in 0..2 {
        other.revoke(&[token(nobody(n))], None);
    }
    other.publish_base();
    let honest = scene.origin.signer(|signer| {
        signer.revoke(&[token(nobody(9))], None);
        signer.publish_head(scene.now());
        signer.files["head"].clone()
    });
    let base = scene.origin.signer(|signer| signer.publisher.base_path().to_string());
    let mut files = other.files.clone();
    files.insert(base, other.files[&other.publisher.base_path().to_string()].clone());
    scene.serve(honest, files);
    scene.counted("unlinked");
    scene.holds((1, 1));
    scene.recovers();
}

// RV-51
#[test]
fn endless_body() {
    for kind in ["head", "wait", "keys/", "/delta", "/snapshot/"] {
        let scene = if kind == "wait" { scene_where(|_| None) } else { scene() };
        // A later state whose deltas do not hold, so that the snapshot is asked for as well.
        scene.origin.signer(|signer| {
            signer.revoke(&[token(nobody(9))], None);
            signer.publish_base();
            signer.publish_head(scene.now());
        });
        scene.origin.misbehave(move |request| {
            let path = object(request)?;
            if path.contains(kind) {
                return Some(Reply::Endless(vec![0x55; 65_536]));
            }
            (path.contains("/delta") && kind == "/snapshot/").then(|| Reply::status(404))
        });
        if kind == "keys/" {
            // The next list is looked for every five minutes.
            scene.clock.advance(Duration::from_secs(400));
        }
        scene.counted("too-large");
        assert_eq!(check(&scene.verifier, &scene.dead), REVOKED, "{kind}");
        scene.behave();
        let at = scene.now();
        scene.origin.signer(|signer| {
            signer.revoke(&[token(lineage(&scene.live))], None);
            signer.publish_head(at);
        });
        scene.until(kind, |verifier| check(verifier, &scene.live) == REVOKED);
    }
}

// RV-40, RV-42
#[test]
fn fast_forward_with_a_stolen_publication_key_and_its_end() {
    let scene = scene();
    // Heads from far ahead are refused however high they count.
    let mut thief = Signer::new(scene.now());
    for n in 0..40 {
        thief.revoke(&[token(nobody(n))], None);
    }
    thief.publish_base();
    scene.serve(thief.head(scene.now() + 120_000), thief.files.clone());
    scene.counted("from-the-future");
    scene.holds((1, 1));
    // One within the skew says that the set has lost a row: never within an epoch.
    scene.serve(thief.head(scene.now() + 1_000), thief.files.clone());
    scene.counted("unrevokes");
    scene.holds((1, 1));
    assert!(scene.verifier.health().alarm);
    // The operator signs a list without the stolen key and with a new epoch: that ends it at once.
    scene.behave();
    scene.origin.signer(|signer| {
        signer.keys = vec![key(12)];
        signer.raise_epoch(scene.now() + 2_000);
    });
    scene.until("the new epoch", |verifier| verifier.feed().position() == Some((2, 0)));
    assert!(!scene.verifier.health().alarm, "an epoch ends the alarm");
    scene.serve(thief.head(scene.now() + 3_000), thief.files.clone());
    scene.until("the thief refused", |verifier| {
        let counts = verifier.feed().counts();
        counts.contains_key("no-listed-key") || counts.contains_key("lagging")
    });
    scene.holds((2, 0));
    scene.behave();
    scene.origin.signer(|signer| {
        signer.revoke(&[token(lineage(&scene.live))], None);
        signer.publish_head(scene.now() + 4_000);
    });
    scene.until("the honest signer", |verifier| check(verifier, &scene.live) == REVOKED);
}

/// No list has to come for it: the window of a key is its end, for what it signs then and for what it
/// has signed before.
// RV-42
#[test]
fn a_stolen_publication_key_ends_with_its_window() {
    let scene = scene();
    let start = scene.now();
    let window = |seed, until| PublicationKey {
        key: key(seed).public(),
        not_before: at(start - 3_600_000),
        not_after: at(until),
    };
    scene.origin.signer(|signer| {
        signer.list.version += 1;
        signer.list.keys = vec![window(10, start + 300_000), window(12, start + 86_400_000)];
        let list = KeyListDraft::sign_all(&signer.list, &[&signer.root], &signer.roots()).unwrap();
        signer.put(FeedPath::KeyList { version: signer.list.version }, list);
        signer.publish_head(start);
    });
    scene.until("the list", |verifier| verifier.feed().counts().get("key-lists") == Some(&2));
    scene.holds((1, 1));
    scene.clock.advance(Duration::from_secs(301));
    scene.origin.signer(|signer| {
        signer.keys = vec![key(12)];
        signer.publish_head(scene.now());
    });
    scene.until("the other key", |verifier| verifier.health().freshness == Freshness::Fresh);
    for signed in [start + 299_000, scene.now() + 1_000] {
        let (head, files) = scene.origin.signer(|signer| {
            let head = signer.head_of(&signer.publisher, signed);
            (head.sign(&[&key(10)]).unwrap(), signer.files.clone())
        });
        scene.serve(head, files);
        scene.counted("no-listed-key");
        scene.holds((1, 1));
    }
    scene.recovers();
}

// RV-45, RV-46
#[test]
fn un_revoking_delta_and_snapshot() {
    let scene = scene();
    let today = ExpiryDay::of(Timestamp::from_millis(scene.now()));
    let row = (Revocation::Token { lineage: lineage(&scene.live) }, today);
    scene.origin.signer(|signer| {
        signer.revoke(&[row], None);
        signer.publish_head(scene.now());
    });
    scene.until("a row of today", |verifier| check(verifier, &scene.live) == REVOKED);
    // A step that drops the day while it lasts, under the true key, and a snapshot of the same.
    scene.origin.signer(|signer| {
        signer.revoke(&[], Some(today));
        signer.publish_base();
        signer.publish_head(scene.now());
    });
    scene.counted("dropped-early");
    assert_eq!(check(&scene.verifier, &scene.live), REVOKED);
    scene.counted("unrevokes");
    assert_eq!(check(&scene.verifier, &scene.live), REVOKED);
    assert!(scene.verifier.health().alarm);
    // A snapshot of nothing at a later place.
    let mut emptied = Publisher::begin(FEED, 1, RevocationSet::empty());
    for n in 0..9 {
        let step = emptied.prepare(&[token(nobody(n))], None).unwrap().unwrap();
        emptied.advance(step);
    }
    let snapshot = emptied.snapshot();
    emptied.rebase(&snapshot);
    emptied.retire_deltas_before(10);
    let head = scene.origin.signer(|signer| signer.sign(&signer.head_of(&emptied, scene.now())));
    scene.serve(head, [(emptied.base_path().to_string(), snapshot.to_bytes())].into());
    scene.counted("unrevokes");
    assert_eq!(
        (check(&scene.verifier, &scene.dead), check(&scene.verifier, &scene.live)),
        (REVOKED, REVOKED)
    );
}

// RV-48
#[test]
fn clock_set_back_set_forward_and_suspend() {
    let scene = scene();
    let stop = |scene: &Scene| scene.origin.misbehave(|_| Some(Reply::Close));
    stop(&scene);
    let true_time = scene.clock.read().wall;
    // Back by a day, at once and after an hour: nothing thaws.
    scene.clock.set_wall(Timestamp::from_millis(true_time.millis() - 86_400_000).unwrap());
    scene.holds((1, 1));
    scene.clock.advance(Duration::from_secs(700));
    assert_eq!(check(&scene.verifier, &scene.live), Err(NotKnowable::Stale.into()));
    // With its clock still a day behind it takes what the honest signer says, by its own count of time.
    scene.behave();
    scene.origin.signer(|signer| {
        signer.publish_head(true_time.millis() + 700_000);
    });
    scene.until("fresh again", |verifier| verifier.health().freshness == Freshness::Fresh);
    scene.holds((1, 1));
    // Forward by a day: stale, and the honest head has run out. It is right again when the clock is.
    stop(&scene);
    scene.clock.set_wall(Timestamp::from_millis(true_time.millis() + 90_000_000).unwrap());
    assert_eq!(scene.verifier.health().freshness, Freshness::Stale);
    assert!(check(&scene.verifier, &scene.live).is_err());
    scene.clock.set_wall(Timestamp::from_millis(true_time.millis() + 700_000).unwrap());
    scene.holds((1, 1));
    // Asleep for twenty minutes: awake and stale before a single poll.
    scene.clock.suspend(Duration::from_secs(1_200));
    assert_eq!(scene.verifier.health().freshness, Freshness::Stale);
    assert_eq!(check(&scene.verifier, &scene.live), Err(NotKnowable::Stale.into()));
    scene.behave();
    scene.origin.signer(|signer| signer.publish_head(true_time.millis() + 1_900_000));
    scene.until("fresh after sleep", |verifier| verifier.health().freshness == Freshness::Fresh);
}

// RV-47
#[test]
fn a_mirror_that_lags() {
    let (slow, origin, kit) = (Origin::new(), Origin::new(), kit());
    let old = origin.signer(|signer| signer.files.clone());
    slow.misbehave(move |request| {
        let path = object(request)?;
        let path = if path.starts_with("wait") { "head" } else { path };
        Some(old.get(path).map_or(Reply::status(404), |bytes| Reply::ok(bytes.clone())))
    });
    let mut trust = origin.trust();
    trust.feeds = vec![slow.url(), origin.url()];
    let verifier = builder(&origin, &kit).trust(trust).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    origin.revoke(lineage(&token));
    let poll = |what: &str, wanted: &dyn Fn() -> bool| {
        until(what, || {
            verifier.poll_now();
            wanted()
        });
    };
    // No clock has to pass 90 s for it: the mirror that has nothing newer is left when its turn is over.
    poll("the newer mirror", &|| {
        slow.misbehave(|_| Some(Reply::status(503)));
        check(&verifier, &token) == REVOKED
    });
    assert!(!verifier.health().alarm, "a mirror that lags is no attack");
}

/// Those who come back together after an outage are told apart by chance alone: here the real
/// ones, against a server that says so; 10,000 in the pure machine's test.
#[test]
fn a_herd_that_comes_back() {
    const HERD: usize = 40;
    let (origin, kit) = (Origin::new(), kit());
    origin.misbehave(|_| Some(Reply::status(503).with("retry-after", "1")));
    let herd: Vec<_> = (0..HERD).map(|_| builder(&origin, &kit).build().unwrap()).collect();
    until("each was refused once", || origin.asked().len() >= HERD);
    let during = origin.asked().len();
    origin.behave();
    for verifier in &herd {
        assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh);
    }
    // Told to wait a second, nobody hammered.
    assert!(during < HERD * 20, "{during}");
    let token = kit.signer().mint(&Spec::new("acme"));
    assert!(herd.iter().all(|verifier| check(verifier, &token) == Ok(())));
    origin.revoke(lineage(&token));
    for verifier in &herd {
        until("everybody knows", || check(verifier, &token) == REVOKED);
    }
}

/// Every branch id that the verifier collects is looked up, whatever came first.
#[test]
fn a_child_seen_first_and_its_parents_branch_revoked_afterwards() {
    let scene = scene();
    let (_, parent) = tkcore::TokenBuf::from_text(scene.live.as_str()).unwrap();
    let middle = tkcore::attenuate(&parent.as_token(), &["action in read,write"]).unwrap();
    let child = tkcore::attenuate(&middle.as_token(), &["action in read"]).unwrap();
    let sibling = tkcore::attenuate(&parent.as_token(), &["action in read"]).unwrap();
    let ask = |token: &tkcore::TokenBuf| check(&scene.verifier, &token.to_text());
    assert_eq!((ask(&child), ask(&sibling)), (Ok(()), Ok(())));
    // The last point before the child's own, as the signer names it.
    use tkverify::Signer as _;
    let presented = Presented::new(child.as_token(), &[]).unwrap();
    let branch = *scene.kit.signer().verify(&presented, None).unwrap().branches.last().unwrap();
    scene.origin.signer(|signer| {
        signer.revoke(&[(Revocation::Branch { branch }, ExpiryDay::UNKNOWN)], None);
        signer.publish_head(scene.now());
    });
    scene.until("the branch", |_| ask(&child) == Err(Error::Revoked(Rule::Branch)));
    assert_eq!(ask(&middle), Err(Error::Revoked(Rule::Branch)));
    assert_eq!((ask(&sibling), check(&scene.verifier, &scene.live)), (Ok(()), Ok(())));
}

/// A reader whose writer lives and brings nothing fetches for itself, and goes on looking at the
/// folder while it does: whoever brings the state first is right.
#[test]
fn a_reader_that_helps_itself_still_takes_what_the_folder_brings() {
    let (origin, kit, dir) = (Origin::since(now() - 180_000), kit(), TempDir::new());
    let (feed, fresh) = (dir.join("feed"), dir.join("fresh"));
    let trust = origin.trust_file(&dir);
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    // A writer that lives, and writes nothing.
    let lock = File::options().write(true).open(feed.join(".lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    // A mirror that holds every request and never answers one.
    let silent = Server::start(|_| Reply::Silence);
    let mut trust_of_reader = origin.trust();
    trust_of_reader.feeds = vec![silent.url()];
    let reader = builder(&origin, &kit).trust(trust_of_reader).folder(&feed).build().unwrap();
    assert_eq!(reader.wait_until_loaded(LONG).freshness, Freshness::Aging);
    until("it fetches for itself", || silent.requests() > 0);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&reader, &token), Ok(()));
    origin.revoke(lineage(&token));
    assert_eq!(code(&refresh(&trust, &fresh, &[])), 0);
    // The writer comes to life: data first, then the head, by renames.
    let mut files: Vec<_> = common::files(&fresh).into_iter().collect();
    files.sort_by_key(|(path, _)| path.ends_with("head"));
    for (path, bytes) in files.into_iter().filter(|(path, _)| !path.ends_with(".floor")) {
        let part = dir.join("part");
        fs::write(&part, bytes).unwrap();
        fs::create_dir_all(feed.join(&path).parent().unwrap()).unwrap();
        fs::rename(&part, feed.join(&path)).unwrap();
    }
    until("the folder's state", || check(&reader, &token) == REVOKED);
    assert_eq!(reader.health().freshness, Freshness::Fresh);
    // The writer ends while the state is no longer fresh to anybody: its place is taken.
    drop(lock);
    until("the place of the writer", || reader.feed().counts().contains_key("folder-taken-over"));
}

/// RV-7, RV-46: steps over many kinds and days arrive in whatever order polls see them, and a
/// verifier that was away for all of them agrees with one that saw each.
#[test]
fn one_who_was_away_agrees_with_one_who_saw_every_step() {
    let (origin, kit) = (Origin::new(), kit());
    let seeing = builder(&origin, &kit).build().unwrap();
    seeing.wait_until_loaded(LONG);
    let mut random = Random(3);
    let mut rows = Vec::new();
    for _ in 0..40 {
        let lineage = random.lineage(now());
        rows.push(lineage);
        origin.revoke(lineage);
    }
    until("all of it", || {
        seeing.poll_now();
        seeing.feed().position() == Some((1, 40))
    });
    let away = builder(&origin, &kit).build().unwrap();
    away.wait_until_loaded(LONG);
    until("the same", || away.feed().position() == Some((1, 40)));
    assert!(origin.asked().iter().any(|path| path.contains("/delta16/")), "{:?}", origin.asked());
}
