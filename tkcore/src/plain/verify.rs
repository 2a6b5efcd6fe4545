use alloc::vec::Vec;

use crate::budget::Budget;
use crate::chain;
use crate::error::{Error, NotAuthentic};
use crate::fault::{DischargeFault, Party};
use crate::ids::BranchId;
use crate::key::{RootKey, Tail};
use crate::limits;
use crate::plain::Macaroon;
use crate::wire::canonical::{Parts, RawParts, VID_BYTES};

/// A macaroon whose MAC chain holds, with exactly the discharges that it needs. What it restricts
/// is still to be judged: [`VerifiedMacaroon::clear`].
#[derive(Debug)]
pub struct VerifiedMacaroon<'a> {
    root: &'a Macaroon,
    /// In the order in which caveats ask for them.
    discharges: Vec<&'a Macaroon>,
    branches: Vec<BranchId>,
}

/// One first-party caveat that a request must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition<'a> {
    /// Its bytes, as they were received and MACed.
    pub bytes: &'a [u8],
    /// `None`: it stands in the macaroon itself. Otherwise in the discharge of that number,
    /// counted in the order in which caveats ask for them.
    pub discharge: Option<usize>,
}

impl Macaroon {
    /// Verifies the whole chain, with all discharges, before anything it says can be looked at.
    ///
    /// Every third-party caveat needs exactly one bound discharge (docs/spec/third-party.md,
    /// TP-20 to TP-29). All tags are compared in constant time. Nothing here recurses, and the
    /// work is bounded by `budget`.
    ///
    /// # Errors
    /// [`NotAuthentic::Signature`] when the macaroon was not made from this key;
    /// [`Error::Discharge`] with its reason; [`Error::TooMuchWork`].
    pub fn verify<'a>(
        &'a self,
        key: &RootKey,
        discharges: &'a [Self],
        budget: &mut Budget,
    ) -> Result<VerifiedMacaroon<'a>, Error> {
        if discharges.len() > limits::FOREIGN_DISCHARGES {
            return Err(DischargeFault::TooMany.into());
        }
        let mut asks = Vec::new();
        let mut branches = Vec::new();
        let root_tail = walk(&self.parts()?, key, budget, Asker::Root, &mut asks, |tail| {
            branches.push(chain::branch(tail));
        })?;
        if !root_tail.ct_eq(&self.tail()?) {
            return Err(NotAuthentic::Signature.into());
        }

        let index = Index::new(discharges)?;
        let mut askers: Vec<Option<Asker>> = discharges.iter().map(|_| None).collect();
        let mut order = Vec::new();
        let mut next = 0;
        while let Some(ask) = asks.get(next) {
            next = next.saturating_add(1);
            let caveat = ask.caveat;
            let Some(at) = index.find(caveat.cid) else {
                return Err(DischargeFault::Missing(Party::of(caveat.cid, caveat.location)).into());
            };
            if askers.get(at).copied().flatten().is_some() {
                return Err(again(at, ask.by, &askers).into());
            }
            if depth(ask.by, &askers) >= limits::FOREIGN_DEPTH {
                return Err(DischargeFault::TooDeep.into());
            }
            let key = ask.key.as_ref().ok_or(DischargeFault::SealedKey)?;
            let Some(discharge) = discharges.get(at) else {
                return Err(DischargeFault::Missing(Party::default()).into());
            };
            let mut further = Vec::new();
            let tail = walk(&discharge.parts()?, key, budget, Asker::Discharge(at), &mut further, |_| ())?;
            let presented = discharge.tail()?;
            if !chain::bind(&root_tail, &tail).ct_eq(&presented) {
                let unbound = tail.ct_eq(&presented);
                let fault = if unbound { DischargeFault::Unbound } else { DischargeFault::WronglyBound };
                return Err(fault.into());
            }
            if let Some(slot) = askers.get_mut(at) {
                *slot = Some(ask.by);
            }
            order.push(discharge);
            asks.append(&mut further);
        }
        if askers.iter().any(Option::is_none) {
            return Err(DischargeFault::Unused.into());
        }
        Ok(VerifiedMacaroon { root: self, discharges: order, branches })
    }
}

impl<'a> VerifiedMacaroon<'a> {
    /// The macaroon that was verified.
    #[must_use]
    pub const fn macaroon(&self) -> &'a Macaroon {
        self.root
    }

    /// All conditions: the macaroon's own in their order, then its discharges'.
    pub fn conditions(&self) -> impl Iterator<Item = Condition<'a>> {
        let root = conditions(self.root, None);
        let discharges = self.discharges.iter().enumerate();
        root.chain(discharges.flat_map(|(at, discharge)| conditions(discharge, Some(at))))
    }

    /// The branch ids of every point of the macaroon's own chain.
    #[must_use]
    pub fn branches(&self) -> &[BranchId] {
        &self.branches
    }
}

fn conditions(macaroon: &Macaroon, discharge: Option<usize>) -> impl Iterator<Item = Condition<'_>> {
    let caveats = macaroon.parts().into_iter().flat_map(|parts| parts.caveats());
    let first_party = caveats.filter(|caveat| caveat.vid.is_none());
    first_party.map(move |caveat| Condition { bytes: caveat.cid, discharge })
}

/// Which macaroon holds the caveat that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Root,
    Discharge(usize),
}

/// A third-party caveat that wants its discharge.
struct Ask<'a> {
    caveat: RawParts<'a>,
    /// `None` when the sealed key does not open, which is reported only once it is known that
    /// the chain around it holds.
    key: Option<RootKey>,
    by: Asker,
}

/// Rolls one chain forward and collects what it asks for.
fn walk<'a>(
    parts: &Parts<'a>,
    key: &RootKey,
    budget: &mut Budget,
    by: Asker,
    asks: &mut Vec<Ask<'a>>,
    mut point: impl FnMut(&Tail),
) -> Result<Tail, Error> {
    budget.spend_bytes(parts.identifier.len().saturating_add(CHAIN_BYTES))?;
    let mut tail = chain::start(key, parts.identifier);
    point(&tail);
    for caveat in parts.caveats() {
        budget.spend_bytes(caveat.cid.len().saturating_add(CHAIN_BYTES))?;
        tail = match caveat.vid {
            None => chain::first_party(&tail, caveat.cid),
            Some(vid) => {
                budget.spend_bytes(VID_BYTES.saturating_add(CHAIN_BYTES))?;
                asks.push(Ask { caveat, key: open(&tail, vid)?, by });
                chain::third_party(&tail, vid, caveat.cid)
            }
        };
        point(&tail);
    }
    Ok(tail)
}

/// What one link costs beside its message: four blocks of padding and states, one branch id.
const CHAIN_BYTES: usize = 5 * 64;

#[cfg(feature = "third-party")]
#[expect(clippy::unnecessary_wraps, reason = "the build without third-party caveats refuses here")]
fn open(before: &Tail, vid: &[u8; VID_BYTES]) -> Result<Option<RootKey>, Error> {
    Ok(crate::third_party::vid::open(before, vid))
}

#[cfg(not(feature = "third-party"))]
fn open(_: &Tail, _: &[u8; VID_BYTES]) -> Result<Option<RootKey>, Error> {
    Err(DischargeFault::NotBuilt.into())
}

/// A discharge is asked for a second time: by one that it leads to itself, or by another.
fn again(at: usize, by: Asker, askers: &[Option<Asker>]) -> DischargeFault {
    let mut above = by;
    // Each step goes one asker up; there are no more askers than discharges.
    for _ in askers {
        match above {
            Asker::Discharge(here) if here == at => return DischargeFault::Cyclic,
            Asker::Discharge(here) => match askers.get(here).copied().flatten() {
                Some(asker) => above = asker,
                None => break,
            },
            Asker::Root => break,
        }
    }
    DischargeFault::Reused
}

/// How many discharges stand between the root and what `by` asks for.
fn depth(by: Asker, askers: &[Option<Asker>]) -> usize {
    let mut above = by;
    let mut depth = 0usize;
    for _ in askers {
        let Asker::Discharge(here) = above else { break };
        depth = depth.saturating_add(1);
        match askers.get(here).copied().flatten() {
            Some(asker) => above = asker,
            None => break,
        }
    }
    depth
}

/// Finds discharges by identifier: sorted once, so that many caveats cannot make many searches
/// expensive.
struct Index<'a> {
    sorted: Vec<(&'a [u8], usize)>,
}

impl<'a> Index<'a> {
    fn new(discharges: &'a [Macaroon]) -> Result<Self, Error> {
        let mut sorted: Vec<_> =
            discharges.iter().enumerate().map(|(at, discharge)| (discharge.identifier(), at)).collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            return Err(DischargeFault::Duplicate.into());
        }
        Ok(Self { sorted })
    }

    fn find(&self, identifier: &[u8]) -> Option<usize> {
        let at = self.sorted.binary_search_by(|(id, _)| (*id).cmp(identifier)).ok()?;
        self.sorted.get(at).map(|(_, at)| *at)
    }
}
