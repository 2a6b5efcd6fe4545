//! The way out after a clock that was far ahead and is right again: mint times never go back by
//! themselves, so nothing would be minted until the clock has caught up, in years perhaps.
//!
//! Two things must hold before the mint time may go back. A floor that is set from now on lies
//! above the *right* clock, so it would miss what was minted ahead of it: every such token is
//! revoked by its lineage. And what ran out by the wrong clock has left the set of revocations: it is
//! put back. Both are read from the audit chain, which has a line of every mint, exchange and revocation,
//! also of those that the registry has forgotten or never had.

use std::collections::BTreeSet;

use tkcore::protocol::{AuditActor, AuditEvent};
use tkcore::revocation::publish::RevocationRow;
use tkcore::revocation::{ExpiryDay, Revocation};
use tkcore::{BranchId, LineageId, Timestamp};

use super::{Restored, write};
use crate::audit;
use crate::codec::count;
use crate::memory::{SignerError, each};
use crate::publish::ahead;
use crate::registry::{Find, find};
use crate::revoked;
use crate::store::{Op, Table};

/// What was done, for people.
#[derive(Debug)]
pub(crate) struct TurnedBack {
    /// The last mint time before.
    pub(crate) was: Timestamp,
    /// Tokens minted ahead of the clock: now revoked.
    pub(crate) revoked: u64,
    /// Revocations that had run out by the wrong clock: in force again, for good.
    pub(crate) again: u64,
}

/// What the audit chain tells.
#[derive(Default)]
struct Told {
    minted: BTreeSet<LineageId>,
    revoked: Vec<Revocation>,
}

impl Told {
    /// One line; refusals did nothing.
    fn take(&mut self, line: &str, now: Timestamp) -> Option<()> {
        let (_, rest) = line.split_once(",\"op\":\"")?;
        let (op, rest) = rest.split_once("\",\"by\":\"")?;
        let (_, fields) = rest.split_once('"')?;
        if fields.starts_with(",\"refused\":") {
            return None;
        }
        let field = |name: &str| Some(fields.split_once(&format!(",\"{name}\":\""))?.1.split_once('"')?.0);
        let lineage = field("lineage").and_then(LineageId::from_hex);
        match op {
            "mint" | "exchange" => {
                self.minted.extend(lineage.filter(|lineage| lineage.minted().is_none_or(|at| at > now)));
            }
            "revoke" | "revoke-presented" => {
                self.revoked.extend(lineage.map(|lineage| Revocation::Token { lineage }));
                let branch = field("branch").and_then(BranchId::from_hex);
                self.revoked.extend(branch.map(|branch| Revocation::Branch { branch }));
            }
            _ => {}
        }
        Some(())
    }
}

impl Restored {
    /// Lets the mint time go back to `now`, which is right.
    ///
    /// # Errors
    /// [`SignerError::Feed`] when there is nothing to take back, when the store is behind what lies
    /// outside of it, or when lines of the time in question were pruned.
    pub(crate) fn turn_back(&mut self, now: Timestamp) -> Result<TurnedBack, SignerError> {
        let no = |why: &str| Err(SignerError::Feed(why.to_owned()));
        let was = self.memory.last_mint;
        if !ahead(was, now) {
            return no("the last mint is not ahead of the clock");
        }
        if !self.evidence.gaps().is_empty() {
            return no("first end the restore, with --merge");
        }
        let store = &*self.store;
        let (mut told, mut first) = (Told::default(), None);
        each(store, Table::Audit, |key, value| {
            let (_, _, line) = audit::parse(key, value).unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let at = line.split_once(",\"at\":\"").and_then(|(_, rest)| rest.split_once('"'));
            first = first.or_else(|| Timestamp::from_rfc3339(at?.0).ok());
            told.take(&line, now);
            Ok(())
        })?;
        // The chain itself was checked when the store was opened.
        if first.is_none_or(|first| first > now) {
            return no(
                "the audit lines from before the clock went ahead were pruned: what was minted since \
                       cannot be known. Retire the keys (tksign keys retire), then wait or make a new store",
            );
        }
        for revocation in told.revoked.clone() {
            if let Revocation::Branch { branch } = revocation {
                let children = find(store, &self.memory.core, &Find::Branch(branch), &[], usize::MAX)?;
                told.revoked.extend(children.into_iter().map(|lineage| Revocation::Token { lineage }));
            }
        }
        let (mut ops, mut keys) = (Vec::new(), BTreeSet::new());
        let minted = told.minted.iter().map(|lineage| Revocation::Token { lineage: *lineage });
        let minted: Vec<_> = minted.collect();
        let mut made = Vec::new();
        for all in [minted, told.revoked] {
            let before = ops.len();
            for revocation in all {
                // Whatever day it was kept for was counted by the wrong clock.
                let row = RevocationRow { revocation, day: ExpiryDay::UNKNOWN, covered: None };
                if store.get(Table::Revocations, &row.key())?.is_none() && keys.insert(row.key()) {
                    let value = revoked::value(&self.memory.core, &row);
                    ops.push(Op::Create(Table::Revocations, row.key(), value));
                }
            }
            made.push(count(ops.len().saturating_sub(before)));
        }
        let (revoked, again) = (made.iter().take(1).sum(), made.iter().skip(1).sum());
        let event = AuditEvent::new(AuditActor::Signer, "clock-back")
            .with("was", was)
            .with("revoked", revoked)
            .with("again", again);
        ops.push(audit::append(&self.memory.audit, &event, now).0);
        ops.push(self.memory.put_last_mint(now));
        write(&mut *self.store, ops)?;
        Ok(TurnedBack { was, revoked, again })
    }
}
