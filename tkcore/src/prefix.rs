use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::bundle::Presented;
use crate::chain::Roll;
use crate::error::Bug;
use crate::ids::BranchId;
use crate::key::Tail;
use crate::token::Token;
use crate::wire::v2::Caveats;

/// What a service may remember of a token that the signer vouched for: its authenticated
/// content, its tail, and the branch ids before it. With it, a token that extends the content
/// is verified without asking again: only what was added costs a MAC.
///
/// It proves first-party caveats and never a discharge (docs/spec/token.md, TK-80 and
/// following): if the content holds a third-party caveat, it answers for the identical token
/// with the identical discharges alone.
pub struct Prefix {
    identifier: Box<[u8]>,
    /// The caveat sections as V2 writes them, without locations.
    caveats: Box<[u8]>,
    count: u16,
    tail: Tail,
    /// Of every point before the tail.
    earlier: Box<[BranchId]>,
    /// What the discharges were, if the content holds a third-party caveat.
    discharges: Option<[u8; 32]>,
}

impl Prefix {
    /// Remembers what the signer has just vouched for; `earlier` are the branch ids of its
    /// answer, one for each point before the tail.
    ///
    /// Whoever calls this with a token that nobody vouched for forges a token: the tail is
    /// taken from it as it is.
    ///
    /// # Errors
    /// [`Bug`] when the number of branch ids does not fit the token.
    pub fn from_vouched(presented: &Presented<'_>, earlier: &[BranchId]) -> Result<Self, Bug> {
        let root = presented.root();
        if earlier.len() != usize::from(root.caveat_count()) {
            return Err(Bug("the branch ids of an answer do not fit the token"));
        }
        let caveats = if root.layout().located {
            let mut sections = Vec::with_capacity(root.caveat_bytes().len());
            root.caveats().for_each(|caveat| caveat.write_content(&mut sections));
            sections.into()
        } else {
            root.caveat_bytes().into()
        };
        Ok(Self {
            identifier: root.identifier_bytes().into(),
            caveats,
            count: root.caveat_count(),
            tail: Tail::from_bytes(*root.signature()),
            earlier: earlier.into(),
            discharges: (root.third_party_count() != 0).then(|| digest(presented)),
        })
    }

    /// Whether it can answer for this token: its content is the beginning of the token's. A
    /// token that is covered and carries a wrong signature is refused here and now, and the
    /// signer is not asked about it.
    ///
    /// A content with a third-party caveat covers only the identical token, tail included, with
    /// the identical discharges in the same order.
    #[must_use]
    pub fn covers(&self, presented: &Presented<'_>) -> bool {
        self.begins(presented) && self.proves_discharges_of(presented)
    }

    /// Whether it is of the very token that this one was made from, as far as identifiers say: they
    /// are no secret, so whoever has seen a token of the lineage can make one that says the same.
    #[must_use]
    pub fn has_identifier_of(&self, presented: &Presented<'_>) -> bool {
        presented.root().identifier_bytes() == &*self.identifier
    }

    /// Whether its content is the beginning of the token's, whatever the discharges are.
    #[must_use]
    pub fn begins(&self, presented: &Presented<'_>) -> bool {
        self.rest_of(&presented.root()).is_some()
    }

    /// Whether the token was made by somebody who holds one that it begins: its tail follows from
    /// the one that is remembered. Says nothing of discharges, so nothing may be granted on it: it
    /// tells holders from strangers before the signer is asked. The cost is linear in the token.
    #[must_use]
    pub fn is_held_by(&self, presented: &Presented<'_>) -> bool {
        let root = presented.root();
        self.rest_of(&root).is_some_and(|added| {
            let mut end = Roll::resume(&self.tail);
            for caveat in added {
                match caveat.vid {
                    None => end.first_party(caveat.cid),
                    Some(vid) => end.third_party(vid, caveat.cid),
                }
            }
            end.signs(root.signature())
        })
    }

    /// How many caveats it remembers: of several that cover a token, the one with the most
    /// leaves the least to do.
    #[must_use]
    pub const fn caveats(&self) -> usize {
        self.earlier.len()
    }

    /// Bytes it keeps, for whoever bounds a memory of them.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.identifier.len())
            .saturating_add(self.caveats.len())
            .saturating_add(self.earlier.len().saturating_mul(BranchId::LEN))
    }

    pub(crate) const fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(crate) const fn earlier(&self) -> &[BranchId] {
        &self.earlier
    }

    /// Whether the content holds a third-party caveat, so that its discharges are among what
    /// the signer vouched for.
    pub(crate) const fn holds_discharges(&self) -> bool {
        self.discharges.is_some()
    }

    /// The caveats that the token adds to the content, if it extends it.
    pub(crate) fn rest_of<'a>(&self, token: &Token<'a>) -> Option<Caveats<'a>> {
        if token.identifier_bytes() != &*self.identifier {
            return None;
        }
        if !token.layout().located {
            // Sections are self-delimiting, so equal bytes are equal caveats.
            return token.caveat_bytes().strip_prefix(&*self.caveats).map(Caveats::new);
        }
        let mut theirs = token.caveats();
        for ours in Caveats::new(&self.caveats) {
            if !theirs.next()?.same_content(&ours) {
                return None;
            }
        }
        Some(theirs)
    }

    /// Whether the signer vouched for the discharges as well, if any caveat it remembers asks for
    /// one. With [`Prefix::rest_of`] this is [`Prefix::covers`].
    pub(crate) fn proves_discharges_of(&self, presented: &Presented<'_>) -> bool {
        match &self.discharges {
            None => true,
            Some(known) => {
                let root = presented.root();
                let same = root.signature().ct_eq(self.tail.expose()) & digest(presented).ct_eq(known);
                root.caveat_count() == self.count && same.into()
            }
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({} caveats)", self.count)
    }
}

/// Every byte of every discharge, in order, each behind its length.
fn digest(presented: &Presented<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tk-discharges-v1");
    for discharge in presented.discharges() {
        let wire = discharge.as_v2();
        hash.update(u64::try_from(wire.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(wire);
    }
    hash.finalize().into()
}
