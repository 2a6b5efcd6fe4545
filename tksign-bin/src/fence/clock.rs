//! The way out after a clock that was far ahead and is right again: mint times never go back by
//! themselves, so nothing would be minted until the clock has caught up, in years perhaps.
//!
//! Two things must hold before the mint time may go back. A floor that is set from now on lies
//! above the *right* clock, so it would miss what was minted ahead of it: every such token is
//! revoked by its lineage. And what ran out by the wrong clock has left the set of revocations: it is
//! put back. Both are read from the audit chain, which has a line of every mint, exchange and revocation,
//! also of those that the registry has forgotten or never had.

use std::collections::{BTreeMap, BTreeSet};

use tkcore::protocol::{AuditActor, AuditEvent};
use tkcore::revocation::publish::RevocationRow;
use tkcore::revocation::{ExpiryDay, Revocation};
use tkcore::{BranchId, Json, LineageId, Timestamp};

use super::{Restored, write};
use crate::audit;
use crate::codec::count;
use crate::memory::{LAST_MINT, SignerError, each};
use crate::publish::ahead;
use crate::registry::{Find, find};
use crate::revoked;
use crate::store::{Op, Table};

/// What was done, for people.
#[derive(Debug)]
pub(crate) struct TurnedBack {
    /// The last mint time before, and now.
    pub(crate) was: Timestamp,
    pub(crate) is: Timestamp,
    /// Tokens minted ahead of the clock: now revoked.
    pub(crate) revoked: u64,
    /// Revocations that had run out by the wrong clock: in force again, for good.
    pub(crate) again: u64,
}

/// Why nothing was done, and what to do instead.
pub(crate) type Stays = (&'static str, &'static str);

/// What the audit chain tells.
#[derive(Default)]
struct Told {
    /// Ahead of the clock.
    minted: BTreeSet<LineageId>,
    revoked: BTreeSet<Revocation>,
    /// Of each signer's chain, whether no mint ahead was pruned.
    whole: BTreeMap<String, bool>,
}

impl Told {
    /// One line of a signer's chain; refusals did nothing. `None` when it does not read.
    fn take(&mut self, signer: &str, line: &str, now: Timestamp) -> Option<()> {
        let line = Json::read(line)?;
        let field = |name| line.get(name).and_then(Json::text);
        let is_first = line.get("n") == Some(&Json::Int(1));
        let whole = self.whole.entry(signer.to_owned()).or_insert(is_first);
        let lineage = field("lineage").and_then(LineageId::from_hex);
        match field("op")? {
            _ if field("refused").is_some() => {}
            "mint" | "exchange" => {
                let lineage = lineage?;
                if lineage.minted().is_some_and(|at| at <= now) {
                    // Mint times never go back: what was minted ahead has its line after this one.
                    *whole = true;
                } else {
                    self.minted.insert(lineage);
                }
            }
            "revoke" | "revoke-presented" => {
                self.revoked.extend(lineage.map(|lineage| Revocation::Token { lineage }));
                let branch = field("branch").and_then(BranchId::from_hex);
                self.revoked.extend(branch.map(|branch| Revocation::Branch { branch }));
            }
            // Another signer's, from the cluster that this store was.
            "import" => return self.take(field("signer")?, field("line")?, now),
            _ => {}
        }
        Some(())
    }
}

impl Restored {
    /// Lets the mint time go back to `now`, which is right, and puts back what has run out.
    ///
    /// # Errors
    /// As a store's. [`Stays`] when there is nothing to take back, or it cannot be known what.
    pub(crate) fn turn_back(&mut self, now: Timestamp) -> Result<Result<TurnedBack, Stays>, SignerError> {
        let (was, store, memory) = (self.memory.last_mint, &*self.store, &self.memory);
        if !self.evidence.gaps().is_empty() {
            return Ok(Err((
                "the store is behind what was published",
                "end the restore first, with --merge",
            )));
        }
        let mut told = Told::default();
        // The chain itself was checked when the store was opened.
        each(store, Table::Audit, |key, value| match audit::parse(key, value) {
            // The end of what was pruned.
            Some((_, _, [])) => Ok(()),
            Some((_, _, line)) => {
                let read = told.take("", &String::from_utf8_lossy(line), now);
                read.ok_or(SignerError::Record(Table::Audit, "a line"))
            }
            None => Err(SignerError::Record(Table::Audit, "layout")),
        })?;
        let is_last = |lineage: &LineageId| lineage.minted() == Some(was);
        let is_ahead = ahead(was, now);
        if is_ahead && !(told.minted.iter().any(is_last) && told.whole.values().all(|whole| *whole)) {
            return Ok(Err((
                "audit lines that may be of tokens minted ahead were pruned, so these cannot be known",
                "retire every key (tksign keys retire), then wait until the clock has caught up, or make a new store",
            )));
        }
        for revocation in told.revoked.clone() {
            if let Revocation::Branch { branch } = revocation {
                let children = find(store, &memory.core, &Find::Branch(branch), &[], usize::MAX)?;
                told.revoked.extend(children.into_iter().map(|lineage| Revocation::Token { lineage }));
            }
        }
        let (mut ops, mut keys) = (Vec::new(), BTreeSet::new());
        let minted = told.minted.into_iter().filter(|_| is_ahead);
        let minted = minted.map(|lineage| Revocation::Token { lineage }).collect();
        let mut made = Vec::new();
        for all in [minted, told.revoked] {
            let before = ops.len();
            for revocation in all {
                // Whatever day it was kept for was counted by the wrong clock.
                let row = RevocationRow { revocation, day: ExpiryDay::UNKNOWN, covered: None };
                let is_set =
                    memory.revoked.set().is_some_and(|set| set.has(&revocation, ExpiryDay::from_number(0)));
                if is_set || memory.uncovered.contains_key(&row.key()) || !keys.insert(row.key()) {
                    continue;
                }
                // Dropped already: it is overwritten, unless the last head still counts it.
                if self.evidence.own.chain.is_none() && store.get(Table::Revocations, &row.key())?.is_some() {
                    return Ok(Err((
                        "a step has dropped revocations, and no head says so yet",
                        "serve until the feed has a new head (see `tksign status`), stop, and do this again",
                    )));
                }
                ops.push(Op::Put(Table::Revocations, row.key(), revoked::value(&memory.core, &row)));
            }
            made.push(count(ops.len().saturating_sub(before)));
        }
        if !is_ahead && ops.is_empty() {
            return Ok(Err((
                "the last mint is not ahead of the clock, and no revocation that the audit log knows is missing",
                "nothing is to be done",
            )));
        }
        let (revoked, again) = (made.iter().take(1).sum(), made.iter().skip(1).sum());
        let is = if is_ahead { now } else { was };
        let event = AuditEvent::new(AuditActor::Signer, "clock-back")
            .with("was", was)
            .with("revoked", revoked)
            .with("again", again);
        ops.push(audit::append(&memory.audit, &event, now).0);
        // A store that was a cluster has a row of each signer.
        each(store, Table::Meta, |key, _| {
            if is_ahead && key.starts_with(LAST_MINT) {
                ops.push(memory.put(Table::Meta, key, &now.millis().to_be_bytes()));
            }
            Ok(())
        })?;
        write(&mut *self.store, ops)?;
        Ok(Ok(TurnedBack { was, is, revoked, again }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::memory::Memory;
    use crate::secret::Secret;
    use crate::signer::Signer;
    use crate::store::Sqlite;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn line(number: u64, what: &'static str, lineage: LineageId) -> String {
        AuditEvent::new(AuditActor::Signer, what).with("lineage", lineage).line(number, at(1))
    }

    /// A store that came from a cluster holds the other signers' lines inside its own, and each of
    /// these chains may be pruned for itself.
    #[test]
    fn the_lines_of_a_clusters_other_signers_count() {
        let now = at(1_795_000_000_123);
        let (right, ahead) = (LineageId::new([1; 10], now), LineageId::new([2; 10], at(1_799_000_000_456)));
        let told = |first: u64, what| {
            let mut told = Told::default();
            let import =
                |line| AuditEvent::new(AuditActor::Signer, "import").with("signer", "b").with("line", line);
            told.take("", &line(1, "mint", right), now).unwrap();
            told.take("", &import(line(first, what, ahead)).line(2, now), now).unwrap();
            told
        };
        let whole = told(1, "exchange");
        assert!(whole.minted.contains(&ahead) && !whole.minted.contains(&right));
        assert!(whole.whole.values().all(|whole| *whole));
        assert_eq!(told(1, "revoke").revoked, [Revocation::Token { lineage: ahead }].into());
        let pruned = told(7, "mint");
        assert_eq!(pruned.whole.get("b"), Some(&false));
        assert_eq!(pruned.whole.get(""), Some(&true));
    }

    /// Each signer of a cluster had a mint time in a row of its own: no one of them stays ahead.
    #[test]
    fn every_signers_mint_time_goes_back() {
        let dir = testkit::TempDir::new();
        let secret = Secret::new((0..32u8).map(|at| at.wrapping_mul(7)).collect()).unwrap();
        Signer::init(dir.path(), &secret, &[], &SystemClock, |_| Ok(())).unwrap();
        let now = SystemClock.now();
        let was = now.saturating_add(std::time::Duration::from_secs(30 * 86_400));
        let mut store = Sqlite::open(dir.path()).unwrap();
        let memory = Memory::load(&store, &secret).unwrap();
        let event = AuditEvent::new(AuditActor::Signer, "mint").with("lineage", LineageId::new([2; 10], was));
        let row = memory.put(Table::Meta, &[LAST_MINT, b"b"].concat(), &was.millis().to_be_bytes());
        write(&mut store, vec![row, audit::append(&memory.audit, &event, was).0]).unwrap();
        let mut restored = Restored::open(Box::new(store), dir.path(), None, &secret, now).unwrap();
        let done = restored.turn_back(now).unwrap().unwrap();
        assert_eq!((done.was, done.is, done.revoked), (was, now, 1));
        assert_eq!(Memory::load(&*restored.store, &secret).unwrap().last_mint, now);
    }

    #[test]
    fn a_refusal_did_nothing_and_a_broken_line_is_no_line() {
        let event = AuditEvent::new(AuditActor::Signer, "mint").refused(tkcore::protocol::Code::Busy);
        let mut told = Told::default();
        told.take("", &event.with("lineage", LineageId::new([2; 10], at(9))).line(1, at(1)), at(1)).unwrap();
        assert!(told.minted.is_empty());
        assert!(told.take("", "{\"n\":2,\"op\":\"mint\"", at(1)).is_none());
    }
}
