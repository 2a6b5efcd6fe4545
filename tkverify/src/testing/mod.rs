//! For the tests of services: a signer, a feed and a clock inside the test, so that tokens can be
//! minted, revoked and left to grow stale without a process, a socket or a wait.
//!
//! ```
//! use tkverify::testing::{Kit, Spec};
//!
//! let kit = Kit::new();
//! let verifier = kit.verifier();
//! let token = kit.mint(&Spec::new("acme").caveat("action in read"));
//! let request = verifier.request("acme").action("read").build().unwrap();
//! let grant = verifier.check(kit.header(&token), &request).unwrap();
//! kit.revoke_token(grant.lineage());
//! assert!(verifier.check(kit.header(&token), &request).is_err());
//! ```
//!
//! The tokens are real and really verified; only the keys are the test's own. Compiled with the
//! feature `testing` alone: put `tkverify = { features = ["testing"] }` under `[dev-dependencies]`.
//!
//! Time stands still until it is told to pass, so that staleness and expiry are tested in no time:
//!
//! ```
//! # use std::time::Duration;
//! # use tkverify::{Freshness, WhenStale, testing::{Kit, Spec}};
//! let kit = Kit::new();
//! let verifier = kit.builder().grace("read", Duration::from_secs(900)).build().unwrap();
//! let token = kit.mint(&Spec::new("acme").life(None).caveat("action in read,write"));
//! let check = |action: &str| {
//!     let request = verifier.request("acme").action(action).build().unwrap();
//!     verifier.check(kit.header(&token), &request)
//! };
//! assert!(check("write").is_ok());
//!
//! // No head for an hour: the feed is cut off, and the signer is gone too.
//! kit.signer().stop();
//! kit.clock().advance(Duration::from_secs(3600));
//! assert_eq!(verifier.health().freshness, Freshness::Stale);
//! assert_eq!(check("write").unwrap_err().code(), "stale");
//! assert!(check("read").is_ok()); // the service's own, named choice
//!
//! kit.heartbeat();
//! assert!(check("write").is_ok());
//! ```
//!
//! What a readiness probe or a page for operators makes of an alarm and of a feed that fails:
//!
//! ```
//! # use tkverify::testing::Kit;
//! let kit = Kit::new();
//! let verifier = kit.verifier();
//! kit.raise_alarm("two histories of one feed");
//! kit.break_feed("http://mirror.example:7301: no answer");
//! let health = verifier.health();
//! assert!(health.alarm && health.is_ready()); // the last good state is decided by, until it is stale
//! assert_eq!(health.reasons, ["alarm: two histories of one feed", "http://mirror.example:7301: no answer"]);
//! kit.heartbeat();
//! assert!(!verifier.health().alarm && verifier.health().reasons.is_empty());
//! ```

mod authority;
mod clock;
mod signer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use authority::Authority;
pub use clock::TestClock;
pub use signer::{FakeSigner, Spec};
use tkcore::protocol::FeedPosition;
use tkcore::revocation::{ExpiryDay, Revocation, RevocationSet};
use tkcore::{LineageId, Timestamp, TokenBuf, TokenText, attenuate};

use crate::builder::Builder;
use crate::clock::Clock as _;
use crate::feed::{Feed, Follow, Report, View};
use crate::verifier::Verifier;

/// A signer, a feed and a clock that belong together.
#[derive(Debug)]
pub struct Kit {
    clock: Arc<TestClock>,
    signer: Arc<FakeSigner>,
    feed: Feed,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revoked: Vec<Revocation>,
    sequence: u64,
    latest: Option<Timestamp>,
}

/// For how long a fake head vouches: as the signer's default.
const VALID: Duration = Duration::from_secs(3600);

impl Default for Kit {
    fn default() -> Self {
        Self::new()
    }
}

impl Kit {
    /// A fresh signer, a feed that revokes nothing, and a clock at 2026-12-01T00:00:00Z.
    ///
    /// # Panics
    /// When the system has no random bytes: tests only.
    #[must_use]
    pub fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let signer = Arc::new(FakeSigner::new(Arc::clone(&clock)));
        let kit = Self { clock, signer, feed: Feed::new(Follow::Feed), state: Mutex::default() };
        kit.heartbeat();
        kit
    }

    /// The clock that everything of the kit reads.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// The signer that the kit's verifiers ask.
    #[must_use]
    pub fn signer(&self) -> &Arc<FakeSigner> {
        &self.signer
    }

    /// A builder with the kit's signer, feed and clock.
    #[must_use]
    pub fn builder(&self) -> Builder {
        let signer: Arc<FakeSigner> = Arc::clone(&self.signer);
        let clock: Arc<TestClock> = Arc::clone(&self.clock);
        Verifier::builder().signer(signer).clock(clock).given_feed(self.feed.clone())
    }

    /// A verifier with every default.
    ///
    /// # Panics
    /// Never: the defaults build.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the parts of the kit fit each other")]
    pub fn verifier(&self) -> Verifier {
        self.builder().build().expect("the kit's own builder builds")
    }

    /// A builder for a service that holds the keys which the kit's signer delegates to `audience`
    /// for the tokens of these tenants, with the kit's feed and clock. It asks nobody: its signer may
    /// be absent for good, as after [`Builder::delegated_keys`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tkverify::testing::{Kit, Spec};
    /// let kit = Kit::new();
    /// let verifier = kit.delegated(&["acme"], "builds").build().unwrap();
    /// kit.signer().stop();
    /// let token = kit.mint(&Spec::new("acme").audience("builds").subject("ci:7").caveat("action in upload"));
    /// let request = verifier.request("acme").action("upload").build().unwrap();
    /// assert!(verifier.check(kit.header(&token), &request).is_ok());
    ///
    /// // For another audience it holds no key.
    /// let other = kit.mint(&Spec::new("acme").audience("files").caveat("action in upload"));
    /// assert_eq!(verifier.check(kit.header(&other), &request).unwrap_err().code(), "not-authentic");
    /// assert_eq!(kit.signer().asked(), 0);
    /// ```
    ///
    /// # Panics
    /// When a name is none that a tenant or an audience can have.
    #[must_use]
    pub fn delegated(&self, tenants: &[&str], audience: &str) -> Builder {
        let clock: Arc<TestClock> = Arc::clone(&self.clock);
        let builder = Verifier::builder().clock(clock).given_feed(self.feed.clone()).audience(audience);
        tenants.iter().fold(builder, |builder, tenant| {
            let (id, key) = self.signer.delegate(&Spec::new(tenant).audience(audience));
            builder.own_key(id, key)
        })
    }

    /// Mints a token.
    #[must_use]
    pub fn mint(&self, spec: &Spec) -> TokenText {
        self.signer.mint(spec)
    }

    /// The value of an `Authorization` header with this token.
    #[must_use]
    pub fn header(&self, token: &TokenText) -> String {
        format!("Bearer {}", token.as_str())
    }

    /// The value of an `Authorization` header with this token and its discharges.
    #[must_use]
    pub fn header_with(&self, token: &TokenText, discharges: &[TokenText]) -> String {
        discharges.iter().fold(self.header(token), |header, more| format!("{header},{}", more.as_str()))
    }

    /// A third party, whose word tokens can be made to need.
    #[must_use]
    pub fn authority(&self, location: &str) -> Authority {
        Authority::new(Arc::clone(&self.clock), location)
    }

    /// The same token with more caveats, as any holder can make it.
    ///
    /// # Panics
    /// When `caveats` are none that a token can have.
    #[must_use]
    #[allow(clippy::expect_used, reason = "for tests, where a panic is the right answer")]
    pub fn attenuate(&self, token: &TokenText, caveats: &[&str]) -> TokenText {
        let (_, token) = TokenBuf::from_text(token.as_str()).expect("a token");
        attenuate(&token.as_token(), caveats).expect("a possible token").to_text()
    }

    /// Revokes, at the signer and in the feed.
    pub fn revoke(&self, revocation: Revocation) {
        self.signer.revoke(revocation);
        self.publish(revocation);
    }

    /// Revokes a lineage, at the signer and in the feed.
    pub fn revoke_token(&self, lineage: LineageId) {
        self.revoke(Revocation::Token { lineage });
    }

    /// Puts a revocation into the feed alone, as if the signer's own answer had been under way.
    pub fn publish(&self, revocation: Revocation) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).revoked.push(revocation);
        self.heartbeat();
    }

    /// The feed shows an attack or a serious fault, until the next [`Kit::heartbeat`]: health says
    /// so, and the state goes on being decided by.
    pub fn raise_alarm(&self, what: &str) {
        let alarm = Some(what.to_owned());
        self.feed.set_report(Report { alarm, ..self.feed.report() });
    }

    /// Fetching the feed fails for this reason, until the next [`Kit::heartbeat`]: health says so, and
    /// the state grows old with [`Kit::clock`].
    pub fn break_feed(&self, why: &str) {
        self.feed.set_report(Report { trouble: vec![why.to_owned()], ..self.feed.report() });
    }

    /// A new head: the state is vouched for from now on, and the feed behaves again.
    ///
    /// # Panics
    /// When the kit was asked to revoke more than a set can hold.
    #[allow(clippy::expect_used, reason = "a test does not revoke four billion tokens")]
    pub fn heartbeat(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sequence = state.sequence.saturating_add(1);
        let rows = state.revoked.iter().map(|revocation| (*revocation, ExpiryDay::UNKNOWN));
        let set = RevocationSet::build(rows).expect("a test's revocations fit a set");
        let reading = self.clock.read();
        let issued_at = state.latest.map_or(reading.wall, |latest| latest.max(reading.wall));
        state.latest = Some(issued_at);
        self.feed.set_report(Report::default());
        self.feed.swap(Arc::new(View {
            set,
            issued_at,
            valid_until: issued_at.saturating_add(VALID),
            latest_issued: issued_at,
            accepted: reading,
            accepted_now: issued_at,
            position: FeedPosition { epoch: 1, sequence: state.sequence },
        }));
    }
}
