mod discharge;
mod verified;

use alloc::vec::Vec;

pub use verified::{Place, Verified};

use crate::budget::Budget;
use crate::bundle::Presented;
use crate::chain::Roll;
use crate::error::{Bug, Error, Malformed, NotAuthentic};
use crate::facts::LineageFacts;
use crate::ids::BranchId;
use crate::key::RootKey;
use crate::prefix::Prefix;
use crate::token::Token;
use crate::wire::v2::Caveats;

/// What a chain is rolled from.
#[derive(Debug, Clone, Copy)]
pub enum Basis<'k> {
    /// The key of the record that the token's key id names.
    Root(&'k RootKey),
    /// A remembered prefix that [covers](Prefix::covers) what was presented.
    Prefix(&'k Prefix),
}

/// Whether the branch id of every chain point is worked out, at the cost of one hash block a
/// caveat. Needed when the revocation set [has branches](crate::revocation::Revocations).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BranchIds {
    /// All of them.
    Collect,
    /// None; clearing against a set that has branches then refuses to decide.
    Skip,
}

/// Room that verification works in; kept and used again, it stops allocating. Holds no secret
/// between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    branches: Vec<BranchId>,
    plan: discharge::Plan,
}

impl Scratch {
    /// Empty; allocates at first use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The discharges by their indexes, in the order in which caveats ask for them.
    pub(crate) fn asked(&self) -> impl Iterator<Item = usize> {
        self.plan.asked()
    }

    pub(crate) fn into_branches(self) -> Vec<BranchId> {
        self.branches
    }
}

/// Verifies a token of ours with its discharges: every tag of every chain is computed and
/// compared, in constant time, before any caveat is looked at (docs/spec/token.md, TK-60).
///
/// `facts` are what the signer, or the record of a delegated key, says of the token's lineage.
/// The cost is linear in the bytes presented and taken from `budget` before it arises.
///
/// # Errors
/// [`Error::Malformed`] when the identifier is none of ours, [`Error::NotAuthentic`] when a chain
/// does not hold or a third-party caveat is not discharged by exactly one bound discharge,
/// [`Error::TooMuchWork`] when the budget runs out, [`Error::Bug`] when `basis` or `facts` do not
/// belong to the token.
pub fn verify<'v>(
    presented: Presented<'v>,
    basis: Basis<'_>,
    facts: &'v LineageFacts,
    branches: BranchIds,
    scratch: &'v mut Scratch,
    budget: &mut Budget,
) -> Result<Verified<'v>, Error> {
    let root = presented.root();
    let identifier = root.claimed_identifier()?;
    if u16::from(identifier.caveats_at_mint) > root.caveat_count() {
        return Err(Malformed::Identifier("more caveats at mint than there are").into());
    }
    if identifier.subject.is_some() != facts.subject_row.is_some() {
        return Err(Bug("the facts are of another lineage: a subject and its row do not match").into());
    }
    authenticate(&presented, basis, branches, scratch, budget)?;
    let branches = match branches {
        BranchIds::Collect => Some(scratch.branches.as_slice()),
        BranchIds::Skip => None,
    };
    Ok(Verified::new(presented, identifier, facts, branches))
}

/// The chains alone. Leaves the branch ids in `scratch`, and which discharges were asked for.
pub(crate) fn authenticate(
    presented: &Presented<'_>,
    basis: Basis<'_>,
    branches: BranchIds,
    scratch: &mut Scratch,
    budget: &mut Budget,
) -> Result<(), Error> {
    let root = presented.root();
    scratch.branches.clear();
    scratch.plan.clear();
    spend(&root, branches, budget)?;
    for discharge in presented.discharges() {
        spend(&discharge, BranchIds::Skip, budget)?;
    }
    let added = match basis {
        Basis::Root(_) => root.caveats(),
        Basis::Prefix(prefix) => {
            let added = prefix.rest_of(&root).filter(|_| prefix.proves_discharges_of(presented));
            let added = added.ok_or(Bug("a remembered prefix was used for a token it does not cover"))?;
            if branches == BranchIds::Collect {
                scratch.branches.extend_from_slice(prefix.earlier());
            }
            added
        }
    };
    let mut end = match basis {
        Basis::Root(key) => Roll::start(key, root.identifier_bytes()),
        Basis::Prefix(prefix) => Roll::resume(prefix.tail()),
    };
    if let Basis::Prefix(prefix) = basis
        && prefix.holds_discharges()
    {
        // The identical token with the identical discharges: the signer vouched for all.
        return finish(&root, &end, branches, &mut scratch.branches);
    }
    if root.third_party_count() == 0 && presented.discharge_count() == 0 {
        roll(&mut end, added, branches, &mut scratch.branches);
        return finish(&root, &end, branches, &mut scratch.branches);
    }
    discharge::authenticate(presented, &mut end, added, branches, scratch, budget)
}

/// The branch ids of every point of a token's own chain, its own last, when that chain holds
/// under `key`: for killing a token that was found without its discharges. Says nothing of
/// third-party caveats, so nothing may ever be granted on it.
///
/// # Errors
/// [`Error::NotAuthentic`] when the chain does not hold, [`Error::TooMuchWork`].
#[cfg(feature = "mint")]
pub fn branches_of_own_chain(
    token: &Token<'_>,
    key: &RootKey,
    budget: &mut Budget,
) -> Result<Vec<BranchId>, Error> {
    spend(token, BranchIds::Collect, budget)?;
    let mut ids = Vec::with_capacity(usize::from(token.caveat_count()).saturating_add(1));
    let mut end = Roll::start(key, token.identifier_bytes());
    for caveat in token.caveats() {
        ids.push(end.branch());
        match caveat.vid {
            None => end.first_party(caveat.cid),
            Some(vid) => end.third_party(vid, caveat.cid),
        }
    }
    finish(token, &end, BranchIds::Collect, &mut ids)?;
    Ok(ids)
}

/// Takes what a token costs: its bytes once, four blocks and the padding of a fifth for every
/// link, one more for each branch id, and for a third-party link the blocks of its two inner tags
/// and of the sealed key.
fn spend(token: &Token<'_>, branches: BranchIds, budget: &mut Budget) -> Result<(), Error> {
    let per_link = match branches {
        BranchIds::Collect => 5,
        BranchIds::Skip => 4,
    };
    let links = u32::from(token.caveat_count()).saturating_add(1);
    let third_party = u32::from(token.third_party_count()).saturating_mul(THIRD_PARTY_BLOCKS);
    budget.spend(links.saturating_mul(per_link).saturating_add(third_party))?;
    budget.spend_bytes(token.as_v2().len())?;
    Ok(())
}

/// Beyond a first-party link: two more tags of two blocks and an end each, and, for the key that is
/// opened, a stream block, its authenticator and the two blocks of the key's states.
const THIRD_PARTY_BLOCKS: u32 = 10;

/// Rolls over first-party caveats; leaves the branch ids of all points but the last.
fn roll(roll: &mut Roll, caveats: Caveats<'_>, branches: BranchIds, ids: &mut Vec<BranchId>) {
    match branches {
        BranchIds::Skip => caveats.for_each(|caveat| roll.first_party(caveat.cid)),
        BranchIds::Collect => {
            for caveat in caveats {
                ids.push(roll.branch());
                roll.first_party(caveat.cid);
            }
        }
    }
}

/// Compares the token's own tag and adds the last branch id.
fn finish(root: &Token<'_>, end: &Roll, branches: BranchIds, ids: &mut Vec<BranchId>) -> Result<(), Error> {
    if !end.signs(root.signature()) {
        return Err(NotAuthentic::Signature.into());
    }
    if branches == BranchIds::Collect {
        ids.push(end.branch());
    }
    Ok(())
}
