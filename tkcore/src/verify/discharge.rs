//! Discharge sets. First the shape, from identifiers alone: which discharge answers which
//! caveat, each exactly once. Then the tags, in the same order. Both are loops over a list that
//! grows to at most the number of discharges; nothing recurses.

use alloc::vec::Vec;

use super::{BranchIds, Scratch, finish};
use crate::budget::Budget;
use crate::bundle::Presented;
use crate::chain::Roll;
use crate::error::{Bug, Error};
use crate::fault::{DischargeFault, Party};
use crate::ids::BranchId;
use crate::key::RootKey;
use crate::token::Token;
use crate::wire::v2::{Caveats, RawCaveat};

/// Which discharge answers which caveat, in the order in which a walk over the token and then
/// over each discharge so found meets the caveats.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One entry for each third-party caveat met.
    answers: Vec<Answer>,
    /// Whether the discharge at this index has been claimed.
    claimed: Vec<bool>,
    /// The discharges by identifier, so that many caveats make no search expensive.
    sorted: Vec<usize>,
    /// The caveat keys, parallel to `answers` as far as the walk has come. Emptied, and so
    /// wiped, before a verification ends.
    keys: Vec<Option<RootKey>>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    discharge: usize,
    /// Index in `answers` of the discharge that asked; `None`: the token itself.
    asker: Option<usize>,
    depth: usize,
}

impl Plan {
    pub(super) fn clear(&mut self) {
        self.answers.clear();
        self.claimed.clear();
        self.sorted.clear();
    }

    pub(super) fn asked(&self) -> impl Iterator<Item = usize> {
        self.answers.iter().map(|answer| answer.discharge)
    }

    /// Refuses every set in which some caveat is not answered by a discharge of its own, or
    /// some discharge answers none.
    fn build(&mut self, presented: &Presented<'_>, budget: &mut Budget) -> Result<(), Error> {
        self.claimed.resize(presented.discharge_count(), false);
        self.sorted.extend(0..presented.discharge_count());
        let all = presented.discharges().map(|discharge| discharge.identifier_bytes().len());
        budget.spend_bytes(all.fold(0, usize::saturating_add).saturating_mul(SEARCH_STEPS))?;
        self.sorted.sort_unstable_by(|a, b| identifier(presented, *a).cmp(&identifier(presented, *b)));
        self.claim(presented, presented.root(), None, budget)?;
        let mut next = 0;
        while let Some(answer) = self.answers.get(next).copied() {
            let token = discharge(presented, answer.discharge)?;
            self.claim(presented, token, Some(next), budget)?;
            next = next.saturating_add(1);
        }
        if self.claimed.contains(&false) { Err(DischargeFault::Unused.into()) } else { Ok(()) }
    }

    /// Finds a discharge for each third-party caveat of one token.
    fn claim(
        &mut self,
        presented: &Presented<'_>,
        token: Token<'_>,
        asker: Option<usize>,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        if token.third_party_count() == 0 {
            return Ok(());
        }
        let parent = asker.and_then(|index| self.answers.get(index));
        let depth = parent.map_or(1, |parent| parent.depth.saturating_add(1));
        for RawCaveat { cid, vid, location } in token.caveats() {
            if vid.is_none() {
                continue;
            }
            budget.spend_bytes(cid.len().saturating_mul(SEARCH_STEPS))?;
            let first = self.sorted.partition_point(|at| identifier(presented, *at) < Some(cid));
            let from = self.sorted.get(first..).unwrap_or_default().iter().copied();
            let mut found = from.take_while(|at| identifier(presented, *at) == Some(cid));
            let Some(index) = found.next() else {
                return Err(DischargeFault::Missing(Party::of(cid, location)).into());
            };
            if found.next().is_some() {
                return Err(DischargeFault::Duplicate.into());
            }
            match self.claimed.get_mut(index).map(|claimed| core::mem::replace(claimed, true)) {
                Some(false) => {}
                _ if self.needs(asker, index) => return Err(DischargeFault::Cyclic.into()),
                _ => return Err(DischargeFault::Reused.into()),
            }
            if depth > presented.deepest() {
                return Err(DischargeFault::TooDeep.into());
            }
            self.answers.push(Answer { discharge: index, asker, depth });
        }
        Ok(())
    }

    /// Whether `asker` is this discharge or was asked for, over any number of steps, by it. The
    /// way up is at most as long as the nesting limit.
    fn needs(&self, mut asker: Option<usize>, discharge: usize) -> bool {
        while let Some(answer) = asker.and_then(|index| self.answers.get(index)) {
            if answer.discharge == discharge {
                return true;
            }
            asker = answer.asker;
        }
        false
    }
}

/// Verifies a token that has third-party caveats, discharges, or one without the other. `added`
/// are the caveats from `end` on; what was before holds no third-party caveat.
pub(super) fn authenticate(
    presented: &Presented<'_>,
    end: &mut Roll,
    added: Caveats<'_>,
    branches: BranchIds,
    scratch: &mut Scratch,
    budget: &mut Budget,
) -> Result<(), Error> {
    if cfg!(not(feature = "third-party")) && presented.root().third_party_count() != 0 {
        return Err(DischargeFault::NotBuilt.into());
    }
    let Scratch { branches: ids, plan } = scratch;
    plan.keys.clear();
    // Room for all of them at once: a list that grew would leave unwiped copies behind.
    plan.keys.reserve_exact(presented.discharge_count());
    let verdict = walk(presented, end, added, branches, ids, plan, budget);
    plan.keys.clear();
    verdict
}

fn walk(
    presented: &Presented<'_>,
    end: &mut Roll,
    added: Caveats<'_>,
    branches: BranchIds,
    ids: &mut Vec<BranchId>,
    plan: &mut Plan,
    budget: &mut Budget,
) -> Result<(), Error> {
    let root = presented.root();
    let most = presented.discharge_count();
    // The token's own tag first: of a forged one nothing else is worth saying.
    roll(end, added, branches, ids, &mut plan.keys, most)?;
    finish(&root, end, branches, ids)?;
    plan.build(presented, budget)?;
    let mut none = Vec::new();
    let mut next = 0;
    while let Some(answer) = plan.answers.get(next).copied() {
        let token = discharge(presented, answer.discharge)?;
        // Looked at where it lies: a key that was taken out would leave its bytes behind.
        let key = plan.keys.get(next).ok_or(Bug("a caveat key is missing"))?;
        let key = key.as_ref().ok_or(DischargeFault::SealedKey)?;
        let mut tail = Roll::start(key, token.identifier_bytes());
        roll(&mut tail, token.caveats(), BranchIds::Skip, &mut none, &mut plan.keys, most)?;
        if !tail.signs_bound(end, token.signature()) {
            return Err(if tail.signs(token.signature()) {
                DischargeFault::Unbound.into()
            } else {
                DischargeFault::WronglyBound.into()
            });
        }
        next = next.saturating_add(1);
    }
    Ok(())
}

/// Rolls over caveats of both kinds and opens the caveat keys on the way, in the plan's order,
/// `most` of them: with more third-party caveats than discharges the plan will not come about.
fn roll(
    roll: &mut Roll,
    caveats: Caveats<'_>,
    branches: BranchIds,
    ids: &mut Vec<BranchId>,
    keys: &mut Vec<Option<RootKey>>,
    most: usize,
) -> Result<(), Error> {
    for caveat in caveats {
        if branches == BranchIds::Collect {
            ids.push(roll.branch());
        }
        match caveat.vid {
            None => roll.first_party(caveat.cid),
            Some(vid) => {
                if keys.len() < most {
                    keys.push(open(roll, vid)?);
                }
                roll.third_party(vid, caveat.cid);
            }
        }
    }
    Ok(())
}

/// `Ok(None)`: it was not sealed under this point of the chain.
#[cfg(feature = "third-party")]
fn open(at: &Roll, vid: &[u8; 72]) -> Result<Option<RootKey>, Error> {
    Ok(crate::third_party::vid::open(&at.tail(), vid))
}

#[cfg(not(feature = "third-party"))]
fn open(_: &Roll, _: &[u8; 72]) -> Result<Option<RootKey>, Error> {
    Err(DischargeFault::NotBuilt.into())
}

/// Comparisons that a search in the most discharges takes: log₂ of 256, and one.
const SEARCH_STEPS: usize = 9;

fn identifier<'a>(presented: &Presented<'a>, index: usize) -> Option<&'a [u8]> {
    presented.discharge(index).map(|discharge| discharge.identifier_bytes())
}

fn discharge<'a>(presented: &Presented<'a>, index: usize) -> Result<Token<'a>, Bug> {
    presented.discharge(index).ok_or(Bug("a discharge is missing"))
}
