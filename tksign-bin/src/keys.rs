//! What the secret protects: the store's own keys, and the key records that tokens hang from.

use std::ops::Deref;
use std::time::Duration;

use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver as _, DefaultResolver};

use tkcore::protocol::{KeyInfo, KeyState, StaticKeys};
use tkcore::revocation::publish::FeedSigningKey;
use tkcore::revocation::{FeedKey, LONGEST_WINDOW, PublicationKey, RootKeys};
use tkcore::revocation::{RowKey, TenantKey};
use tkcore::{
    Audience, FeedId, FeedKeyId, KeyClass, KeyId, LineageFacts, Name, RootKey, Subject, Tenant, Timestamp,
};
use zeroize::Zeroizing;

use crate::codec::{BadRecord, Reader, hex, length};
use crate::random;
use crate::seal::keyed;

/// Version of every record of this module, its first byte.
const RECORD: u8 = 1;

/// The store's own keys: made by `init`, sealed, the same for the store's life (`rewrap` seals
/// them anew and changes none), because rows of the feed and look-ups are computed under them and
/// clients pin the public half of the static key.
pub(crate) struct Core {
    pub(crate) feed: FeedId,
    row: RowKey,
    /// Of rows, of look-ups, of tags.
    secrets: Zeroizing<[[u8; 32]; 3]>,
    /// The static Noise key (X25519), and the one before while it is accepted.
    statics: Statics,
}

/// Private halves of static keys, the current one first.
pub type Statics = (Zeroizing<[u8; 32]>, Option<Zeroizing<[u8; 32]>>);

impl Core {
    pub(crate) fn generate() -> Self {
        let mut secrets = Zeroizing::new([[0; 32]; 3]);
        secrets.iter_mut().for_each(|secret| random::fill(secret));
        Self::from_parts(FeedId::from_bytes(random::bytes()), secrets, (random::secret(), None))
    }

    fn from_parts(feed: FeedId, secrets: Zeroizing<[[u8; 32]; 3]>, statics: Statics) -> Self {
        let [row, ..] = *secrets;
        Self { feed, row: RowKey::from_bytes(row), secrets, statics }
    }

    /// The same with other static keys.
    pub(crate) fn with_statics(&self, statics: Statics) -> Self {
        Self::from_parts(self.feed, self.secrets.clone(), statics)
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (current, before) = &self.statics;
        let before = before.as_ref().map_or(&[][..], |before| &before[..]);
        let secrets = self.secrets.as_flattened();
        Zeroizing::new([&[RECORD], &self.feed.as_bytes()[..], secrets, &current[..], before].concat())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = record(bytes)?;
        let feed = FeedId::from_bytes(reader.array()?);
        let mut secrets = Zeroizing::new([[0; 32]; 3]);
        for secret in secrets.iter_mut() {
            *secret = reader.array()?;
        }
        let current = Zeroizing::new(reader.array()?);
        // A second static key is there only during an overlap.
        let before = if reader.is_done() { None } else { Some(Zeroizing::new(reader.array()?)) };
        reader.finish()?;
        Ok(Self::from_parts(feed, secrets, (current, before)))
    }

    /// The private halves of the static keys.
    pub(crate) const fn statics(&self) -> &Statics {
        &self.statics
    }

    /// Their public halves, which clients pin.
    pub(crate) fn static_publics(&self) -> StaticKeys {
        let (current, before) = &self.statics;
        StaticKeys { current: public(current), before: before.as_deref().map(public) }
    }

    pub(crate) fn tenant_key(&self, tenant: &Tenant) -> TenantKey {
        self.row.tenant(tenant)
    }

    /// The keyed hash that names `parts` in look-ups and audit lines.
    pub(crate) fn lookup(&self, kind: &str, parts: &[&[u8]]) -> [u8; 16] {
        let [_, lookup, ..] = &*self.secrets;
        cut(keyed(lookup, &[&[kind.as_bytes()], parts].concat()))
    }

    /// How a name stands in an audit line.
    pub(crate) fn alias(&self, kind: &str, name: &Name) -> String {
        hex(&self.lookup(kind, &[name.as_str().as_bytes()]))
    }

    /// Authenticates a row whose content is public.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let [_, _, tag] = &*self.secrets;
        cut(keyed(tag, parts))
    }
}

/// The public half of a static key. It can be worked out of any 32 bytes.
pub(crate) fn public(secret: &[u8; 32]) -> [u8; 32] {
    let worked_out = DefaultResolver.resolve_dh(&DHChoice::Curve25519).and_then(|mut dh| {
        dh.set(secret);
        dh.pubkey().try_into().ok()
    });
    worked_out.unwrap_or_else(|| random::stop("this build has no X25519"))
}

/// One generation of a (tenant, audience, class): what tokens are minted and verified under.
pub(crate) struct KeyRecord {
    /// As it is shown; the count of live tokens is worked out when somebody asks.
    pub(crate) info: KeyInfo,
    /// The derived root key; gone once the record is retired.
    secret: Option<Zeroizing<[u8; 32]>>,
}

impl Deref for KeyRecord {
    type Target = KeyInfo;

    fn deref(&self) -> &KeyInfo {
        &self.info
    }
}

/// What a key record is for; its generations share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Purpose {
    pub(crate) tenant: Tenant,
    pub(crate) audience: Option<Audience>,
    pub(crate) delegable: bool,
}

impl KeyRecord {
    /// A new generation with 32 random bytes of its own.
    pub(crate) fn generate(purpose: Purpose, generation: u32, created: Timestamp) -> Self {
        let secret = random::secret();
        let info = KeyInfo {
            key: KeyId::from_bytes(random::bytes()),
            tenant: purpose.tenant,
            audience: purpose.audience,
            class: if purpose.delegable { KeyClass::Delegable } else { KeyClass::Ordinary },
            generation,
            state: KeyState::Current,
            created,
            ended: None,
            live_tokens: 0,
        };
        Self { info, secret: Some(secret) }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        Purpose {
            tenant: self.tenant.clone(),
            audience: self.audience.clone(),
            delegable: self.class == KeyClass::Delegable,
        }
    }

    /// The record after a newer generation took over: it only verifies.
    pub(crate) fn rotated(&self, at: Timestamp) -> Self {
        let info = KeyInfo { state: KeyState::Verifying, ended: Some(at), ..self.info.clone() };
        Self { info, secret: self.secret.clone() }
    }

    /// The record after its end: no secret is left in it.
    pub(crate) fn retired(&self, at: Timestamp) -> Self {
        Self {
            info: KeyInfo { state: KeyState::Retired, ended: Some(at), ..self.info.clone() },
            secret: None,
        }
    }

    /// What keys the chain; `None` once retired.
    pub(crate) fn root(&self) -> Option<RootKey> {
        self.secret.as_ref().map(|secret| RootKey::from_derived(secret))
    }

    /// The same secret, for a service of a delegable record's audience and for nobody else.
    pub(crate) fn delegate(&self) -> Option<tkcore::protocol::SecretKey> {
        match (self.class, &self.secret) {
            (KeyClass::Delegable, Some(secret)) => Some(tkcore::protocol::SecretKey::new(**secret)),
            (KeyClass::Delegable, None) | (KeyClass::Ordinary, _) => None,
        }
    }

    /// What the signer vouches for about a lineage under this record.
    pub(crate) fn facts(&self, core: &Core, subject: Option<&Subject>) -> LineageFacts {
        let rows = core.tenant_key(&self.tenant);
        LineageFacts {
            tenant: self.tenant.clone(),
            audience: self.audience.clone(),
            class: self.class,
            tenant_row: rows.tenant_row(),
            subject_row: subject.map(|subject| rows.subject_row(subject)),
        }
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let secret = self.secret.as_ref().map_or(&[][..], |secret| &secret[..]);
        let info = self.info.encode().unwrap_or_else(|_| random::stop("a record does not fit its layout"));
        Zeroizing::new([&[RECORD], &length(secret)[..], secret, &info].concat())
    }

    pub(crate) fn decode(id: &[u8], bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = record(bytes)?;
        let secret = match reader.bytes()? {
            [] => None,
            secret => Some(Zeroizing::new(secret.try_into().map_err(|_| BadRecord("secret"))?)),
        };
        match KeyInfo::decode(reader.rest()) {
            Ok(info) if info.key.as_bytes() == id => Ok(Self { info, secret }),
            Ok(_) | Err(_) => Err(BadRecord("key record")),
        }
    }
}

/// A key that signs heads, with the window in which it may.
pub(crate) struct PublicationSecret {
    seed: Zeroizing<[u8; 32]>,
    listed: PublicationKey,
}

/// How long before it is made a publication key's window opens, for clients whose clock is
/// behind.
const WINDOW_LEAD: Duration = Duration::from_secs(300);

impl PublicationSecret {
    pub(crate) fn generate(now: Timestamp) -> Option<Self> {
        let seed = random::secret();
        let not_before = now.saturating_sub(WINDOW_LEAD);
        Self::from_parts(seed, not_before, not_before.saturating_add(LONGEST_WINDOW))
    }

    fn from_parts(seed: Zeroizing<[u8; 32]>, not_before: Timestamp, not_after: Timestamp) -> Option<Self> {
        let key = FeedSigningKey::from_seed(&seed)?.public();
        Some(Self { seed, listed: PublicationKey { key, not_before, not_after } })
    }

    pub(crate) const fn id(&self) -> FeedKeyId {
        self.listed.key.id()
    }

    pub(crate) const fn listed(&self) -> PublicationKey {
        self.listed
    }

    pub(crate) fn signing(&self) -> Option<FeedSigningKey> {
        FeedSigningKey::from_seed(&self.seed)
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let PublicationKey { not_before, not_after, .. } = self.listed;
        let window = [not_before, not_after].map(|time| time.millis().to_be_bytes());
        Zeroizing::new([&[RECORD], &self.seed[..], window.as_flattened()].concat())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = record(bytes)?;
        let seed = Zeroizing::new(reader.array()?);
        let window = (reader.time()?, reader.time()?);
        reader.finish()?;
        let (Some(from), Some(until)) = window else { return Err(BadRecord("window")) };
        Self::from_parts(seed, from, until).ok_or(BadRecord("publication key"))
    }
}

/// The root keys' record.
pub(crate) fn encode_roots(roots: &RootKeys) -> Vec<u8> {
    let keys: Vec<_> = roots.keys().iter().map(|key| *key.as_bytes()).collect();
    [&[RECORD, roots.threshold()], keys.as_flattened()].concat()
}

pub(crate) fn decode_roots(bytes: &[u8]) -> Result<RootKeys, BadRecord> {
    let mut reader = record(bytes)?;
    let threshold = reader.u8()?;
    let (keys, []) = reader.rest().as_chunks::<32>() else { return Err(BadRecord("root keys")) };
    let keys: Option<Vec<FeedKey>> = keys.iter().map(FeedKey::from_bytes).collect();
    keys.and_then(|keys| RootKeys::new(threshold, &keys).ok()).ok_or(BadRecord("root keys"))
}

/// Starts reading a record; an unknown version is refused.
pub(crate) fn record(bytes: &[u8]) -> Result<Reader<'_>, BadRecord> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        RECORD => Ok(reader),
        _ => Err(BadRecord("unknown record version")),
    }
}

fn cut(hash: [u8; 32]) -> [u8; 16] {
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(delegable: bool) -> KeyRecord {
        let purpose = Purpose {
            tenant: Name::new("acme").unwrap(),
            audience: delegable.then(|| Name::new("billing").unwrap()),
            delegable,
        };
        KeyRecord::generate(purpose, 3, Timestamp::from_millis(1_790_000_000_123).unwrap())
    }

    #[test]
    fn records_read_back_and_refuse_another_version_or_a_cut() {
        let core = Core::generate();
        assert_eq!(Core::decode(&core.encode()).unwrap().encode(), core.encode());
        for delegable in [false, true] {
            let key = example(delegable);
            let bytes = key.encode();
            let again = KeyRecord::decode(key.key.as_bytes(), &bytes).unwrap();
            assert_eq!(again.encode(), bytes);
            assert_eq!(again.purpose(), key.purpose());
            for len in 0..bytes.len() {
                assert!(KeyRecord::decode(key.key.as_bytes(), &bytes[..len]).is_err());
            }
            let mut newer = bytes.clone();
            newer[0] = 2;
            assert!(KeyRecord::decode(key.key.as_bytes(), &newer).is_err());
        }
    }

    #[test]
    fn a_retired_record_holds_no_secret() {
        let key = example(true);
        let secret = key.secret.clone().unwrap();
        let at = Timestamp::from_millis(1_790_000_000_999).unwrap();
        let retired = key.rotated(at).retired(at);
        assert!(retired.root().is_none() && retired.delegate().is_none());
        assert!(!retired.encode().windows(32).any(|window| window == &secret[..]));
    }

    #[test]
    fn an_ordinary_key_is_never_delegated() {
        assert!(example(false).delegate().is_none());
        assert!(example(true).delegate().is_some());
    }
}
