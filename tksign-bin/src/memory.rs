//! Everything the signer answers from, held in memory: what the store says, opened.
//!
//! Two copies exist. The writer thread decides on its own one, which runs ahead by the group
//! that is being committed; what everybody else reads follows when the group is durable. When
//! a commit fails the writer goes back to the readers' copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tkcore::protocol::{AuditHead, ClientInfo, ClientKey, FeedPosition, KeyState};
use tkcore::revocation::publish::{FeedSigningKey, RevocationRow, Revoked};
use tkcore::revocation::{HEAD_SIGNATURES, Head, KeyList, RevocationSet, RootKeys};
use tkcore::{FeedKeyId, KeyId, Timestamp};
use zeroize::Zeroizing;

use crate::audit;
use crate::codec::{BadRecord, Reader};
use crate::keys::{Core, KeyRecord, PublicationSecret, Purpose, decode_roots, encode_roots};
use crate::random;
use crate::seal::{Authority, Kek, OTHER_SECRET};
use crate::secret::{Secret, SecretError};
use crate::store::{Op, Order, Scan, Store, StoreError, Table};

pub(crate) const AUTHORITY: &[u8] = b"authority";
pub(crate) const CHECK: &[u8] = b"check";
pub(crate) const CORE: &[u8] = b"core";
const ROOTS: &[u8] = b"roots";
pub(crate) const LAST_MINT: &[u8] = b"last-mint";

/// Rows read at once when a table is loaded.
const PAGE: usize = 4096;

/// Why a signer cannot start, or cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum SignerError {
    /// The store.
    Store(StoreError),
    /// The injected secret.
    Secret(SecretError),
    /// The store is sealed under another secret.
    WrongSecret,
    /// A record does not open, or does not read as what it should be: changed, moved, or cut.
    Record(Table, &'static str),
    /// The revocation rows do not add up to what the last signed head says.
    Feed(String),
    /// No publication key of this signer is listed and within its window.
    Publication,
    /// The last head was signed at this time, further ahead of the clock than anybody believes.
    HeadAhead(Timestamp),
    /// The writer has ended.
    Stopped,
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Secret(error) => error.fmt(f),
            Self::WrongSecret => f.write_str(
                "the secret is not the one this store is sealed under: inject the right one (after a `rewrap` \
                 that is the new one)",
            ),
            Self::Record(table, what) => {
                write!(f, "table {}: a record does not read ({what}): restore from the backup", table.name())
            }
            Self::Feed(what) => write!(
                f,
                "the store does not hold what was published ({what}): rows were lost; restore from the backup and \
                 see `tksign restore-check`"
            ),
            Self::Publication => f.write_str(
                "no publication key is valid, so no head can be signed: `tksign keys publication` makes the next \
                 list, to be signed with the offline root keys",
            ),
            Self::HeadAhead(at) => write!(
                f,
                "the clock is behind the last signed head ({at}): set the clock right, or if it was that head's \
                 clock that was wrong, raise the epoch: `tksign keys publication prepare --next-epoch`"
            ),
            Self::Stopped => f.write_str("the signer has stopped"),
        }
    }
}

impl std::error::Error for SignerError {}

impl From<StoreError> for SignerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SecretError> for SignerError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

/// The opened records.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) authority: Authority,
    pub(crate) kek: Arc<Kek>,
    pub(crate) core: Arc<Core>,
    pub(crate) keys: BTreeMap<KeyId, Arc<KeyRecord>>,
    current: BTreeMap<Purpose, KeyId>,
    pub(crate) clients: BTreeMap<ClientKey, Arc<ClientInfo>>,
    /// Clients whose private keys lie beside the store, for the command line: they count on the
    /// control socket only, so that a stolen disk speaks to nobody.
    pub(crate) local: BTreeSet<ClientKey>,
    pub(crate) revoked: Revoked,
    /// Revocations that no step has covered yet, by row key.
    pub(crate) uncovered: BTreeMap<Vec<u8>, RevocationRow>,
    pub(crate) revocations: u64,
    pub(crate) tokens: u64,
    pub(crate) last_mint: Timestamp,
    mint_row: Vec<u8>,
    pub(crate) audit: AuditHead,
    pub(crate) position: FeedPosition,
    pub(crate) roots: Arc<RootKeys>,
    pub(crate) publication: BTreeMap<FeedKeyId, Arc<PublicationSecret>>,
    pub(crate) key_list: Arc<CurrentList>,
    pub(crate) head: Option<Box<Head>>,
    /// The last head as it is stored: what the next one is compared with.
    pub(crate) head_bytes: Option<Vec<u8>>,
}

/// The key list in force, and its bytes.
#[derive(Debug)]
pub(crate) struct CurrentList {
    pub(crate) list: KeyList,
    pub(crate) bytes: Vec<u8>,
}

/// What a committed change does to the memory.
#[derive(Clone)]
pub(crate) enum Effect {
    Key(Arc<KeyRecord>),
    Client(Arc<ClientInfo>),
    ClientGone(ClientKey),
    Revoked(RevocationRow),
    Minted(Timestamp),
    TokensGone(u64),
    RevocationsGone(u64),
    /// A step was closed. What it does not hold was committed beside it, or did not fit, and waits
    /// for the next one.
    Step(FeedPosition, Arc<RevocationSet>),
    Position(FeedPosition),
    Head(Box<Head>, Vec<u8>),
    Publication(Arc<PublicationSecret>),
    KeyList(Arc<CurrentList>),
    Kek(Arc<Kek>),
    Core(Arc<Core>),
}

impl Memory {
    /// The first rows of a new store: all its keys, and a key list that `sign` makes of the
    /// feed's id and the first publication key.
    pub(crate) fn initial(
        secret: &Secret,
        roots: &RootKeys,
        first: &PublicationSecret,
        sign: impl FnOnce(&KeyList) -> Option<Vec<u8>>,
    ) -> Option<Vec<Op>> {
        let authority = Authority(crate::random::bytes());
        let (core, kek) = (Core::generate(), Kek::new(secret, authority));
        let list = sign(&KeyList { feed: core.feed, version: 1, epoch: 1, keys: vec![first.listed()] })?;
        let clear = |table: Table, key: &[u8], value: &[u8]| Op::Create(table, key.to_vec(), value.to_vec());
        let sealed = |table: Table, key: &[u8], plain: &[u8]| clear(table, key, &kek.seal(table, key, plain));
        Some(vec![
            clear(Table::Meta, AUTHORITY, &authority.0),
            clear(Table::Meta, CHECK, &kek.check_value()),
            sealed(Table::Meta, CORE, &core.encode()),
            sealed(Table::Meta, ROOTS, &encode_roots(roots)),
            sealed(Table::Meta, LAST_MINT, &[0; 8]),
            sealed(Table::PublicationKeys, first.id().as_bytes(), &first.encode()),
            clear(Table::KeyLists, &1u64.to_be_bytes(), &list),
        ])
    }

    /// Which store this is; in clear.
    pub(crate) fn authority(store: &dyn Store) -> Result<Authority, SignerError> {
        let wrong = SignerError::Record(Table::Meta, "authority");
        let value = store.get(Table::Meta, AUTHORITY)?.and_then(|value| value.try_into().ok());
        value.map(Authority).ok_or(wrong)
    }

    /// Opens everything in the store.
    pub(crate) fn load(store: &dyn Store, secret: &Secret) -> Result<Self, SignerError> {
        let meta =
            |key: &[u8]| store.get(Table::Meta, key)?.ok_or(SignerError::Record(Table::Meta, "missing"));
        let authority = Self::authority(store)?;
        let kek = Kek::new(secret, authority);
        if !kek.matches(&meta(CHECK)?) {
            return Err(SignerError::WrongSecret);
        }
        let open = |key: &[u8]| unseal(&kek, Table::Meta, key, &meta(key)?);
        let core = Core::decode(&open(CORE)?).map_err(bad(Table::Meta))?;
        // One for each signer that shares the store.
        let mut last_mint = None;
        each(store, Table::Meta, |key, value| {
            if key.starts_with(LAST_MINT) {
                let plain = unseal(&kek, Table::Meta, key, value)?;
                last_mint = last_mint.max(Reader::new(&plain).time().map_err(bad(Table::Meta))?);
            }
            Ok(())
        })?;
        let roots = decode_roots(&open(ROOTS)?).map_err(bad(Table::Meta))?;
        let last = store.end(Table::KeyLists, Order::Backward)?;
        let (_, list_bytes) = last.ok_or(SignerError::Record(Table::KeyLists, "missing"))?;
        let list = KeyList::verify(&list_bytes, core.feed, &roots)
            .map_err(|_| SignerError::Record(Table::KeyLists, "not signed by the root keys"))?;
        let mut memory = Self {
            authority,
            kek: Arc::new(kek),
            core: Arc::new(core),
            keys: BTreeMap::new(),
            current: BTreeMap::new(),
            clients: BTreeMap::new(),
            local: BTreeSet::new(),
            revoked: Revoked::default(),
            uncovered: BTreeMap::new(),
            revocations: 0,
            tokens: store.count(Table::Tokens, &[])?,
            last_mint: last_mint.unwrap_or(Timestamp::EPOCH),
            mint_row: [LAST_MINT, store.name()].concat(),
            audit: audit::load(store, authority)?,
            position: FeedPosition { epoch: list.epoch, sequence: 0 },
            roots: Arc::new(roots),
            publication: BTreeMap::new(),
            key_list: Arc::new(CurrentList { list, bytes: list_bytes }),
            head: None,
            head_bytes: None,
        };
        each(store, Table::PublicationKeys, |key, value| {
            let plain = unseal(&memory.kek, Table::PublicationKeys, key, value)?;
            let secret = PublicationSecret::decode(&plain).map_err(bad(Table::PublicationKeys))?;
            memory.apply(&Effect::Publication(Arc::new(secret)));
            Ok(())
        })?;
        each(store, Table::Keys, |key, value| {
            let plain = unseal(&memory.kek, Table::Keys, key, value)?;
            let record = KeyRecord::decode(key, &plain).map_err(bad(Table::Keys))?;
            memory.apply(&Effect::Key(Arc::new(record)));
            Ok(())
        })?;
        each(store, Table::Clients, |key, value| {
            let plain = unseal(&memory.kek, Table::Clients, key, value)?;
            let (info, is_local) = decode_client(key, &plain)?;
            if is_local {
                memory.local.insert(info.key);
            }
            memory.apply(&Effect::Client(Arc::new(info)));
            Ok(())
        })?;
        Ok(memory)
    }

    /// Takes in what was committed.
    pub(crate) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Key(record) => {
                if record.state == KeyState::Current {
                    self.current.insert(record.purpose(), record.key);
                } else if self.current.get(&record.purpose()) == Some(&record.key) {
                    self.current.remove(&record.purpose());
                }
                self.keys.insert(record.key, Arc::clone(record));
            }
            Effect::Client(info) => {
                self.clients.insert(info.key, Arc::clone(info));
            }
            Effect::ClientGone(key) => {
                self.clients.remove(key);
                self.local.remove(key);
            }
            Effect::Revoked(row) => {
                self.revoked.add(&row.revocation);
                self.uncovered.insert(row.key(), *row);
                self.revocations = self.revocations.saturating_add(1);
            }
            Effect::Minted(at) => {
                self.last_mint = self.last_mint.max(*at);
                self.tokens = self.tokens.saturating_add(1);
            }
            Effect::TokensGone(count) => self.tokens = self.tokens.saturating_sub(*count),
            Effect::RevocationsGone(count) => self.revocations = self.revocations.saturating_sub(*count),
            Effect::Step(position, set) => {
                self.position = *position;
                self.revoked.published(Arc::clone(set));
                self.uncovered.retain(|_, row| !set.has(&row.revocation, row.day));
                self.uncovered.values().for_each(|row| self.revoked.add(&row.revocation));
            }
            Effect::Position(position) => self.position = *position,
            Effect::Head(head, bytes) => {
                self.head = Some(head.clone());
                self.head_bytes = Some(bytes.clone());
            }
            Effect::Publication(secret) => {
                self.publication.insert(secret.id(), Arc::clone(secret));
            }
            Effect::KeyList(list) => self.key_list = Arc::clone(list),
            Effect::Kek(kek) => self.kek = Arc::clone(kek),
            Effect::Core(core) => self.core = Arc::clone(core),
        }
    }

    /// The record that mints for this purpose.
    pub(crate) fn minting(&self, purpose: &Purpose) -> Option<&Arc<KeyRecord>> {
        self.current.get(purpose).and_then(|id| self.keys.get(id))
    }

    /// The keys that may sign a head at this time, with the end of their windows; at most as
    /// many as a head carries, the longest-lived first.
    pub(crate) fn publication_keys(&self, at: Timestamp) -> Vec<(Timestamp, FeedSigningKey)> {
        let listed = self.key_list.list.keys.iter().filter(|listed| listed.is_valid_at(at));
        let mut keys: Vec<_> = listed
            .filter_map(|listed| Some((listed.not_after, self.publication.get(&listed.key.id())?.signing()?)))
            .collect();
        keys.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
        keys.truncate(usize::from(HEAD_SIGNATURES));
        keys
    }

    pub(crate) fn put_publication(&self, secret: &PublicationSecret) -> Op {
        self.put(Table::PublicationKeys, secret.id().as_bytes(), &secret.encode())
    }

    pub(crate) fn put_key(&self, record: &KeyRecord) -> Op {
        self.put(Table::Keys, record.key.as_bytes(), &record.encode())
    }

    pub(crate) fn put_client(&self, info: &ClientInfo) -> Op {
        // What the protocol says of a client is all there is to know, so its layout is the
        // record's; the state that depends on the clock is worked out on reading.
        let reach = if self.local.contains(&info.key) { LOCAL } else { ANYWHERE };
        let info_bytes = info.encode().unwrap_or_else(|_| random::stop("a record does not fit its layout"));
        self.put(Table::Clients, info.key.as_bytes(), &[&[reach], &info_bytes[..]].concat())
    }

    pub(crate) fn put_last_mint(&self, at: Timestamp) -> Op {
        self.put(Table::Meta, &self.mint_row, &at.millis().to_be_bytes())
    }

    /// A sealed row.
    pub(crate) fn put(&self, table: Table, key: &[u8], plain: &[u8]) -> Op {
        Op::Put(table, key.to_vec(), self.kek.seal(table, key, plain))
    }
}

/// First byte of a client's record: its version, and where the client may speak.
const ANYWHERE: u8 = 1;
const LOCAL: u8 = 2;

pub(crate) fn decode_client(key: &[u8], plain: &[u8]) -> Result<(ClientInfo, bool), SignerError> {
    let wrong = SignerError::Record(Table::Clients, "layout");
    let Some((reach @ (&ANYWHERE | &LOCAL), bytes)) = plain.split_first() else { return Err(wrong) };
    match ClientInfo::decode(bytes) {
        Ok(info) if info.key.as_bytes() == key => Ok((info, *reach == LOCAL)),
        Ok(_) | Err(_) => Err(wrong),
    }
}

/// Opens one sealed row.
pub(crate) fn unseal(
    kek: &Kek,
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    // A `rewrap` at another signer is met row by row.
    let wrong = |error| if error == OTHER_SECRET { SignerError::WrongSecret } else { bad(table)(error) };
    kek.open(table, key, value).map_err(wrong)
}

pub(crate) fn bad(table: Table) -> impl Fn(BadRecord) -> SignerError {
    move |BadRecord(what)| SignerError::Record(table, what)
}

/// Visits every row of a table in key order.
pub(crate) fn each(
    store: &dyn Store,
    table: Table,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SignerError>,
) -> Result<(), SignerError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let scan = Scan { table, prefix: &[], after: after.as_deref(), order: Order::Forward, limit: PAGE };
        let rows = store.scan(scan)?;
        for (key, value) in &rows {
            visit(key, value)?;
        }
        match rows.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}
