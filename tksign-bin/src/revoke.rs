//! `Revoke` and `RevokePresented`: from the commit on the signer's own answers refuse what is
//! named, and the next step of the feed carries it everywhere.

use std::time::Duration;

use tkcore::protocol::{
    AuditEvent, Code, Floor, KeyFloor, Revoke, RevokeAnswer, RevokeEffect, RevokePresented, RevokeScope,
    RevokeTarget, SecretBytes, Text,
};
use tkcore::revocation::publish::{RevocationRow, kept_day};
use tkcore::revocation::{ExpiryDay, Revocation};
use tkcore::{BranchId, KeyClass, Timestamp};

use crate::memory::Effect;
use crate::registry::{self, Find};
use crate::revoked;
use crate::service::{Ask, Decided, No};
use crate::store::{Op, Table};
use crate::verify;
use crate::writer::{Plan, View};

/// Service tokens that one branch revocation may expand to in one transaction. A parent has a
/// few workloads; more than this is revoked as a lineage, which needs no expansion.
const CHILDREN: usize = 4096;

/// Decides a revocation by any rule.
pub(crate) fn revoke(view: &View<'_>, ask: &Ask, asked: Revoke) -> Decided<Revoke> {
    let memory = view.memory;
    let mut event = ask.event();
    let mut day = ExpiryDay::UNKNOWN;
    let revocation = match &asked.target {
        RevokeTarget::Token(lineage) => {
            if let Some(token) = registry::load(view.store, memory, *lineage)? {
                day = kept_day(token.expiry);
            }
            Revocation::Token { lineage: *lineage }
        }
        RevokeTarget::Branch(branch) => Revocation::Branch { branch: *branch },
        RevokeTarget::Key(key, floor) => {
            memory.keys.get(key).ok_or(No::from(Code::NotFound))?;
            let before = match floor {
                KeyFloor::All => None,
                KeyFloor::Before(floor) => Some(time(view, *floor)?),
            };
            Revocation::Key { key: *key, before }
        }
        RevokeTarget::Subject(tenant, subject, floor) => {
            event = event
                .with("tenant", ask.name(memory, "tenant", tenant))
                .with("subject", ask.name(memory, "subject", subject));
            let row = memory.core.tenant_key(tenant).subject_row(subject);
            Revocation::Subject { row, before: time(view, *floor)? }
        }
        RevokeTarget::Tenant(tenant, floor) => {
            event = event.with("tenant", ask.name(memory, "tenant", tenant));
            let row = memory.core.tenant_key(tenant).tenant_row();
            Revocation::Tenant { row, before: time(view, *floor)? }
        }
        RevokeTarget::Global(floor) => Revocation::Global { before: time(view, *floor)? },
        RevokeTarget::Presented(token, scope) => {
            let revocation;
            (revocation, day) = presented(view, token, *scope)?;
            revocation
        }
    };
    commit(view, &revocation, day, event, &asked.reason)
}

/// Decides the revocation of a presented token from its last caveat on.
pub(crate) fn revoke_presented(
    view: &View<'_>,
    ask: &Ask,
    asked: RevokePresented,
) -> Decided<RevokePresented> {
    let (revocation, day) = presented(view, &asked.token, RevokeScope::Branch)?;
    commit(view, &revocation, day, ask.event(), &asked.reason)
}

/// What kills a presented token. Its own chain must hold; discharges are not asked for, since a
/// leaked token is found without them.
fn presented(
    view: &View<'_>,
    token: &SecretBytes,
    scope: RevokeScope,
) -> Result<(Revocation, ExpiryDay), No> {
    let said = verify::chain(view.memory, token, |record, identifier, branches| {
        let day = kept_day(identifier.expiry);
        let branch = *branches.last().ok_or_else(|| Code::Internal.error())?;
        Ok((record.key, record.class, identifier.lineage, branch, day))
    })?;
    let (key, class, lineage, branch, day) = said;
    match scope {
        // The id of a chain point can name no other token.
        RevokeScope::Branch => Ok((Revocation::Branch { branch }, day)),
        RevokeScope::Lineage => {
            let known = registry::load(view.store, view.memory, lineage)?;
            if known.is_some_and(|known| known.key != key) {
                return Err(Code::NotAuthentic.detail("its lineage is another token's").into());
            }
            // Under a delegable key lineage and expiry are what the key's service wrote: a row that
            // left on the day it claims would bring a token of that lineage back to life.
            let day = if class == KeyClass::Delegable { ExpiryDay::UNKNOWN } else { day };
            Ok((Revocation::Token { lineage }, day))
        }
    }
}

/// The rows, effects and answer of a revocation that has been decided on.
pub(crate) fn commit(
    view: &View<'_>,
    revocation: &Revocation,
    day: ExpiryDay,
    event: AuditEvent,
    reason: &Text,
) -> Result<(Plan, RevokeAnswer), No> {
    let before = revocation.before();
    let reason = Some(reason).filter(|reason| !reason.as_str().is_empty());
    let mut event = event.maybe("reason", reason).with("rule", revocation.rule());
    event = match *revocation {
        Revocation::Token { lineage } => event.with("lineage", lineage),
        Revocation::Branch { branch } => event.with("branch", branch),
        Revocation::Key { key, .. } => event.with("key", key),
        Revocation::Subject { row, .. } | Revocation::Tenant { row, .. } => event.with("row", row),
        Revocation::Global { .. } => event,
    };
    let mut plan = Plan::default();
    let fresh = add(view, revocation, day, &mut plan)?;
    if let (Revocation::Branch { branch }, true) = (revocation, fresh) {
        let children = expand(view, *branch, &mut plan)?;
        event = event.with("service-tokens", children);
    }
    plan.events.push(event.maybe("before", before));
    let effect = if fresh { RevokeEffect::New } else { RevokeEffect::Already };
    Ok((plan, RevokeAnswer { effect, before, after: view.memory.position }))
}

/// Adds the row of one revocation, unless it is there already.
pub(crate) fn add(
    view: &View<'_>,
    revocation: &Revocation,
    day: ExpiryDay,
    plan: &mut Plan,
) -> Result<bool, No> {
    let row = RevocationRow { revocation: *revocation, day, covered: None };
    let key = row.key();
    if view.store.get(Table::Revocations, &key)?.is_some() || view.memory.revoked.has_stricter(revocation) {
        return Ok(false);
    }
    plan.ops.push(Op::Create(Table::Revocations, key, revoked::value(&view.memory.core, &row)));
    plan.effects.push(Effect::Revoked(row));
    Ok(true)
}

/// Revokes the service tokens that were made from a branch or from what follows from it.
fn expand(view: &View<'_>, branch: BranchId, plan: &mut Plan) -> Result<usize, No> {
    let children = registry::find(view.store, &view.memory.core, &Find::Branch(branch), &[], CHILDREN)?;
    if children.len() >= CHILDREN {
        return Err(Code::Conflict
            .detail("too many service tokens come from this branch: revoke the lineage")
            .into());
    }
    for lineage in &children {
        let expiry = registry::load(view.store, view.memory, *lineage)?.and_then(|token| token.expiry);
        add(view, &Revocation::Token { lineage: *lineage }, kept_day(expiry), plan)?;
    }
    Ok(children.len())
}

/// The time of a floor. "Now" lies above every mint time there is, so that it kills everything
/// that exists; another time may not lie in the future.
fn time(view: &View<'_>, floor: Floor) -> Result<Timestamp, No> {
    let now = view.now.max(view.memory.last_mint.saturating_add(Duration::from_millis(1)));
    match floor {
        Floor::Now => Ok(now),
        Floor::At(at) if at > now => Err(Code::BadTime.detail("a floor may not lie in the future").into()),
        Floor::At(at) if at == Timestamp::EPOCH => {
            Err(Code::BadTime.detail("a floor of 1970 kills nothing").into())
        }
        Floor::At(at) => Ok(at),
    }
}
