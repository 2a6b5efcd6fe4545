//! What only reads: status, lists by the page, delegated keys.

use std::sync::Arc;

use tkcore::Timestamp;
use tkcore::protocol::{
    AuditHead, AuditLine, AuditTail, Bytes, ClientInfo, ClientList, Code, Cursor, DelegatedKey, FetchKeys,
    Field, KeyInfo, KeyList, KeyState, Mode, Page, Role, SecretKey, StatusAnswer, Text, TokenInfo, TokenList,
    TokenShow,
};

use crate::audit;
use crate::codec::count;
use crate::fence::ReadOnly;
use crate::keys::KeyRecord;
use crate::memory::Memory;
use crate::publish;
use crate::registry::{self, Find};
use crate::service::{Ask, No};
use crate::store::{Order, Scan, Table};
use crate::writer::{Plan, View};

/// Rows looked at for one page; what does not fit is the next page's.
const PAGE: usize = 512;

/// Tokens looked at to count those under the keys of one page, which keeps the writer from other
/// work for some 50 ms. Past it a count says "at least": the question is whether a generation
/// can be retired, and that many mean no.
pub(crate) const COUNTED: usize = 10_000;

type Look<A> = Result<(Plan, A), No>;

/// A page of rows under ascending keys.
fn page<K: AsRef<[u8]>, R, T: Field>(
    rows: impl IntoIterator<Item = (K, R)>,
    mut make: impl FnMut(R) -> Result<Option<T>, No>,
) -> Result<Page<T>, No> {
    let mut page = Page::default();
    let mut last: Option<K> = None;
    for (count, (key, row)) in rows.into_iter().enumerate() {
        if count >= PAGE || make(row)?.is_some_and(|item| page.push(item).is_err()) {
            // The first item of all always fits, so there is a last one to go on after.
            page.next = last.and_then(|key| Cursor::new(key.as_ref()));
            break;
        }
        last = Some(key);
    }
    Ok(page)
}

/// The rows of a table in memory that lie past the cursor.
fn past<'a, V>(
    rows: impl Iterator<Item = (&'a [u8], V)>,
    from: &Cursor,
) -> impl Iterator<Item = (&'a [u8], V)> {
    rows.filter(|(key, _)| from.is_start() || *key > from.as_bytes())
}

fn key_rows<'m>(memory: &'m Memory, from: &Cursor) -> impl Iterator<Item = (&'m [u8], &'m Arc<KeyRecord>)> {
    past(memory.keys.iter().map(|(key, record)| (&key.as_bytes()[..], record)), from)
}

/// The delegated keys of the client's own audience. Audited: key material leaves the signer.
pub(crate) fn delegated(view: &View<'_>, ask: &Ask, asked: FetchKeys) -> Look<Page<DelegatedKey>> {
    let Role::Keys(audience) = &ask.client.role else { return Err(Code::NotAllowed.into()) };
    let memory = view.memory;
    let mut events = Vec::new();
    let page = page(key_rows(memory, &asked.from), |record| {
        let root = record.delegate().filter(|_| record.audience.as_ref() == Some(audience));
        let Some(root) = root else { return Ok(None) };
        events.push(ask.event().with("key", record.key));
        Ok(Some(DelegatedKey {
            key: record.key,
            tenant: record.tenant.clone(),
            audience: audience.clone(),
            generation: record.generation,
            state: record.state,
            root,
            rows: SecretKey::new(*memory.core.tenant_key(&record.tenant).expose()),
        }))
    })?;
    Ok((Plan { events, ..Plan::default() }, page))
}

/// How the signer is.
pub(crate) fn status(
    view: &View<'_>,
    started: Timestamp,
    held: Option<&ReadOnly>,
    sandbox: Option<Text>,
) -> Look<StatusAnswer> {
    let memory = view.memory;
    let head = memory.head.as_ref();
    let until = memory.publication_keys(view.now).first().map(|(end, _)| *end);
    let ahead = |at: Timestamp| publish::ahead(at, view.now);
    let notice = match until {
        _ if head
            .is_some_and(|head| ahead(head.issued_at) && head.position.epoch == memory.position.epoch) =>
        {
            "the clock is behind the last signed head, no head is signed: set the clock right; if it is right, first \
             `tksign restore-check --mint-clock-back`, then `tksign keys publication prepare --next-epoch`"
        }
        _ if ahead(memory.last_mint) => {
            "the clock is behind the last mint, nothing is minted: set the clock right; if it is right, see \
             `tksign restore-check --mint-clock-back`"
        }
        None => "no publication key is valid: `tksign keys publication` makes and signs the next list",
        Some(until) if until.saturating_since(view.now) < std::time::Duration::from_secs(14 * 86_400) => {
            "the publication key ends within 14 days: `tksign keys publication`"
        }
        Some(_) => "",
    };
    let why = held.map(|held| held.why().to_owned()).or_else(|| view.store.cut_off());
    let statics = memory.core.static_publics();
    let answer = StatusAnswer {
        version: Text::lossy(env!("CARGO_PKG_VERSION")),
        feed: memory.core.feed,
        static_key: statics.current,
        static_before: statics.before,
        mode: if why.is_some() { Mode::ReadOnly } else { Mode::Serving },
        started,
        now: view.now,
        position: memory.position,
        head_issued: head.map_or(Timestamp::EPOCH, |head| head.issued_at),
        head_valid_until: head.map_or(Timestamp::EPOCH, |head| head.valid_until),
        key_list: memory.key_list.list.version,
        publication_until: until.unwrap_or(Timestamp::EPOCH),
        keys: count(memory.keys.len()),
        clients: count(memory.clients.len()),
        tokens: memory.tokens,
        revocations: memory.revocations,
        audit_lines: memory.audit.lines,
        audit_hash: memory.audit.hash,
        schema: view.store.schema(),
        secret: memory.kek.id(),
        sandbox: sandbox.unwrap_or_default(),
        notice: Text::lossy(why.as_deref().unwrap_or(notice)),
    };
    Ok((Plan::default(), answer))
}

/// The key records.
pub(crate) fn keys(view: &View<'_>, _: &Ask, asked: KeyList) -> Look<Page<KeyInfo>> {
    let mut most = COUNTED;
    let page = page(key_rows(view.memory, &asked.from), |record| {
        let wanted = asked.tenant.as_ref().is_none_or(|tenant| record.tenant == *tenant);
        wanted.then(|| key_info(view, record, &mut most)).transpose()
    })?;
    Ok((Plan::default(), page))
}

/// A key record as the protocol shows it, with what still depends on it: at `most` so many
/// tokens are looked at, which is lowered by those.
pub(crate) fn key_info(view: &View<'_>, record: &KeyRecord, most: &mut usize) -> Result<KeyInfo, No> {
    let mut live = 0u64;
    if record.state != KeyState::Retired {
        let found = registry::find(view.store, &view.memory.core, &Find::Key(record.key), &[], *most)?;
        *most = most.saturating_sub(found.len());
        for lineage in found {
            let Some(token) = registry::unexpired(view, lineage)? else { continue };
            if registry::killed_by(view.memory, &view.memory.revoked, &token).is_none() {
                live = live.saturating_add(1);
            }
        }
    }
    Ok(KeyInfo { live_tokens: live, ..record.info.clone() })
}

/// The client keys.
pub(crate) fn clients(view: &View<'_>, _: &Ask, asked: ClientList) -> Look<Page<ClientInfo>> {
    let clients = view.memory.clients.iter().map(|(key, client)| (&key.as_bytes()[..], client));
    let page = page(past(clients, &asked.from), |client| {
        Ok(Some(ClientInfo { state: client.state_at(view.now), ..(**client).clone() }))
    })?;
    Ok((Plan::default(), page))
}

/// The registered tokens.
pub(crate) fn tokens(view: &View<'_>, _: &Ask, asked: TokenList) -> Look<Page<TokenInfo>> {
    let find = match (&asked.parent, &asked.tenant, &asked.subject) {
        (Some(parent), _, _) => Find::Parent(*parent),
        (None, Some(tenant), Some(subject)) => Find::Subject(tenant, subject),
        (None, Some(tenant), None) => Find::Tenant(tenant),
        (None, None, None) => Find::All,
        (None, None, Some(_)) => return Err(Code::BadParameters.detail("a subject needs its tenant").into()),
    };
    let limit = PAGE.saturating_add(1);
    let found = registry::find(view.store, &view.memory.core, &find, asked.from.as_bytes(), limit)?;
    let page = page(found.iter().map(|lineage| (lineage.as_bytes(), *lineage)), |lineage| {
        let info = registry::info(view, lineage)?;
        // Each bound that is given narrows, also where another was looked up by.
        Ok(info.filter(|info| {
            asked.tenant.as_ref().is_none_or(|tenant| info.tenant == *tenant)
                && (asked.subject.is_none() || info.subject == asked.subject)
        }))
    })?;
    Ok((Plan::default(), page))
}

/// One registered token.
pub(crate) fn token(view: &View<'_>, _: &Ask, asked: TokenShow) -> Look<TokenInfo> {
    let info = registry::info(view, asked.lineage)?.ok_or(No::from(Code::NotFound))?;
    Ok((Plan::default(), info))
}

/// Lines of the audit chain.
pub(crate) fn audit(view: &View<'_>, _: &Ask, asked: AuditTail) -> Look<Page<AuditLine>> {
    if asked.line == 0 && asked.from.is_start() {
        // What the first line follows, on a page of its own (PR-45).
        let AuditHead { lines, hash } = audit::start(view.store, view.memory.authority)?;
        let mut page = Page::default();
        page.items.push(AuditLine { line: lines, bytes: Bytes(Vec::new()), hash });
        page.next = Cursor::new(&lines.to_be_bytes());
        return Ok((Plan::default(), page));
    }
    let start = asked.line.saturating_sub(1).to_be_bytes();
    let from = if asked.from.is_start() { &start[..] } else { asked.from.as_bytes() };
    let limit = PAGE.saturating_add(1);
    let scan = Scan { table: Table::Audit, prefix: &[], after: Some(from), order: Order::Forward, limit };
    let rows = view.store.scan(scan)?;
    let page = page(rows.iter().map(|row| (&row.0, row)), |(key, value)| {
        let (line, hash, bytes) = audit::parse(key, value).ok_or(No::from(Code::Internal))?;
        Ok(Some(AuditLine { line, bytes: Bytes(bytes.to_vec()), hash }))
    })?;
    Ok((Plan::default(), page))
}
