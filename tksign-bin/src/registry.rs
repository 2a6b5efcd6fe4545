//! The registry of minted tokens: what is known of a lineage, never the token.
//!
//! Look-ups go by keyed hash, and their rows hold nothing but ids and times. Records leave the
//! registry a day after the token's expiry, a service token's after an hour, when nothing can depend on them.

use std::time::Duration;

use tkcore::protocol::TokenInfo;
use tkcore::revocation::publish::Revoked;
use tkcore::revocation::{Query, Revocations as _, Rule, Status};
use tkcore::{BranchId, KeyId, LineageId, Subject, Tenant, Timestamp};
use zeroize::Zeroizing;

use crate::codec::{BadRecord, Reader, length};
use crate::keys::{Core, record};
use crate::memory::{Effect, Memory, SignerError, bad, unseal};
use crate::random;
use crate::store::{Op, Order, Scan, Store, StoreError, Table};
use crate::writer::{Plan, View};

/// How long a record outlives its token: longer than any clock is off, and a day for people
/// who look at what has just ended.
const KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(86_400);
/// The same of a service token, of which so few may come from one token that those which have ended must
/// make room.
const SERVICE_KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(3600);

/// Records removed in one sweep, so that a sweep is never what a caller waits for.
const SWEEP: usize = 256;
/// Rows after which it takes no further record: some have hundreds, one for each branch of a parent.
const SWEEP_ROWS: usize = 2048;

/// What is kept of one minted token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRecord {
    /// As it is shown; whether it is revoked and when it was seen is worked out on reading.
    pub(crate) info: TokenInfo,
    /// Branches that the parent was presented at or below: revoking one kills this token.
    pub(crate) branches: Vec<BranchId>,
}

impl TokenRecord {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let branches: Vec<u8> = self.branches.iter().flat_map(|branch| *branch.as_bytes()).collect();
        let info = Zeroizing::new(
            self.info.encode().unwrap_or_else(|_| random::stop("a record does not fit its layout")),
        );
        Zeroizing::new([&[1], &length(&branches)[..], &branches, &info].concat())
    }

    fn decode(id: LineageId, bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = record(bytes)?;
        let (branches, []) = reader.bytes()?.as_chunks() else { return Err(BadRecord("branches")) };
        let branches = branches.iter().map(|id| BranchId::from_bytes(*id)).collect();
        match TokenInfo::decode(reader.rest()) {
            Ok(info) if info.lineage == id => Ok(Self { info, branches }),
            Ok(_) | Err(_) => Err(BadRecord("token record")),
        }
    }
}

/// A way to find tokens; the byte it starts with keeps the ways apart in their table.
pub(crate) enum Find<'a> {
    All,
    Tenant(&'a Tenant),
    Subject(&'a Tenant, &'a Subject),
    Parent(LineageId),
    /// Service tokens by a branch that their parent was presented at or below.
    Branch(BranchId),
    Key(KeyId),
}

impl Find<'_> {
    /// The prefix of the rows that name the tokens.
    fn prefix(&self, core: &Core) -> Vec<u8> {
        let row = |kind: u8, hash: &[u8]| [&[kind], hash].concat();
        match self {
            Self::All => Vec::new(),
            Self::Tenant(tenant) => row(b't', &core.lookup("tenant", &[tenant.as_str().as_bytes()])),
            Self::Subject(tenant, subject) => {
                row(b's', &core.lookup("subject", &[tenant.as_str().as_bytes(), subject.as_str().as_bytes()]))
            }
            Self::Parent(parent) => row(b'p', parent.as_bytes()),
            Self::Branch(branch) => row(b'b', branch.as_bytes()),
            Self::Key(key) => row(b'k', key.as_bytes()),
        }
    }

    /// Only to find all of them the registry itself is read.
    const fn table(&self) -> Table {
        if matches!(self, Self::All) { Table::Tokens } else { Table::Index }
    }
}

/// The row that puts something into the queue of what is to be removed at a time.
fn queue(at: Timestamp, what: u8, key: &[u8]) -> Vec<u8> {
    [b"x", &at.millis().to_be_bytes()[..], &[what], key].concat()
}

/// Has a row of the table of kept answers removed at a time.
pub(crate) fn forget_answer(at: Timestamp, key: &[u8]) -> Op {
    Op::Put(Table::Index, queue(at, b'i', key), Vec::new())
}

/// The rows of a token that has just been made.
pub(crate) fn register(memory: &Memory, token: &TokenRecord) -> Vec<Op> {
    let id = token.info.lineage.as_bytes();
    let sealed = memory.kek.seal(Table::Tokens, id, &token.encode());
    let mut ops = vec![Op::Create(Table::Tokens, id.to_vec(), sealed)];
    ops.extend(rows(&memory.core, token).into_iter().map(|key| Op::Put(Table::Index, key, Vec::new())));
    ops
}

fn rows(core: &Core, token: &TokenRecord) -> Vec<Vec<u8>> {
    let (info, lineage) = (&token.info, token.info.lineage.as_bytes());
    let mut found_by = vec![Find::Tenant(&info.tenant), Find::Key(info.key)];
    found_by.extend(info.subject.as_ref().map(|subject| Find::Subject(&info.tenant, subject)));
    found_by.extend(info.parent.map(Find::Parent));
    found_by.extend(token.branches.iter().map(|branch| Find::Branch(*branch)));
    let named = found_by.iter().map(|find| [&find.prefix(core), &lineage[..]].concat());
    let kept = info.parent.map_or(KEPT_AFTER_EXPIRY, |_| SERVICE_KEPT_AFTER_EXPIRY);
    named.chain(info.expiry.map(|at| queue(at.saturating_add(kept), b't', lineage))).collect()
}

/// The lineages that a look-up names, a page of them, and the cursor to go on with.
pub(crate) fn find(
    store: &dyn Store,
    core: &Core,
    find: &Find<'_>,
    after: &[u8],
    limit: usize,
) -> Result<Vec<LineageId>, StoreError> {
    let prefix = find.prefix(core);
    let after = (!after.is_empty()).then(|| [&prefix, after].concat());
    let scan =
        Scan { table: find.table(), prefix: &prefix, after: after.as_deref(), order: Order::Forward, limit };
    let rows = store.scan(scan)?;
    Ok(rows.iter().filter_map(|(key, _)| Some(LineageId::from_bytes(*key.last_chunk()?))).collect())
}

/// How many a look-up names.
pub(crate) fn count(store: &dyn Store, core: &Core, find: &Find<'_>) -> Result<u64, StoreError> {
    store.count(find.table(), &find.prefix(core))
}

/// What is kept of a lineage.
pub(crate) fn load(
    store: &dyn Store,
    memory: &Memory,
    id: LineageId,
) -> Result<Option<TokenRecord>, SignerError> {
    let Some(sealed) = store.get(Table::Tokens, id.as_bytes())? else { return Ok(None) };
    let plain = unseal(&memory.kek, Table::Tokens, id.as_bytes(), &sealed)?;
    TokenRecord::decode(id, &plain).map(Some).map_err(bad(Table::Tokens))
}

/// What is kept of a lineage, unless it has expired.
pub(crate) fn unexpired(view: &View<'_>, id: LineageId) -> Result<Option<TokenRecord>, SignerError> {
    let token = load(view.store, view.memory, id)?;
    Ok(token.filter(|token| token.info.expiry.is_none_or(|expiry| view.now < expiry)))
}

/// The rule of `revoked` that kills a registered token, as far as its lineage tells; a branch that
/// a holder made of it may be dead besides.
pub(crate) fn killed_by(memory: &Memory, revoked: &Revoked, token: &TokenRecord) -> Option<Rule> {
    let info = &token.info;
    let rows = memory.core.tenant_key(&info.tenant);
    let query = Query {
        lineage: info.lineage,
        issued_at: info.lineage.minted(),
        parent: info.parent,
        key: Some(info.key),
        tenant: Some(rows.tenant_row()),
        subject: info.subject.as_ref().map(|subject| rows.subject_row(subject)),
        branches: &token.branches,
    };
    match revoked.status(&query) {
        Status::Revoked(rule) => Some(rule),
        Status::Live | Status::Unknown(_) => None,
    }
}

/// A registry entry as the protocol shows it.
pub(crate) fn info(view: &View<'_>, lineage: LineageId) -> Result<Option<TokenInfo>, SignerError> {
    let Some(token) = load(view.store, view.memory, lineage)? else { return Ok(None) };
    let revoked = killed_by(view.memory, &view.memory.revoked, &token);
    let mut last_seen = None;
    if let Some(sealed) = view.store.get(Table::Seen, lineage.as_bytes())? {
        let plain = unseal(&view.memory.kek, Table::Seen, lineage.as_bytes(), &sealed)?;
        last_seen = Reader::new(&plain).time().map_err(bad(Table::Seen))?;
    }
    Ok(Some(TokenInfo { revoked, last_seen, ..token.info }))
}

/// The row that notes when a registered lineage was last seen by a remote verify.
pub(crate) fn seen(memory: &Memory, lineage: LineageId, at: Timestamp) -> Op {
    memory.put(Table::Seen, lineage.as_bytes(), &at.millis().to_be_bytes())
}

/// Removes what has ended, registry entries and answers that no retry will ask for, and says whether
/// that was all of it.
pub(crate) fn sweep(view: &View<'_>, plan: &mut Plan) -> Result<bool, SignerError> {
    let scan = Scan { table: Table::Index, prefix: b"x", after: None, order: Order::Forward, limit: SWEEP };
    let mut tokens = 0u64;
    for (key, _) in view.store.scan(scan)? {
        let mut reader = Reader::new(&key);
        let due = (reader.u8(), reader.u64(), reader.u8());
        let (Ok(_), Ok(at), Ok(what)) = due else { return Err(SignerError::Record(Table::Index, "queue")) };
        if at > view.now.millis() || plan.ops.len() > SWEEP_ROWS {
            break;
        }
        let row = reader.rest();
        match what {
            b'i' => plan.ops.push(Op::Delete(Table::Idempotency, row.to_vec())),
            b't' => {
                let lineage = row.try_into().map_err(|_| SignerError::Record(Table::Index, "queue"))?;
                let lineage = LineageId::from_bytes(lineage);
                if let Some(token) = load(view.store, view.memory, lineage)? {
                    let rows = rows(&view.memory.core, &token);
                    plan.ops.extend(rows.into_iter().map(|key| Op::Delete(Table::Index, key)));
                    plan.ops.push(Op::Delete(Table::Tokens, row.to_vec()));
                    plan.ops.push(Op::Delete(Table::Seen, row.to_vec()));
                    tokens = tokens.saturating_add(1);
                }
            }
            _ => return Err(SignerError::Record(Table::Index, "queue")),
        }
        plan.ops.push(Op::Delete(Table::Index, key));
    }
    if tokens > 0 {
        plan.effects.push(Effect::TokensGone(tokens));
    }
    // Each record has at least the row of the queue.
    Ok(plan.ops.len() < SWEEP)
}
