//! What operators change: key records, clients, publication keys, the secret.

use std::sync::Arc;

use tkcore::KeyClass;
use tkcore::protocol::{
    Bytes, ClientAdd, ClientConfirm, ClientInfo, ClientRemove, ClientState, Code, Done, KeyCreate, KeyInfo,
    KeyRetire, KeyRotate, KeyState, Operation, PublicationAnswer, PublicationDraft, PublicationPrepare,
    PublicationRotate, Rewrap, RewrapAnswer, Role, StaticKeys, StaticRetire, StaticRotate,
};
use tkcore::revocation::publish::KeyListDraft;
use tkcore::revocation::{self, ExpiryDay, Revocation};

use crate::codec::{count, hex};
use crate::keys::{KeyRecord, PublicationSecret, Purpose, Statics};
use crate::lists::{COUNTED, key_info};
use crate::memory::{self, AUTHORITY, CHECK, CORE, CurrentList, Effect, unseal};
use crate::peer::Peer;
use crate::random;
use crate::revoke;
use crate::roles;
use crate::seal::Kek;
use crate::secret::Secret;
use crate::service::{Ask, Decided, No};
use crate::store::{Op, Table};
use crate::writer::{Plan, View};

/// The first key record of a (tenant, audience, class).
pub(crate) fn key_create(view: &View<'_>, ask: &Ask, asked: KeyCreate) -> Decided<KeyCreate> {
    let delegable = asked.class == KeyClass::Delegable;
    if delegable && asked.audience.is_none() {
        return Err(Code::BadParameters.detail("a delegable key needs the one audience it is for").into());
    }
    let purpose = Purpose { tenant: asked.tenant, audience: asked.audience, delegable };
    if view.memory.minting(&purpose).is_some() {
        return Err(Code::AlreadyExists.detail("`tksign keys rotate` makes the next generation").into());
    }
    Ok(next_key(view, ask, purpose))
}

/// The next generation; the one before verifies on.
pub(crate) fn key_rotate(view: &View<'_>, ask: &Ask, asked: KeyRotate) -> Decided<KeyRotate> {
    let memory = view.memory;
    let purpose = memory.keys.get(&asked.key).ok_or(No::from(Code::NotFound))?.purpose();
    let before = memory.minting(&purpose).map(|before| before.rotated(view.now));
    let (mut plan, info) = next_key(view, ask, purpose);
    if let Some(before) = before {
        plan.ops.push(memory.put_key(&before));
        plan.effects.insert(0, Effect::Key(Arc::new(before)));
    }
    Ok((plan, info))
}

/// A key's end: everything under it is revoked for good, and its secret destroyed.
pub(crate) fn key_retire(view: &View<'_>, ask: &Ask, asked: KeyRetire) -> Decided<KeyRetire> {
    let memory = view.memory;
    let record = memory.keys.get(&asked.key).ok_or(No::from(Code::NotFound))?;
    if record.state == KeyState::Retired {
        return Ok((Plan::default(), record.info.clone()));
    }
    let orphaned = key_info(view, record, &mut { COUNTED })?.live_tokens;
    let retired = record.retired(view.now);
    let event = ask.event().with("key", record.key).with("live-tokens", orphaned);
    let info = retired.info.clone();
    let mut plan = Plan::of(memory.put_key(&retired), Effect::Key(Arc::new(retired)), event);
    let all = Revocation::Key { key: record.key, before: None };
    revoke::add(view, &all, ExpiryDay::UNKNOWN, &mut plan)?;
    Ok((plan, info))
}

/// A key record after all that are for the same.
fn next_key(view: &View<'_>, ask: &Ask, purpose: Purpose) -> (Plan, KeyInfo) {
    let same = view.memory.keys.values().filter(|record| record.purpose() == purpose);
    let generation = same.map(|record| record.generation).max().map_or(1, |last| last.saturating_add(1));
    let record = KeyRecord::generate(purpose, generation, view.now);
    let info = record.info.clone();
    let event = ask
        .event()
        .with("key", record.key)
        .with("tenant", ask.name(view.memory, "tenant", &record.tenant))
        .maybe("audience", record.audience.as_ref().map(|name| ask.name(view.memory, "audience", name)))
        .with("delegable", record.class == KeyClass::Delegable)
        .with("generation", record.generation);
    (Plan::of(view.memory.put_key(&record), Effect::Key(Arc::new(record)), event), info)
}

/// Allows a client key one role.
pub(crate) fn client_add(view: &View<'_>, ask: &Ask, asked: ClientAdd) -> Decided<ClientAdd> {
    if view.memory.clients.contains_key(&asked.key) {
        return Err(Code::AlreadyExists.detail("a key has one role: remove it first").into());
    }
    if asked.expiry.is_some_and(|expiry| expiry <= view.now) {
        return Err(Code::BadTime.detail("the expiry is not in the future").into());
    }
    let ClientAdd { key, name, role, expiry } = asked;
    let info = ClientInfo { key, name, role, state: ClientState::Active, added: view.now, expiry };
    Ok((put_client(view, ask, &info), info))
}

/// Removes a client key; its next request is a stranger's.
pub(crate) fn client_remove(view: &View<'_>, ask: &Ask, asked: ClientRemove) -> Decided<ClientRemove> {
    let client = view.memory.clients.get(&asked.key).ok_or(No::from(Code::NotFound))?;
    // One that could not speak is no operator to be left with.
    let mut others = view.memory.clients.values().filter(|other| other.key != client.key);
    let works = |other: &Arc<ClientInfo>| roles::admit(other, Operation::ClientAdd, view.now).is_ok();
    if client.role == Role::Operator && !others.any(works) {
        return Err(Code::Conflict.detail("it is the last operator that works: add another first").into());
    }
    let event = ask.event().with("client", asked.key).with("role", client.role.name());
    let op = Op::Delete(Table::Clients, asked.key.as_bytes().to_vec());
    Ok((Plan::of(op, Effect::ClientGone(asked.key), event), Done))
}

/// Ends a client's suspension.
pub(crate) fn client_confirm(view: &View<'_>, ask: &Ask, asked: ClientConfirm) -> Decided<ClientConfirm> {
    let client = view.memory.clients.get(&asked.key).ok_or(No::from(Code::NotFound))?;
    let info = ClientInfo { state: ClientState::Active, ..(**client).clone() };
    Ok((put_client(view, ask, &info), info))
}

fn put_client(view: &View<'_>, ask: &Ask, info: &ClientInfo) -> Plan {
    let event =
        ask.event().with("client", info.key).with("role", info.role.name()).maybe("expiry", info.expiry);
    Plan::of(view.memory.put_client(info), Effect::Client(Arc::new(info.clone())), event)
}

/// A new static key; the one before is accepted until it is retired. Never a third: who has
/// pinned the first would be cut off.
pub(crate) fn static_rotate(view: &View<'_>, ask: &Ask, _: StaticRotate) -> Decided<StaticRotate> {
    let core = &view.memory.core;
    let (current, None) = core.statics() else { return Ok((Plan::default(), core.static_publics())) };
    put_statics(view, ask, (random::secret(), Some(current.clone())))
}

/// The end of the static key before.
pub(crate) fn static_retire(view: &View<'_>, ask: &Ask, asked: StaticRetire) -> Decided<StaticRetire> {
    let core = &view.memory.core;
    let publics = core.static_publics();
    if publics.current == asked.key {
        return Err(Code::Conflict.detail("it is the current key: rotate first").into());
    }
    if publics.before != Some(asked.key) {
        return Err(Code::NotFound.into());
    }
    put_statics(view, ask, (core.statics().0.clone(), None))
}

fn put_statics(view: &View<'_>, ask: &Ask, statics: Statics) -> Result<(Plan, StaticKeys), No> {
    let core = view.memory.core.with_statics(statics);
    let publics = core.static_publics();
    let event = ask
        .event()
        .with("current", hex(&publics.current))
        .maybe("before", publics.before.map(|key| hex(&key)));
    Ok((
        Plan::of(view.memory.put(Table::Meta, CORE, &core.encode()), Effect::Core(Arc::new(core)), event),
        publics,
    ))
}

/// A new publication key and the list that names it, to be signed with the offline root keys.
pub(crate) fn publication_prepare(
    view: &View<'_>,
    ask: &Ask,
    asked: PublicationPrepare,
) -> Decided<PublicationPrepare> {
    let memory = view.memory;
    let secret = PublicationSecret::generate(view.now).ok_or(No::from(Code::Internal))?;
    let current = &memory.key_list.list;
    let (epoch, mut keys) = match asked.draft {
        // The overlap: heads are signed with every listed key that is ours, so clients that
        // have either list believe them.
        PublicationDraft::SameEpoch => {
            let valid = current.keys.iter().filter(|key| view.now < key.not_after);
            (current.epoch, valid.copied().collect())
        }
        PublicationDraft::NextEpoch => (current.epoch.saturating_add(1), Vec::new()),
    };
    keys.push(secret.listed());
    let version = current.version.saturating_add(1);
    let list = revocation::KeyList { feed: memory.core.feed, version, epoch, keys };
    let draft = KeyListDraft::new(&list, &memory.roots.signers())
        .map_err(|error| No::from(Code::Conflict.detail(&error.to_string())))?;
    let event = ask.event().with("key-list", version).with("epoch", epoch).with("key", secret.id());
    let plan = Plan::of(memory.put_publication(&secret), Effect::Publication(Arc::new(secret)), event);
    Ok((plan, PublicationAnswer { version, to_sign: Bytes(draft.to_bytes().to_vec()) }))
}

/// Takes a key list that the root keys signed into force.
pub(crate) fn publication_rotate(
    view: &View<'_>,
    ask: &Ask,
    asked: PublicationRotate,
) -> Decided<PublicationRotate> {
    let memory = view.memory;
    let bytes = asked.key_list.0;
    let list = revocation::KeyList::verify(&bytes, memory.core.feed, &memory.roots)
        .map_err(|error| No::from(Code::BadParameters.detail(&error.to_string())))?;
    let conflict = |what: &str| No::from(Code::Conflict.detail(what));
    if list.version != memory.key_list.list.version.saturating_add(1) {
        return Err(conflict("its version is not the one after the list in force"));
    }
    if list.epoch < memory.key_list.list.epoch || list.epoch > memory.key_list.list.epoch.saturating_add(1) {
        return Err(conflict("its epoch is neither the feed's nor the one after"));
    }
    let ours = |key: &revocation::PublicationKey| {
        memory.publication.contains_key(&key.key.id()) && key.is_valid_at(view.now)
    };
    if !list.keys.iter().any(ours) {
        return Err(conflict("it lists no valid key of this signer"));
    }
    let event = ask.event().with("key-list", list.version).with("epoch", list.epoch);
    let op = Op::Create(Table::KeyLists, list.version.to_be_bytes().to_vec(), bytes.clone());
    Ok((Plan::of(op, Effect::KeyList(Arc::new(CurrentList { list, bytes })), event), Done))
}

/// Tables of which every value is sealed; `Meta` besides, but for two rows.
const SEALED: [Table; 6] =
    [Table::Keys, Table::PublicationKeys, Table::Clients, Table::Tokens, Table::Seen, Table::Idempotency];

/// Seals every record anew under another secret, in one transaction: no record is left that
/// names the old one, so it can be forgotten the moment this is acknowledged.
pub(crate) fn rewrap(view: &View<'_>, ask: &Ask, asked: Rewrap) -> Decided<Rewrap> {
    if ask.peer != Peer::Control {
        return Err(Code::NotAllowed.detail("only over the control socket").into());
    }
    let old = &view.memory.kek;
    let secret = Secret::new(asked.secret.expose().to_vec())
        .map_err(|error| No::from(Code::BadParameters.detail(&error.to_string())))?;
    let new = Kek::new(&secret, view.memory.authority);
    let id = new.id();
    if old.matches(&new.check_value()) {
        return Ok((Plan::default(), RewrapAnswer { secret: id, records: 0 }));
    }
    let mut ops = Vec::new();
    for table in SEALED.into_iter().chain([Table::Meta]) {
        memory::each(view.store, table, |key, value| {
            if table == Table::Meta && [AUTHORITY, CHECK].contains(&key) {
                return Ok(());
            }
            let plain = unseal(old, table, key, value)?;
            ops.push(Op::Put(table, key.to_vec(), new.seal(table, key, &plain)));
            Ok(())
        })?;
    }
    let records = count(ops.len());
    ops.push(Op::Put(Table::Meta, CHECK.to_vec(), new.check_value().to_vec()));
    let event = ask.event().with("secret", hex(&id)).with("records", records);
    let plan =
        Plan { ops, effects: vec![Effect::Kek(Arc::new(new))], events: vec![event], ..Plan::default() };
    Ok((plan, RewrapAnswer { secret: id, records }))
}
