//! `Exchange`: a service token for a token and the discharge of its authentication caveat.

use std::sync::Arc;

use tkcore::protocol::{Code, Exchange, ExchangeAnswer, RpcError};
use tkcore::{KeyClass, NewCaveat, is_tenant_wide};

use crate::codec::count;
use crate::issue::{self, New};
use crate::registry::{self, Find};
use crate::revoke;
use crate::service::{Ask, Decided, No};
use crate::verify::{self, Held};
use crate::writer::View;

/// Decides an exchange. It runs in the writer, so that no revocation of the parent can slip in
/// between the check and the child.
pub(crate) fn exchange(view: &View<'_>, ask: &Ask, asked: Exchange) -> Decided<Exchange> {
    let find = |key| Some((Arc::clone(view.memory.keys.get(&key)?), Arc::clone(&view.memory.core)));
    verify::authentic(find, &asked.root, &asked.discharges, |held| {
        let parent = held.identifier.lineage;
        child(view, ask, &asked, held).map_err(|no| No {
            event: no.event.or_else(|| Some(Box::new(ask.event().with("parent", parent)))),
            ..no
        })
    })
}

fn child(view: &View<'_>, ask: &Ask, asked: &Exchange, held: &Held<'_>) -> Decided<Exchange> {
    let not = |why: &str| No::from(Code::NotExchangeable.detail(why));
    held.verified.stands(view.now, &view.memory.revoked).map_err(|error| RpcError::from(&error))?;
    let record = held.record;
    // A service that holds the key could have made the parent itself.
    if record.class == KeyClass::Delegable {
        return Err(not("it is under a key that services hold"));
    }
    let key = record.root().ok_or(No::from(Code::UnknownKey))?;
    // All that come from it come from its first point. With more of them its holder would have made a
    // branch that cannot be revoked.
    let first = held.branches.first().ok_or(No::from(Code::Internal))?;
    let made = registry::count(view.store, &view.memory.core, &Find::Branch(*first))?;
    if made >= count(revoke::CHILDREN) {
        return Err(not("too many service tokens come from it: let some end, or take another token"));
    }
    let counts = |authority| ask.options.authentication.contains(&authority);
    let left = tkcore::exchange(held.verified, &key, view.now, counts);
    let mut caveats = left.map_err(|why| not(&why.to_string()))?;
    let workload: Vec<NewCaveat> =
        asked.workload.iter().map(|text| NewCaveat::first_party(&text.0)).collect();
    if is_tenant_wide(&workload) {
        return Err(Code::BadParameters
            .detail("a caveat other than of time and without ? must lock it to a workload")
            .into());
    }
    caveats.extend(workload);
    let subject = held.identifier.subject.map(tkcore::Name::new).transpose();
    let subject = subject.map_err(|_| No::from(Code::TokenMalformed))?;
    // As every mint: above the floors, which the parent has passed, too.
    let at = issue::mint_time(view, record, subject.as_ref())?;
    let expiry = asked.ends(held.identifier.expiry, ask.options.exchange_cap, view.now)?;
    let parent = held.identifier.lineage;
    let (label, branches) = (asked.label.clone(), held.branches.to_vec());
    let new = New { record, at, expiry: Some(expiry), subject, label, parent: Some(parent), branches };
    let (plan, token, lineage) = new.issue(view.memory, ask, &caveats)?;
    Ok((plan, ExchangeAnswer { token, lineage, parent, key: record.key, expiry }))
}
