use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tkcore::protocol::{Code, FeedPosition, RpcError, TraceContext, VerifyAnswer};
use tkcore::revocation::{ExpiryDay, Query, Revocation, RevocationSet, Revocations as _, RowKey, Status};
use tkcore::{
    Audience, Basis, BranchIds, Budget, Error, Identifier, KeyClass, KeyId, LineageFacts, LineageId,
    Presented, RootKey, Scratch, ServiceToken, Subject, Tenant, TokenText, mint, verify,
};

use super::TestClock;
use crate::ask::{AskError, Signer};
use crate::clock::Clock as _;
use crate::keys::HeldKey;

/// What a token of a test is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    tenant: String,
    audience: Option<String>,
    subject: Option<String>,
    life: Option<Duration>,
    parent: Option<LineageId>,
    caveats: Vec<String>,
}

impl Spec {
    /// A token of this tenant that lives an hour, without caveats.
    #[must_use]
    pub fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            audience: None,
            subject: None,
            life: Some(Duration::from_secs(3600)),
            parent: None,
            caveats: Vec::new(),
        }
    }

    /// For this audience alone.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.to_owned());
        self
    }

    /// On behalf of this subject.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    /// Expires so long after it was minted, cut to whole seconds; `None`: never.
    #[must_use]
    pub const fn life(mut self, life: Option<Duration>) -> Self {
        self.life = life;
        self
    }

    /// As a service token, exchanged from a token of the lineage `parent`: what revokes that one
    /// revokes this one.
    #[must_use]
    pub const fn service_of(mut self, parent: LineageId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// With one more caveat at mint.
    #[must_use]
    pub fn caveat(mut self, text: &str) -> Self {
        self.caveats.push(text.to_owned());
        self
    }
}

type Hook = Arc<dyn Fn(&Presented<'_>) + Send + Sync>;

/// A signer inside a test. It mints and verifies as the real one does, with keys of its own.
pub struct FakeSigner {
    clock: Arc<TestClock>,
    rows: RowKey,
    keys: Mutex<BTreeMap<KeyId, Arc<Record>>>,
    revoked: Mutex<(Vec<Revocation>, RevocationSet)>,
    asked: AtomicU64,
    traced: Mutex<Option<TraceContext>>,
    stopped: AtomicBool,
    hook: Mutex<Option<Hook>>,
}

struct Record {
    seed: [u8; 32],
    root: RootKey,
    tenant: Tenant,
    audience: Option<Audience>,
}

#[allow(clippy::expect_used, reason = "for tests, where a panic is the right answer")]
impl FakeSigner {
    pub(super) fn new(clock: Arc<TestClock>) -> Self {
        Self {
            clock,
            rows: RowKey::from_bytes(random()),
            keys: Mutex::default(),
            revoked: Mutex::new((Vec::new(), RevocationSet::empty())),
            asked: AtomicU64::new(0),
            traced: Mutex::default(),
            stopped: AtomicBool::new(false),
            hook: Mutex::default(),
        }
    }

    /// Mints a token.
    ///
    /// # Panics
    /// When `spec` is no possible token.
    #[must_use]
    pub fn mint(&self, spec: &Spec) -> TokenText {
        let (key, record) = self.record(spec);
        let now = self.clock.read().wall;
        let expiry = spec.life.map(|life| {
            let seconds = now.saturating_add(life).seconds();
            tkcore::Timestamp::from_seconds(seconds).expect("within the calendar")
        });
        let identifier = Identifier {
            caveats_at_mint: u8::try_from(spec.caveats.len()).expect("at most 255 caveats at mint"),
            key,
            lineage: LineageId::new(random(), now),
            expiry,
            service: spec.parent.map(|parent| ServiceToken { parent }),
            subject: spec.subject.as_deref(),
        };
        let caveats: Vec<&str> = spec.caveats.iter().map(String::as_str).collect();
        mint(&identifier, &caveats, &record.root).expect("a possible token").to_text()
    }

    /// Revokes at this signer; the feed does not know of it.
    ///
    /// # Panics
    /// When it was asked to revoke more than a set can hold.
    pub fn revoke(&self, revocation: Revocation) {
        let mut revoked = lock(&self.revoked);
        revoked.0.push(revocation);
        let rows = revoked.0.iter().map(|revocation| (*revocation, ExpiryDay::UNKNOWN));
        revoked.1 = RevocationSet::build(rows).expect("a test's revocations fit a set");
    }

    /// How many times it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The trace that came with the last ask.
    #[must_use]
    pub fn traced(&self) -> Option<TraceContext> {
        *lock(&self.traced)
    }

    /// No longer answers.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Answers again.
    pub fn start(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }

    /// Runs `hook` while each answer is under way: decided, and not yet received.
    pub fn while_answering(&self, hook: impl Fn(&Presented<'_>) + Send + Sync + 'static) {
        *lock(&self.hook) = Some(Arc::new(hook));
    }

    /// The key under which such tokens are minted, for a service that is to decide alone.
    pub(super) fn delegate(&self, spec: &Spec) -> (KeyId, HeldKey) {
        let (id, record) = self.record(spec);
        let (tenant, audience) = (record.tenant.clone(), record.audience.clone());
        let (root, rows) = (RootKey::derive(&record.seed), self.rows.tenant(&tenant));
        (id, HeldKey::new(root, tenant, audience, KeyClass::Delegable, rows))
    }

    fn record(&self, spec: &Spec) -> (KeyId, Arc<Record>) {
        let tenant = Tenant::new(&spec.tenant).expect("a tenant's name");
        let audience = spec.audience.as_ref().map(|name| Audience::new(name).expect("an audience's name"));
        let mut keys = lock(&self.keys);
        let found = keys.iter().find(|(_, record)| record.tenant == tenant && record.audience == audience);
        if let Some((id, record)) = found {
            return (*id, Arc::clone(record));
        }
        let seed = random();
        let record = Record { seed, root: RootKey::derive(&seed), tenant, audience };
        let (id, record) = (KeyId::from_bytes(random()), Arc::new(record));
        keys.insert(id, Arc::clone(&record));
        (id, record)
    }

    fn answer(&self, presented: &Presented<'_>) -> Result<VerifyAnswer, RpcError> {
        let identifier = presented.claimed_identifier().map_err(|e| RpcError::from(&Error::from(e)))?;
        let record = lock(&self.keys).get(&identifier.key).map(Arc::clone).ok_or(Code::UnknownKey.error())?;
        let rows = self.rows.tenant(&record.tenant);
        let subject = identifier.subject.and_then(|name| Subject::new(name).ok());
        let facts = LineageFacts {
            tenant: record.tenant.clone(),
            audience: record.audience.clone(),
            class: KeyClass::Ordinary,
            tenant_row: rows.tenant_row(),
            subject_row: subject.map(|subject| rows.subject_row(&subject)),
        };
        let mut scratch = Scratch::new();
        let basis = Basis::Root(&record.root);
        let verified =
            verify(*presented, basis, &facts, BranchIds::Collect, &mut scratch, &mut Budget::default())
                .map_err(|e| RpcError::from(&e))?;
        let branches = verified.branch_ids().unwrap_or_default();
        let query = Query::new(verified.identifier(), Some(facts.tenant_row), facts.subject_row, branches);
        // In the order in which a verifier clears, so that both say the same of a token.
        if identifier.expiry.is_some_and(|at| self.clock.read().wall >= at) {
            return Err(Code::Expired.error());
        }
        if let Status::Revoked(rule) = lock(&self.revoked).1.status(&query) {
            return Err(Code::revoked(rule));
        }
        let earlier = branches.split_last().map(|(_, earlier)| earlier.to_vec()).unwrap_or_default();
        let position = FeedPosition { epoch: 1, sequence: 1 };
        Ok(VerifyAnswer { key: identifier.key, branches: earlier, position, facts: facts.clone() })
    }
}

impl Signer for FakeSigner {
    fn verify(
        &self,
        presented: &Presented<'_>,
        trace: Option<TraceContext>,
    ) -> Result<VerifyAnswer, AskError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        *lock(&self.traced) = trace;
        let answer = self.answer(presented);
        let hook = lock(&self.hook).clone();
        if let Some(hook) = hook {
            hook(presented);
        }
        if self.stopped.load(Ordering::SeqCst) {
            return Err(AskError::Unreachable("the test stopped it".to_owned()));
        }
        answer.map_err(AskError::Refused)
    }
}

impl fmt::Debug for FakeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeSigner").field("asked", &self.asked).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::expect_used, reason = "for tests, where a panic is the right answer")]
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
