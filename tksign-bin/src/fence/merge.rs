//! Ends a restore: one transaction unites the sets, suspends who may have been removed since,
//! keeps retired keys retired, and begins an epoch above everything that was published.

use std::collections::BTreeMap;
use std::sync::Arc;

use tkcore::Timestamp;
use tkcore::protocol::{AuditActor, AuditEvent, ClientInfo, ClientState, KeyState, Role};
use tkcore::revocation::publish::{KeyListDraft, Publisher, RevocationRow, Stamp};
use tkcore::revocation::{Audit, ExpiryDay, KeyList, Position, Revocation, RevocationSet};

use super::{Evidence, Gap, HighWater, Mark, write};
use crate::audit;
use crate::codec::count;
use crate::keys::PublicationSecret;
use crate::memory::{self, Effect, Memory, SignerError};
use crate::publish::{CHAIN, HEAD, POLL_AFTER, VALIDITY};
use crate::revoked;
use crate::store::{Op, Store, Table};

/// What a merge did, for people.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) position: Position,
    /// Revocations that came from the folder.
    pub(crate) added: u64,
    pub(crate) retired: u64,
    pub(crate) suspended: u64,
    pub(crate) live: u64,
}

/// The version and epoch that the next key list must have: above everything known.
fn above(evidence: &Evidence) -> (u64, u64) {
    let (version, epoch) = evidence.published.as_ref().map_or((0, 0), |published| {
        let (version, epoch) = published.newest_list();
        (version, epoch.max(published.position.epoch))
    });
    let mark = evidence.mark().map_or((0, 0), |mark| (mark.key_list, mark.epoch.max(mark.position.epoch)));
    let version = version.max(mark.0).max(evidence.own.key_list);
    let epoch = epoch.max(mark.1).max(evidence.own.epoch).max(evidence.own.position.epoch);
    (version.saturating_add(1), epoch.saturating_add(1))
}

/// Makes the publication key of the next epoch, and gives the key list that the root keys are
/// to sign. Changes nothing of what is served.
pub(crate) fn draft(
    store: &mut dyn Store,
    memory: &Memory,
    evidence: &Evidence,
    now: Timestamp,
) -> Result<(u64, u64, Vec<u8>), SignerError> {
    let feed = |error: &dyn std::fmt::Display| SignerError::Feed(error.to_string());
    let secret = PublicationSecret::generate(now).ok_or(SignerError::Publication)?;
    let (version, epoch) = above(evidence);
    let list = KeyList { feed: memory.core.feed, version, epoch, keys: vec![secret.listed()] };
    let draft = KeyListDraft::new(&list, &memory.roots.signers()).map_err(|error| feed(&error))?;
    write(store, vec![memory.put_publication(&secret)])?;
    Ok((version, epoch, draft.to_bytes().to_vec()))
}

/// Unites and begins the epoch of this signed key list.
///
/// # Errors
/// [`SignerError::Feed`] when the list is not the one that [`draft`] asked for.
pub(crate) fn merge(
    store: &mut dyn Store,
    memory: &mut Memory,
    evidence: &Evidence,
    (folder, bytes, now): (&std::path::Path, &[u8], Timestamp),
) -> Result<Merged, SignerError> {
    let wrong = |what: &str| SignerError::Feed(format!("the signed key list {what}"));
    let feed = |error: &dyn std::fmt::Display| SignerError::Feed(error.to_string());
    let list = KeyList::verify(bytes, memory.core.feed, &memory.roots).map_err(|error| feed(&error))?;
    let (version, epoch) = above(evidence);
    if (list.version, list.epoch) != (version, epoch) {
        return Err(wrong(&format!(
            "is version {} of epoch {}; {version} of {epoch} lies above all that was published",
            list.version, list.epoch
        )));
    }
    let signer = list.keys.iter().find_map(|listed| {
        let ours = memory.publication.get(&listed.key.id()).filter(|_| listed.is_valid_at(now))?;
        ours.signing()
    });
    let signer = signer.ok_or_else(|| wrong("names no key of this store that is valid now"))?;

    let position = Position { epoch, sequence: 0 };
    let mut ops = Vec::new();
    let (rows, added) = united(store, memory, evidence, position, &mut ops)?;
    let every_key = |key| {
        rows.contains_key(
            &RevocationRow {
                revocation: Revocation::Key { key, before: None },
                day: ExpiryDay::UNKNOWN,
                covered: None,
            }
            .key(),
        )
    };
    let mut retired = 0u64;
    for record in memory.keys.values().filter(|record| record.state != KeyState::Retired) {
        if every_key(record.key) {
            ops.push(memory.put_key(&record.retired(now)));
            retired = retired.saturating_add(1);
        }
    }
    let (clients, live) = suspended(memory, evidence.mark());
    ops.extend(clients.iter().map(|client| memory.put_client(client)));

    let lists = evidence.published.iter().flat_map(|published| &published.lists);
    for (version, _, bytes) in lists.filter(|(version, ..)| *version > evidence.own.key_list) {
        ops.push(Op::Put(Table::KeyLists, version.to_be_bytes().to_vec(), bytes.clone()));
    }
    ops.push(Op::Put(Table::KeyLists, version.to_be_bytes().to_vec(), bytes.to_vec()));

    let merged = Merged { position, added, retired, suspended: count(clients.len()), live };
    let (line, audit) = audit::append(&memory.audit, &event(evidence, &merged), now);
    ops.push(line);

    let set = RevocationSet::build(rows.into_values().map(|row| (row.revocation, row.day)));
    let state = Publisher::begin(memory.core.feed, epoch, set.map_err(|error| feed(&error))?);
    let (lines, digest) = store.audit(&audit);
    let head = state.head(&Stamp {
        key_list: version,
        issued_at: now,
        validity: VALIDITY,
        poll_after: POLL_AFTER,
        audit: Audit { lines, digest },
    });
    let head = head.sign(&[&signer]).map_err(|error| feed(&error))?;
    ops.push(Op::Put(Table::Feed, CHAIN.to_vec(), position.to_bytes()));
    ops.push(Op::Put(Table::Feed, HEAD.to_vec(), head));
    ops.push(memory.put(Table::Meta, &super::guarded(store), &[1]));
    write(store, ops)?;

    // The file follows: cut off here, the epoch of the store says that the merge was done.
    memory.position = position;
    memory.audit = audit;
    memory.apply(&Effect::KeyList(Arc::new(memory::CurrentList { list, bytes: bytes.to_vec() })));
    clients.into_iter().for_each(|client| memory.apply(&Effect::Client(Arc::new(client))));
    HighWater::open(super::of(folder, store), memory)?;
    Ok(merged)
}

type Rows = BTreeMap<Vec<u8>, RevocationRow>;

/// All rows, those of the store and those that only the folder has, as the new epoch's first
/// state holds them.
fn united(
    store: &dyn Store,
    memory: &Memory,
    evidence: &Evidence,
    position: Position,
    ops: &mut Vec<Op>,
) -> Result<(Rows, u64), SignerError> {
    let mut rows = BTreeMap::new();
    let mut put = |row: &RevocationRow| {
        let row = RevocationRow { covered: Some(position), ..*row };
        ops.push(Op::Put(Table::Revocations, row.key(), revoked::value(&memory.core, &row)));
    };
    memory::each(store, Table::Revocations, |key, value| {
        let row = revoked::decode(&memory.core, key, value).map_err(memory::bad(Table::Revocations))?;
        if row.covered.is_none() {
            put(&row);
        }
        rows.insert(key.to_vec(), row);
        Ok(())
    })?;
    let mut added = 0u64;
    let mut take = |revocation: Revocation, day: ExpiryDay| {
        let row = RevocationRow { revocation, day, covered: Some(position) };
        let key = row.key();
        if rows.get(&key).is_none_or(|there| there.day < day) {
            put(&row);
            added = added.saturating_add(1);
            rows.insert(key, row);
        }
    };
    if let Some(published) = &evidence.published {
        published.set.for_each(&mut take);
        if let Some(before) = published.set.global_floor() {
            take(Revocation::Global { before }, ExpiryDay::UNKNOWN);
        }
    }
    Ok((rows, added))
}

/// The clients that wait for `clients confirm`, and how many live on: `verify` clients that were
/// live when it was last noted, and the operator whose key lies beside the store, who confirms
/// the others and has just shown to hold the store's secret.
fn suspended(memory: &Memory, mark: Option<&Mark>) -> (Vec<ClientInfo>, u64) {
    let lives = |client: &ClientInfo| match client.role {
        Role::Verify(_) => mark.is_some_and(|mark| mark.lists(&memory.core, client)),
        Role::Operator => memory.local.contains(&client.key),
        _ => false,
    };
    let active = memory.clients.values().filter(|client| client.state == ClientState::Active);
    let (live, others): (Vec<_>, Vec<_>) = active.partition(|client| lives(client));
    let suspend =
        |client: &Arc<ClientInfo>| ClientInfo { state: ClientState::Suspended, ..(**client).clone() };
    (others.into_iter().map(suspend).collect(), count(live.len()))
}

/// The audit line: the whole gap, and what was made of it.
fn event(evidence: &Evidence, merged: &Merged) -> AuditEvent {
    let list = |gaps: Vec<Gap>| gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let left_out = evidence.left_out();
    let lost =
        evidence.mark().map(|mark| format!("{} {}", mark.audit.lines, crate::codec::hex(&mark.audit.hash)));
    AuditEvent::new(AuditActor::Signer, "restore-merge")
        .with("gap", list(evidence.gaps()))
        .maybe("accepted-loss", (!left_out.is_empty()).then(|| list(left_out)))
        .maybe("audit-was", lost)
        .with("position", merged.position)
        .with("added", merged.added)
        .with("retired", merged.retired)
        .with("suspended", merged.suspended)
}
