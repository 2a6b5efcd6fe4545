use core::fmt;

use crate::bundle::Presented;
use crate::facts::LineageFacts;
use crate::identifier::Identifier;
use crate::ids::BranchId;
use crate::token::Token;

/// A token whose chain holds, and so do those of its discharges: made by [`crate::verify`]
/// alone. Nothing is allowed by it yet; that takes clearing its caveats for one request.
pub struct Verified<'v> {
    presented: Presented<'v>,
    identifier: Identifier<'v>,
    facts: &'v LineageFacts,
    branches: Option<&'v [BranchId]>,
}

/// Which caveat, for logs and explanations. Counts from 0; `Display` from 1, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// `None`: the token itself; else the discharge at this index, in the order presented.
    pub discharge: Option<u16>,
    /// The caveat's index in that token, third-party caveats counted too.
    pub caveat: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "caveat {}", self.caveat.saturating_add(1))?;
        match self.discharge {
            None => Ok(()),
            Some(index) => write!(f, " of discharge {}", index.saturating_add(1)),
        }
    }
}

/// One first-party caveat of a verified token or of one of its discharges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstParty<'v> {
    pub(crate) place: Place,
    pub(crate) text: &'v [u8],
}

impl<'v> Verified<'v> {
    pub(crate) const fn new(
        presented: Presented<'v>,
        identifier: Identifier<'v>,
        facts: &'v LineageFacts,
        branches: Option<&'v [BranchId]>,
    ) -> Self {
        Self { presented, identifier, facts, branches }
    }

    /// What was verified.
    pub(crate) const fn presented(&self) -> &Presented<'v> {
        &self.presented
    }

    /// The identifier: who the token is for is read from here alone.
    #[must_use]
    pub const fn identifier(&self) -> &Identifier<'v> {
        &self.identifier
    }

    /// What the signer vouches for about its lineage.
    #[must_use]
    pub const fn facts(&self) -> &'v LineageFacts {
        self.facts
    }

    /// The branch ids of every chain point, the token's own last; `None` when they were not
    /// collected. Safe to log.
    #[must_use]
    pub const fn branch_ids(&self) -> Option<&'v [BranchId]> {
        self.branches
    }

    /// How many caveats it carries, its discharges' included.
    #[must_use]
    pub fn caveat_count(&self) -> usize {
        let own = usize::from(self.presented.root().caveat_count());
        self.presented
            .discharges()
            .fold(own, |sum, token| sum.saturating_add(usize::from(token.caveat_count())))
    }

    /// Every first-party caveat: the token's in their order, then those of each discharge in
    /// the order presented. The third-party ones are proven by then.
    pub(crate) fn first_party(&self) -> impl Iterator<Item = FirstParty<'v>> + use<'v> {
        let root = first_party(None, self.presented.root());
        let presented = self.presented;
        let discharges = (0u16..).map_while(move |index| {
            let token = presented.discharge(usize::from(index))?;
            Some(first_party(Some(index), token))
        });
        root.chain(discharges.flatten())
    }
}

impl fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identifier { lineage, key, .. } = self.identifier;
        write!(f, "Verified(lineage {lineage} key {key})")
    }
}

fn first_party(discharge: Option<u16>, token: Token<'_>) -> impl Iterator<Item = FirstParty<'_>> {
    let first_party = (0u16..).zip(token.caveats()).filter(|(_, caveat)| caveat.vid.is_none());
    first_party.map(move |(index, caveat)| FirstParty {
        place: Place { discharge, caveat: index },
        text: caveat.cid,
    })
}
