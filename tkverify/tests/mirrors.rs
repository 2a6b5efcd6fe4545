//! Several addresses of one feed, over real HTTP: of mirrors that lag nobody raises a false alarm,
//! and what all of them do not show is found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::feed_support::{FEED, Signer};
use testkit::http::{Reply, Server};
use tkcore::revocation::{ExpiryDay, Revocation, Rule};
use tkcore::{Error, NotKnowable, TokenBuf, TokenText, Vocabulary, danger};
use tkverify::testing::{Kit, Spec, TestClock};
use tkverify::{Clock as _, Freshness, SystemClock, Trust, Verifier};

/// No measure of speed: an end for a test that hangs.
const LONG: Duration = Duration::from_secs(60);
/// Between two steps of the feed, by the test's clock.
const ROUND: Duration = Duration::from_secs(10);

/// The feed's objects by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A host that has the feed as somebody last copied it.
struct Mirror {
    files: Arc<Mutex<Files>>,
    server: Server,
}

impl Mirror {
    fn of(signer: &Signer) -> Self {
        let files = Arc::new(Mutex::new(signer.files.clone()));
        let served = Arc::clone(&files);
        let server = Server::start(move |request| {
            let name = request.path.strip_prefix(&format!("/v1/feed/{FEED}/"));
            let bytes = name.and_then(|name| served.lock().unwrap().get(name).cloned());
            bytes.map_or(Reply::status(404), Reply::ok)
        });
        Self { files, server }
    }

    fn copy(&self, files: &Files) {
        self.files.lock().unwrap().clone_from(files);
    }
}

/// A signer, two mirrors of its feed, and a verifier that knows both.
struct Scene {
    signer: Signer,
    mirrors: [Mirror; 2],
    clock: Arc<TestClock>,
    kit: Kit,
    verifier: Verifier,
    /// What the feed was, the latest last.
    past: VecDeque<Files>,
}

impl Scene {
    fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let wall = SystemClock::new().read().wall;
        clock.set_wall(wall);
        let kit = Kit::new();
        kit.clock().set_wall(wall);
        let signer = Signer::new(wall.millis());
        let mirrors = [Mirror::of(&signer), Mirror::of(&signer)];
        let root_keys = vec![*signer.root.public().as_bytes()];
        let feeds = mirrors.each_ref().map(|mirror| mirror.server.url()).to_vec();
        let trust = Trust { feed: FEED, threshold: 1, root_keys, signers: vec![], feeds };
        let vocabulary = danger::admit_tenant_wide(Vocabulary::builder()).build().unwrap();
        let asked = Arc::clone(kit.signer()) as _;
        let builder = Verifier::builder().trust(trust).signer(asked).vocabulary(vocabulary);
        let verifier = builder.clock(Arc::clone(&clock) as _).build().unwrap();
        verifier.wait_until_loaded(LONG);
        let past = VecDeque::from([signer.files.clone()]);
        Self { signer, mirrors, clock, kit, verifier, past }
    }

    /// A round passes, in which a token is revoked.
    fn revoke(&mut self) -> TokenText {
        self.clock.advance(ROUND);
        self.kit.clock().set_wall(self.clock.read().wall);
        let token = self.kit.signer().mint(&Spec::new("acme"));
        let (_, bytes) = TokenBuf::from_text(token.as_str()).unwrap();
        let lineage = bytes.as_token().claimed_identifier().unwrap().lineage;
        self.signer.revoke(&[(Revocation::Token { lineage }, ExpiryDay::UNKNOWN)], None);
        self.signer.publish_head(self.clock.read().wall.millis());
        self.past.push_back(self.signer.files.clone());
        token
    }

    /// What the feed was so many rounds ago.
    fn ago(&self, rounds: usize) -> &Files {
        &self.past[self.past.len().saturating_sub(rounds + 1)]
    }

    fn check(&self, token: &TokenText) -> Result<(), Error> {
        let request = self.verifier.request("acme").action("read").build().unwrap();
        self.verifier.check(format!("Bearer {}", token.as_str()), &request).map(|_| ())
    }

    /// Polls until `wanted` holds.
    fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let clock = SystemClock::new();
        while !wanted(self) {
            assert!(clock.read().monotonic < LONG, "{what}: {:?}", self.verifier.health());
            self.verifier.poll_now();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Polls until these mirrors were asked again, twice.
    fn asked<const N: usize>(&self, mirrors: [usize; N]) {
        let requests = |at: usize| self.mirrors[at].server.requests();
        let before = mirrors.map(requests);
        self.until("all are asked", |_| {
            mirrors.iter().zip(before).all(|(at, before)| requests(*at) > before + 1)
        });
    }

    fn lagged(&self) -> u64 {
        self.verifier.feed().counts().get("lagging").copied().unwrap_or(0)
    }
}

const REVOKED: Result<(), Error> = Err(Error::Revoked(Rule::Token));

// RV-47
#[test]
fn a_mirror_that_lags_alarms_nobody() {
    // Whichever is named first, and behind by a moment, by minutes, or for good.
    for late in [0, 1] {
        for rounds in [1, 20, usize::MAX - 1] {
            let mut scene = Scene::new();
            let mut revoked = Vec::new();
            for round in 0..30 {
                revoked.push(scene.revoke());
                scene.mirrors[late].copy(scene.ago(rounds));
                if round % 5 == 4 {
                    // Each is away for a moment: the late one is asked when the other's news is known.
                    scene.mirrors[1 - late].copy(scene.ago(0));
                    scene.mirrors[late].copy(&Files::new());
                    scene.until("the true one", |scene| scene.check(revoked.last().unwrap()) == REVOKED);
                    scene.mirrors[late].copy(scene.ago(rounds));
                    scene.mirrors[1 - late].copy(&Files::new());
                    scene.asked([late]);
                }
                scene.mirrors[1 - late].copy(scene.ago(0));
                // One that shows nothing new is left after 90 s (three heartbeats).
                if let Some(token) = revoked.iter().rev().nth(10) {
                    scene.until("the revocation", |scene| scene.check(token) == REVOKED);
                }
                let health = scene.verifier.health();
                assert!(!health.alarm && health.freshness == Freshness::Fresh, "{health:?}");
            }
            // The late one was asked when more was known, and told apart from one that lies.
            assert!(scene.lagged() > 0, "{:?}", scene.verifier.feed().counts());
        }
    }
}

// RV-47
#[test]
fn a_feed_that_goes_back_at_all_mirrors_is_an_alarm_until_it_goes_on() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.revoke();
    }
    let token = scene.revoke();
    scene.mirrors.iter().for_each(|mirror| mirror.copy(scene.ago(0)));
    scene.until("the revocation", |scene| scene.check(&token) == REVOKED);
    scene.mirrors.iter().for_each(|mirror| mirror.copy(scene.ago(2)));
    let before = scene.lagged();
    scene.until("a head that lags", |scene| scene.lagged() > before);
    assert!(!scene.verifier.health().alarm, "mirrors may lag for a while");
    scene.clock.advance(Duration::from_secs(91));
    scene.until("the alarm", |scene| scene.verifier.health().alarm);
    assert_eq!(scene.check(&token), REVOKED, "nothing comes back to life");
    let next = scene.revoke();
    scene.mirrors[1].copy(scene.ago(0));
    scene.until("the feed goes on at one", |scene| scene.check(&next) == REVOKED);
    assert!(!scene.verifier.health().alarm, "{:?}", scene.verifier.health());
}

// RV-48
#[test]
fn a_feed_that_stands_still_at_all_mirrors_is_found_by_its_age() {
    let mut scene = Scene::new();
    let live = scene.kit.signer().mint(&Spec::new("acme"));
    for (after, freshness) in [(121, Freshness::Aging), (3600, Freshness::Stale)] {
        scene.clock.advance(Duration::from_secs(after));
        scene.asked([0, 1]);
        assert_eq!(scene.verifier.health().freshness, freshness);
    }
    assert_eq!(scene.check(&live), Err(NotKnowable::Stale.into()));
    // One mirror that goes on is enough.
    let token = scene.revoke();
    scene.mirrors[1].copy(scene.ago(0));
    scene.until("the feed goes on at one", |scene| scene.check(&token) == REVOKED);
    assert_eq!(scene.verifier.health().freshness, Freshness::Fresh);
}
