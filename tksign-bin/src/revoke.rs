//! `Revoke` and `RevokePresented`: from the commit on the signer's own answers refuse what is
//! named, and the next step of the feed carries it everywhere.

use std::time::Duration;

use tkcore::protocol::{
    AuditEvent, Code, Counted, Floor, KeyFloor, Revoke, RevokeAnswer, RevokeEffect, RevokePresented,
    RevokePreview, RevokePreviewAnswer, RevokeScope, RevokeTarget, SecretBytes, Text,
};
use tkcore::revocation::publish::{RevocationRow, Revoked, kept_day};
use tkcore::revocation::{ExpiryDay, Revocation};
use tkcore::{BranchId, KeyClass, Timestamp};

use crate::codec::hex;
use crate::lists;
use crate::memory::Effect;
use crate::registry::{self, Find};
use crate::revoked;
use crate::service::{Ask, Decided, No};
use crate::store::{Op, Table};
use crate::verify;
use crate::writer::{Plan, View};

/// Service tokens that come from one token at most: a branch revocation expands to them in one
/// transaction. A parent has a few workloads.
pub(crate) const CHILDREN: usize = 4096;
/// Signers of a cluster do not see each other's at once. More than this, which no exchange makes, is
/// revoked as a lineage, which needs no expansion.
const EXPANDED: usize = 2 * CHILDREN;

/// Decides a revocation by any rule.
pub(crate) fn revoke(view: &View<'_>, ask: &Ask, asked: Revoke) -> Decided<Revoke> {
    let (revocation, day, event) = named(view, ask, &asked.target)?;
    commit(view, &revocation, day, event, &asked.reason)
}

/// Says what a revocation would hit. Like every look at the registry it leaves no line in the audit,
/// and it decides by the same functions as the revocation itself.
pub(crate) fn preview(view: &View<'_>, ask: &Ask, asked: RevokePreview) -> Decided<RevokePreview> {
    let (revocation, day, _) = named(view, ask, &asked.target)?;
    let (memory, alone) = (view.memory, Revoked::by(&revocation));
    let is_new = add(view, &revocation, day, &mut Plan::default())?;
    let find = match (&revocation, &asked.target) {
        (Revocation::Token { lineage }, _) => Find::Parent(*lineage),
        (Revocation::Branch { branch }, _) => Find::Branch(*branch),
        (Revocation::Key { key, .. }, _) => Find::Key(*key),
        (_, RevokeTarget::Subject(tenant, subject, _)) => Find::Subject(tenant, subject),
        (_, RevokeTarget::Tenant(tenant, _)) => Find::Tenant(tenant),
        (_, _) => Find::All,
    };
    let mut lineages = registry::find(view.store, &memory.core, &find, &[], lists::COUNTED)?;
    let counted = if lineages.len() < lists::COUNTED { Counted::All } else { Counted::AtLeast };
    let mut answer = RevokePreviewAnswer::of(&revocation, day, effect(is_new), counted);
    answer.standing = memory.revoked.standing(&revocation);
    lineages.extend(if let Revocation::Token { lineage } = revocation { Some(lineage) } else { None });
    for lineage in lineages {
        let Some(token) = registry::unexpired(view, lineage)? else { continue };
        let killed = |revoked| registry::killed_by(memory, revoked, &token);
        answer.count(&token.info, killed(&alone), killed(&memory.revoked));
    }
    Ok((Plan::default(), answer))
}

/// What a target names: the row, the day it is kept for, and the audit line so far.
fn named(
    view: &View<'_>,
    ask: &Ask,
    target: &RevokeTarget,
) -> Result<(Revocation, ExpiryDay, AuditEvent), No> {
    let memory = view.memory;
    let mut event = ask.event();
    let mut day = ExpiryDay::UNKNOWN;
    let revocation = match target {
        RevokeTarget::Token(lineage) => {
            let known = registry::load(view.store, memory, *lineage)?;
            day = known.map_or(day, |token| kept_day(token.info.expiry, view.now));
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
    Ok((revocation, day, event))
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
        let day = kept_day(identifier.expiry, view.now);
        let branch = *branches.last().ok_or_else(|| Code::Internal.error())?;
        Ok((record.key, record.class, identifier.lineage, branch, day))
    })?;
    let (key, class, lineage, branch, day) = said;
    match scope {
        // The id of a chain point can name no other token, and nothing outlives the expiry of its own.
        RevokeScope::Branch => Ok((Revocation::Branch { branch }, day)),
        RevokeScope::Lineage => {
            let known = registry::load(view.store, view.memory, lineage)?;
            if known.is_some_and(|known| known.info.key != key) {
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
    if let Some((kind, id)) = revocation.named() {
        event = event.with(kind, hex(id));
    }
    let mut plan = Plan::default();
    let fresh = add(view, revocation, day, &mut plan)?;
    if let (Revocation::Branch { branch }, true) = (revocation, fresh) {
        let children = expand(view, *branch, &mut plan)?;
        event = event.with("service-tokens", children);
    }
    plan.events.push(event.maybe("before", before));
    Ok((plan, RevokeAnswer { effect: effect(fresh), before, after: view.memory.position }))
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
    let children = registry::find(view.store, &view.memory.core, &Find::Branch(branch), &[], EXPANDED)?;
    if children.len() >= EXPANDED {
        return Err(Code::Conflict
            .detail("too many service tokens come from this branch: revoke the lineage")
            .into());
    }
    for lineage in &children {
        let expiry = registry::load(view.store, view.memory, *lineage)?.and_then(|token| token.info.expiry);
        add(view, &Revocation::Token { lineage: *lineage }, kept_day(expiry, view.now), plan)?;
    }
    Ok(children.len())
}

fn effect(is_new: bool) -> RevokeEffect {
    if is_new { RevokeEffect::New } else { RevokeEffect::Already }
}

/// The time of a floor. "Now" lies above every mint time there is, so that it kills everything
/// that exists; in a cluster also above what a clock that is ahead of this one is minting.
fn time(view: &View<'_>, floor: Floor) -> Result<Timestamp, No> {
    let now = view.now.saturating_add(view.store.skew());
    let now = now.max(view.memory.last_mint.saturating_add(Duration::from_millis(1)));
    Ok(floor.time(now)?)
}
