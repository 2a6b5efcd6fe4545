//! Verifiers that follow a feed over real sockets and real folders.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "follow/attacks.rs"]
mod attacks;
mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{Origin, code, now, refresh};
use testkit::TempDir;
use testkit::http::{Reply, Server};
use tkcore::revocation::Rule;
use tkcore::{Error, LineageId, NotKnowable, TokenBuf, TokenText, Vocabulary, danger};
use tkverify::testing::{FakeSigner, Kit, Spec, TestClock};
use tkverify::{Builder, Clock, Freshness, Reading, SystemClock, Trust, Verifier};

/// No measure of speed: an end for a test that hangs.
const LONG: Duration = Duration::from_secs(60);

/// A kit whose tokens are minted now.
fn kit() -> Kit {
    let kit = Kit::new();
    kit.clock().set_wall(SystemClock::new().read().wall);
    kit
}

fn signer(kit: &Kit) -> Arc<FakeSigner> {
    Arc::clone(kit.signer())
}

fn builder(origin: &Origin, kit: &Kit) -> Builder {
    let wide = danger::admit_tenant_wide(Vocabulary::builder()).build().unwrap();
    Verifier::builder().trust(origin.trust()).signer(signer(kit)).vocabulary(wide)
}

/// For how long a state is fresh where a test waits for processes: longer than a loaded machine takes.
const UNTIL_AGING: Duration = Duration::from_secs(3000);

fn check(verifier: &Verifier, token: &TokenText) -> Result<(), Error> {
    let request = verifier.request("acme").action("read").build().unwrap();
    verifier.check(format!("Bearer {}", token.as_str()), &request).map(|_| ())
}

fn lineage(token: &TokenText) -> LineageId {
    let (_, token) = TokenBuf::from_text(token.as_str()).unwrap();
    token.as_token().claimed_identifier().unwrap().lineage
}

/// Waits until `wanted` holds, in small steps; fails long after it should have.
fn until(what: &str, wanted: impl Fn() -> bool) {
    let clock = SystemClock::new();
    while !wanted() {
        assert!(clock.read().monotonic < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_revocation_arrives_by_long_poll() {
    let (origin, kit) = (Origin::new(), kit());
    let verifier = builder(&origin, &kit).build().unwrap();
    assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    kit.signer().stop();
    assert_eq!(check(&verifier, &token), Ok(()));
    until("a held request", || origin.asked().iter().any(|path| path.starts_with("wait")));
    origin.revoke(lineage(&token));
    until("the revocation", || check(&verifier, &token) == Err(Error::Revoked(Rule::Token)));
    assert_eq!(verifier.feed().position(), Some((1, 1)));
    assert_eq!(verifier.feed().counts().get("advanced"), Some(&1));
    // The poll interval of the head is 10 s: it came by the held request.
    assert!(!origin.asked().iter().skip(1).any(|path| path == "head"), "{:?}", origin.asked());
}

#[test]
fn a_server_without_long_poll_is_polled_and_poll_now_does_not_wait() {
    let (origin, kit) = (Origin::new(), kit());
    origin.misbehave(|request| request.path.contains("/wait").then(|| Reply::status(404)));
    let verifier = builder(&origin, &kit).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    until("the try to wait", || origin.asked().iter().any(|path| path.starts_with("wait")));
    origin.revoke(lineage(&token));
    // The next poll is 8 to 12 s off; asked for, it comes now.
    until("the revocation", || {
        verifier.poll_now();
        check(&verifier, &token) == Err(Error::Revoked(Rule::Token))
    });
}

#[test]
fn poll_now_waits_for_no_held_request() {
    let (origin, kit) = (Origin::new(), kit());
    origin.misbehave(|request| request.path.contains("/wait").then_some(Reply::Silence));
    let verifier = builder(&origin, &kit).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    until("a held request", || origin.asked().iter().any(|path| path.starts_with("wait")));
    origin.revoke(lineage(&token));
    verifier.poll_now();
    until("the revocation", || check(&verifier, &token) == Err(Error::Revoked(Rule::Token)));
}

/// A service may ask with every request of its own: the held request and its thread are kept, and
/// not one more made each time.
#[test]
fn poll_now_asks_beside_a_held_request_and_keeps_it() {
    let (origin, kit) = (Origin::new(), kit());
    origin.misbehave(|request| request.path.contains("/wait").then_some(Reply::Silence));
    let verifier = builder(&origin, &kit).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let asked = |start: &str| origin.asked().iter().filter(|path| path.starts_with(start)).count();
    until("a held request", || asked("wait") > 0);
    for _ in 0..30 {
        let before = verifier.feed().counts().get("fetches").copied();
        verifier.poll_now();
        until("an answer", || verifier.feed().counts().get("fetches").copied() > before);
    }
    // One, unless this took longer than the minute for which it is held.
    assert!(asked("wait") < 4, "{:?}", origin.asked());
    assert!(asked("head") > 30);
}

/// A proxy limits how often the head is asked for, and holds requests all the same.
#[test]
fn a_held_request_outlives_a_refusal_of_the_head_beside_it() {
    let (origin, kit) = (Origin::new(), kit());
    let verifier = builder(&origin, &kit).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    until("a held request", || origin.asked().iter().any(|path| path.starts_with("wait")));
    let patience = || Reply::Answer(429, vec![("Retry-After".to_owned(), "300".to_owned())], Vec::new());
    origin.misbehave(move |request| request.path.ends_with("/head").then(patience));
    let fetches = || verifier.feed().counts().get("fetches").copied();
    let before = fetches();
    verifier.poll_now();
    until("the refusal", || fetches() > before);
    // It comes by the request that was held before.
    origin.revoke(lineage(&token));
    until("the revocation", || check(&verifier, &token) == Err(Error::Revoked(Rule::Token)));
}

/// A reader whose state is old fetches for itself, and its service asks all the time.
#[test]
fn a_reader_that_is_asked_all_the_time_still_looks_at_the_folder() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let writer = builder(&origin, &kit).folder(dir.path()).build().unwrap();
    writer.wait_until_loaded(LONG);
    let silent = Server::start(|_| Reply::Silence);
    let trust = Trust { feeds: vec![silent.url()], ..origin.trust() };
    let reader = builder(&origin, &kit).trust(trust).folder(dir.path()).aging_after(Duration::ZERO);
    let reader = reader.build().unwrap();
    reader.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&reader, &token), Ok(()));
    until("a request of its own", || silent.requests() > 0);
    origin.revoke(lineage(&token));
    until("the revocation", || {
        reader.poll_now();
        check(&reader, &token) == Err(Error::Revoked(Rule::Token))
    });
}

/// An answer that was made before a revocation, and comes after somebody asked because of it.
#[test]
fn poll_now_during_a_request_asks_once_more() {
    let (origin, kit) = (Origin::new(), kit());
    origin.misbehave(|request| request.path.contains("/wait").then(|| Reply::status(404)));
    // A clock that stands still: no poll comes due by itself.
    let clock = Arc::new(TestClock::default());
    clock.set_wall(SystemClock::new().read().wall);
    let verifier = builder(&origin, &kit).clock(clock).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    until("the try to wait", || origin.asked().iter().any(|path| path.starts_with("wait")));
    let old = origin.signer(|signer| signer.files["head"].clone());
    let (came, comes) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    origin.misbehave(move |request| {
        if !request.path.ends_with("/head") {
            return request.path.contains("/wait").then(|| Reply::status(404));
        }
        came.send(()).ok()?;
        // The first is held until it is let go; later ones find nobody who would.
        released.recv().ok().map(|()| Reply::ok(old.clone()))
    });
    verifier.poll_now();
    comes.recv_timeout(LONG).unwrap();
    origin.revoke(lineage(&token));
    verifier.poll_now();
    release.send(()).unwrap();
    drop(release);
    drop(comes);
    until("the revocation", || check(&verifier, &token) == Err(Error::Revoked(Rule::Token)));
}

#[test]
fn stopping_waits_for_no_held_request() {
    let (origin, kit) = (Origin::new(), kit());
    origin.misbehave(|request| request.path.contains("/wait").then_some(Reply::Silence));
    let dir = TempDir::new();
    let verifier = builder(&origin, &kit).folder(dir.join("feed")).build().unwrap();
    verifier.wait_until_loaded(LONG);
    until("a held request", || origin.asked().iter().any(|path| path.starts_with("wait")));
    let clock = SystemClock::new();
    verifier.stop();
    drop(verifier);
    // The request is held for 55 s.
    assert!(clock.read().monotonic < Duration::from_secs(40));
    // The folder's lock is free again.
    assert_eq!(code(&refresh(&origin.trust_file(&dir), &dir.join("feed"), &[])), 0);
}

#[test]
fn nothing_loaded_refuses_and_says_so() {
    let kit = kit();
    let origin = Origin::new();
    origin.misbehave(|_| Some(Reply::Close));
    let verifier = builder(&origin, &kit).build().unwrap();
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Err(NotKnowable::Stale.into()));
    until("the reason", || verifier.health().reasons.iter().any(|reason| reason.contains(&origin.url())));
    let health = verifier.health();
    assert!(!health.is_ready());
    assert_eq!(health.reasons[0], "no revocation state was loaded yet");
    // It recovers by itself.
    origin.behave();
    assert_eq!(verifier.wait_until_loaded(LONG).freshness, Freshness::Fresh);
    assert_eq!(check(&verifier, &token), Ok(()));
}

#[test]
fn a_verifier_lives_from_a_folder_alone_that_refresh_brings() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let (trust, feed) = (origin.trust_file(&dir), dir.join("feed"));
    // Started before the folder is there.
    let verifier =
        builder(&origin, &kit).folder(&feed).folder_alone().aging_after(UNTIL_AGING).build().unwrap();
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Err(NotKnowable::Stale.into()));
    assert!(origin.asked().is_empty());
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    until("the first state", || check(&verifier, &token).is_ok());
    origin.revoke(lineage(&token));
    assert_eq!(code(&refresh(&trust, &feed, &[])), 0);
    until("the revocation", || check(&verifier, &token) == Err(Error::Revoked(Rule::Token)));
    // A damaged head takes nothing away.
    let head = fs::read(feed.join("head")).unwrap();
    fs::write(feed.join("head"), &head[..head.len() / 2]).unwrap();
    until("the damage is seen", || verifier.feed().counts().contains_key("folder-refused"));
    assert_eq!(check(&verifier, &token), Err(Error::Revoked(Rule::Token)));
    assert_eq!(verifier.health().freshness, Freshness::Fresh);
}

#[test]
fn a_tree_as_it_is_published_is_taken_too() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let token = kit.signer().mint(&Spec::new("acme"));
    origin.revoke(lineage(&token));
    let root = dir.join(format!("v1/feed/{}", common::feed_support::FEED));
    origin.signer(|signer| {
        for (name, bytes) in &signer.files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    });
    let verifier = builder(&origin, &kit).folder(dir.path()).folder_alone().build().unwrap();
    verifier.wait_until_loaded(LONG);
    let other = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &other), Ok(()));
    assert_eq!(check(&verifier, &token), Err(Error::Revoked(Rule::Token)));
}

#[test]
fn of_two_processes_one_writes_and_both_follow() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let feed = dir.join("feed");
    let writer = builder(&origin, &kit).folder(&feed).build().unwrap();
    writer.wait_until_loaded(LONG);
    let before = origin.asked().len();
    let reader = builder(&origin, &kit).folder(&feed).build().unwrap();
    reader.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!((check(&writer, &token), check(&reader, &token)), (Ok(()), Ok(())));
    origin.revoke(lineage(&token));
    let revoked = Err(Error::Revoked(Rule::Token));
    until("both know", || check(&writer, &token) == revoked && check(&reader, &token) == revoked);
    // One delta was fetched, by the writer alone.
    let asked = origin.asked().split_off(before);
    assert_eq!(asked.iter().filter(|path| path.contains("/delta/")).count(), 1, "{asked:?}");
    // The writer goes; the reader takes over and follows the origin itself.
    drop(writer);
    let other = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&reader, &other), Ok(()));
    origin.revoke(lineage(&other));
    until("the reader took over", || check(&reader, &other) == Err(Error::Revoked(Rule::Token)));
}

#[test]
fn a_folder_that_is_deleted_is_written_whole_again() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let feed = dir.join("feed");
    let (first, second) = (kit.signer().mint(&Spec::new("acme")), kit.signer().mint(&Spec::new("acme")));
    origin.revoke(lineage(&first));
    let writer = builder(&origin, &kit).folder(&feed).build().unwrap();
    writer.wait_until_loaded(LONG);
    until("the folder", || feed.join("head").exists());
    // The writer may still be putting files there.
    until("the folder gone", || fs::remove_dir_all(&feed).is_ok() || !feed.exists());
    origin.revoke(lineage(&second));
    until("the folder again", || feed.join("head").exists());
    let reader = builder(&origin, &kit).folder(&feed).folder_alone().build().unwrap();
    reader.wait_until_loaded(LONG);
    for token in [&first, &second] {
        assert_eq!(check(&reader, token), Err(Error::Revoked(Rule::Token)));
    }
    // The lock is the new folder's.
    drop(reader);
    assert!(writer.feed().counts().contains_key("folder-deleted"));
}

/// Deletes a folder when the feed's thread first looks at the clock after it wrote a head there: between
/// the write of a state and its use.
#[derive(Debug)]
struct Deleting {
    folder: PathBuf,
    done: AtomicBool,
    clock: SystemClock,
}

impl Clock for Deleting {
    fn read(&self) -> Reading {
        let is_feed = std::thread::current().name() == Some("tk-feed");
        if is_feed && self.folder.join("head").exists() && !self.done.swap(true, Ordering::SeqCst) {
            fs::remove_dir_all(&self.folder).unwrap();
        }
        self.clock.read()
    }
}

#[test]
fn a_folder_deleted_while_its_state_is_put_into_use_is_written_whole_again() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let feed = dir.join("feed");
    let (first, second) = (kit.signer().mint(&Spec::new("acme")), kit.signer().mint(&Spec::new("acme")));
    origin.revoke(lineage(&first));
    let clock = SystemClock::new();
    let clock = Arc::new(Deleting { folder: feed.clone(), done: AtomicBool::new(false), clock });
    let writer = builder(&origin, &kit).folder(&feed).clock(clock).build().unwrap();
    writer.wait_until_loaded(LONG);
    origin.revoke(lineage(&second));
    until("the folder again", || feed.join("head").exists());
    let reader = builder(&origin, &kit).folder(&feed).folder_alone().build().unwrap();
    assert_eq!(reader.wait_until_loaded(LONG).freshness, Freshness::Fresh, "{}", reader.health());
    for token in [&first, &second] {
        assert_eq!(check(&reader, token), Err(Error::Revoked(Rule::Token)));
    }
    // Nobody else can write beside it.
    let report = refresh(&origin.trust_file(&dir), &feed, &["--json"]);
    assert!(common::text(&report.stdout).contains("\"wrote\":false"), "{report:?}");
}

/// The folder was deleted and made anew by another process before its writer looked again: the lock that
/// it holds is of a file that is gone.
#[test]
fn a_writer_whose_folder_another_process_made_anew_writes_no_more() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let feed = dir.join("feed");
    let first = builder(&origin, &kit).folder(&feed).build().unwrap();
    first.wait_until_loaded(LONG);
    until("the folder", || feed.join("head").exists());
    until("a held request", || origin.asked().iter().any(|path| path.starts_with("wait")));
    until("the folder gone", || fs::remove_dir_all(&feed).is_ok() || !feed.exists());
    let second = builder(&origin, &kit).folder(&feed).build().unwrap();
    second.wait_until_loaded(LONG);
    until("the folder again", || feed.join("head").exists());
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!((check(&first, &token), check(&second, &token)), (Ok(()), Ok(())));
    origin.revoke(lineage(&token));
    let revoked = Err(Error::Revoked(Rule::Token));
    until("both know", || check(&first, &token) == revoked && check(&second, &token) == revoked);
    until("it is seen", || first.feed().counts().contains_key("folder-deleted"));
    assert!(!second.feed().counts().contains_key("folder-deleted"));
}

/// The signer and its services shared a clock that was a day ahead; it is right again, and an epoch was
/// begun. Nobody is started anew.
// RV-48
#[test]
fn a_new_epoch_is_fresh_after_a_clock_that_was_ahead() {
    let clock = Arc::new(TestClock::default());
    let right = SystemClock::new().read().wall;
    let ahead = right.saturating_add(Duration::from_secs(86_400));
    clock.set_wall(ahead);
    let (origin, kit, dir) = (Origin::since(ahead.millis()), kit(), TempDir::new());
    let build = |builder: Builder| builder.folder(dir.path()).clock(Arc::clone(&clock) as _).build().unwrap();
    let writer = build(builder(&origin, &kit));
    assert_eq!(writer.wait_until_loaded(LONG).freshness, Freshness::Fresh);
    let reader = build(builder(&origin, &kit).folder_alone());
    assert_eq!(reader.wait_until_loaded(LONG).freshness, Freshness::Fresh);
    clock.set_wall(right);
    origin.signer(|signer| signer.raise_epoch(right.millis()));
    for verifier in [&writer, &reader] {
        until("the epoch", || {
            verifier.poll_now();
            verifier.feed().position().is_some_and(|(epoch, _)| epoch == 2)
        });
        assert_eq!(verifier.health().freshness, Freshness::Fresh, "{}", verifier.health());
    }
}

#[test]
fn a_restart_is_not_cold_and_does_not_forget() {
    let (origin, kit, dir) = (Origin::new(), kit(), TempDir::new());
    let feed = dir.join("feed");
    let token = kit.signer().mint(&Spec::new("acme"));
    origin.revoke(lineage(&token));
    let first = builder(&origin, &kit).folder(&feed).build().unwrap();
    first.wait_until_loaded(LONG);
    drop(first);
    origin.misbehave(|_| Some(Reply::Close));
    let second = builder(&origin, &kit).folder(&feed).build().unwrap();
    assert_eq!(second.wait_until_loaded(LONG).freshness, Freshness::Fresh);
    assert_eq!(check(&second, &token), Err(Error::Revoked(Rule::Token)));
}

#[test]
fn a_mirror_that_lies_is_left_for_one_that_does_not() {
    let (origin, kit) = (Origin::new(), kit());
    let page = Origin::new();
    page.misbehave(|_| Some(Reply::ok("<html>please log in</html>")));
    let mut trust = origin.trust();
    trust.feeds = vec![page.url(), origin.url()];
    let verifier = builder(&origin, &kit).trust(trust).aging_after(UNTIL_AGING).build().unwrap();
    verifier.wait_until_loaded(LONG);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Ok(()));
    origin.revoke(lineage(&token));
    until("the honest mirror", || {
        verifier.poll_now();
        check(&verifier, &token) == Err(Error::Revoked(Rule::Token))
    });
    assert_eq!(verifier.health().freshness, Freshness::Fresh);
    assert!(verifier.feed().counts().contains_key("malformed"));
}

#[test]
fn an_old_head_is_stale_from_the_start_and_the_alarm_keeps_the_last_good_state() {
    let (origin, kit) = (Origin::since(now() - 1_000_000), kit());
    let verifier = builder(&origin, &kit).stale_after(Duration::from_secs(900)).build().unwrap();
    let health = verifier.wait_until_loaded(LONG);
    assert_eq!(health.freshness, Freshness::Stale);
    let token = kit.signer().mint(&Spec::new("acme"));
    assert_eq!(check(&verifier, &token), Err(NotKnowable::Stale.into()));

    let origin = Origin::new();
    let verifier = builder(&origin, &kit).build().unwrap();
    verifier.wait_until_loaded(LONG);
    origin.revoke(lineage(&token));
    until("the revocation", || check(&verifier, &token) == Err(Error::Revoked(Rule::Token)));
    // Another history at the same position, under the true key.
    let mut other = common::feed_support::Signer::new(now());
    let nobody = LineageId::new([1; 10], SystemClock::new().read().wall);
    let row = tkcore::revocation::Revocation::Token { lineage: nobody };
    other.revoke(&[(row, tkcore::revocation::ExpiryDay::UNKNOWN)], None);
    let head = other.head(now());
    origin.misbehave(move |request| {
        (request.path.contains("/wait") || request.path.ends_with("/head")).then(|| Reply::ok(head.clone()))
    });
    until("the alarm", || {
        verifier.poll_now();
        verifier.health().alarm
    });
    assert!(verifier.health().reasons[0].contains("Equivocation"));
    assert_eq!(check(&verifier, &token), Err(Error::Revoked(Rule::Token)));
}
