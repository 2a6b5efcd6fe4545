//! Tokens with third-party caveats from the signer's hand: at mint, and again when a token is
//! exchanged for a service token (docs/spec/third-party.md).

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::caveat::{Caveat, may_restrict_nothing};
use crate::chain::{self, Roll};
use crate::error::Malformed;
use crate::extend::Draft;
use crate::fault::Party;
use crate::identifier::Identifier;
use crate::ids::AuthorityId;
use crate::key::RootKey;
use crate::third_party::vid::{self, CaveatKey};
use crate::time::Timestamp;
use crate::token::{Token, TokenBuf};
use crate::verify::Verified;
use crate::wire::v2::RawCaveat;

/// A caveat that a token is to carry from the start.
pub struct NewCaveat(Kind);

enum Kind {
    FirstParty(Vec<u8>),
    ThirdParty { ticket: Vec<u8>, location: Option<Vec<u8>>, derived: Zeroizing<[u8; 32]> },
}

impl NewCaveat {
    /// A line of the caveat language.
    #[must_use]
    pub fn first_party(text: &[u8]) -> Self {
        Self(Kind::FirstParty(text.to_vec()))
    }

    /// Somebody else must agree: `ticket` is what the third party gets to see, and carries
    /// `key` sealed for it. `location` is signed by nothing; empty for none.
    #[must_use]
    pub fn third_party(location: &str, ticket: &[u8], key: &CaveatKey) -> Self {
        Self(Kind::ThirdParty {
            ticket: ticket.to_vec(),
            location: (!location.is_empty()).then(|| location.as_bytes().to_vec()),
            derived: Zeroizing::new(chain::derive(key.expose())),
        })
    }

    /// The text of a first-party caveat.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::FirstParty(text) => Some(text),
            Kind::ThirdParty { .. } => None,
        }
    }
}

impl fmt::Debug for NewCaveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::FirstParty(_) => "NewCaveat(first party)",
            Kind::ThirdParty { .. } => "NewCaveat(third party)",
        })
    }
}

/// Whether a token that is minted with these caveats is power over its whole tenant, at some service
/// at least: all of them are about `time` or, without `else`, only for requests that state their fact
/// (`?`), or there is none.
#[must_use]
pub fn is_tenant_wide(caveats: &[NewCaveat]) -> bool {
    may_restrict_nothing(caveats.iter().map(NewCaveat::text))
}

/// Makes a token as [`crate::mint`] does, with third-party caveats among the others.
/// `fresh_nonce` gives 24 random bytes for each of these.
///
/// # Errors
/// As [`crate::mint`].
pub fn mint_with(
    identifier: &Identifier<'_>,
    caveats: &[NewCaveat],
    key: &RootKey,
    mut fresh_nonce: impl FnMut() -> [u8; 24],
) -> Result<TokenBuf, Malformed> {
    if usize::from(identifier.caveats_at_mint) != caveats.len() {
        return Err(Malformed::Identifier("the number of caveats at mint is not theirs"));
    }
    let mut bytes = Vec::with_capacity(Identifier::MAX_BYTES);
    identifier.write(&mut bytes)?;
    let mut draft = Draft::start(&bytes, Roll::start(key, &bytes), 0);
    for caveat in caveats {
        match &caveat.0 {
            Kind::FirstParty(text) => draft.push(&RawCaveat { cid: text, vid: None, location: None })?,
            Kind::ThirdParty { ticket, location, derived } => {
                let sealed = vid::seal_derived(&draft.roll().tail(), &fresh_nonce(), derived)
                    .ok_or(Malformed::Shape("a caveat key that cannot be sealed"))?;
                draft.push(&RawCaveat { cid: ticket, vid: Some(&sealed), location: location.as_deref() })?;
            }
        }
    }
    draft.finish()
}

/// Why a token that holds cannot be exchanged for a service token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotExchangeable {
    /// It is a service token itself.
    ServiceToken,
    /// None of its caveats at mint asks an authority that counts as authentication. One that a
    /// holder appended never counts.
    NoAuthentication,
    /// More than one does, and which of them to leave out is not for the signer to guess.
    Ambiguous,
    /// The discharge of the authentication caveat is bound to a `time` that is over or yet to come:
    /// an old recording of a login is none.
    NotNow,
    /// The chain that was verified and the key do not belong together.
    Key,
}

impl fmt::Display for NotExchangeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceToken => "it is a service token already",
            Self::NoAuthentication => "it has no authentication caveat from when it was minted",
            Self::Ambiguous => "it has more than one authentication caveat",
            Self::NotNow => "its login has ended, or has not begun",
            Self::Key => "the key does not fit the token",
        })
    }
}

impl core::error::Error for NotExchangeable {}

/// The caveats of a service token that stands in for `verified`, before those that lock it to a
/// workload: every caveat of the root but the authentication caveat, then every caveat of that
/// one's discharge but its bounds of `time`, which are the login's own and must admit `now`.
/// Third-party caveats keep their ticket and their key.
///
/// `key` is the root key that `verified` was verified under. Whether the token itself is expired or
/// revoked is for the caller to look at.
///
/// # Errors
/// [`NotExchangeable`] says why not.
pub fn exchange(
    verified: &Verified<'_>,
    key: &RootKey,
    now: Timestamp,
    is_authentication: impl Fn(AuthorityId) -> bool,
) -> Result<Vec<NewCaveat>, NotExchangeable> {
    if verified.identifier().service.is_some() {
        return Err(NotExchangeable::ServiceToken);
    }
    let presented = verified.presented();
    let root = presented.root();
    let at_mint = usize::from(verified.identifier().caveats_at_mint);
    let mut carried = Vec::new();
    let mut stripped: Option<(&[u8], RootKey)> = None;
    let mut roll = Roll::start(key, root.identifier_bytes());
    for (index, caveat) in root.caveats().enumerate() {
        let asks = caveat.vid.and(Party::of(caveat.cid, None).authority);
        match (caveat.vid, asks) {
            (Some(sealed), Some(authority)) if index < at_mint && is_authentication(authority) => {
                let key = vid::open(&roll.tail(), sealed).ok_or(NotExchangeable::Key)?;
                if stripped.replace((caveat.cid, key)).is_some() {
                    return Err(NotExchangeable::Ambiguous);
                }
            }
            _ => carried.push(carry(&roll, &caveat)?),
        }
        advance(&mut roll, &caveat);
    }
    let (ticket, key) = stripped.ok_or(NotExchangeable::NoAuthentication)?;
    // Verified means: exactly one discharge answers the ticket.
    let discharge = presented.discharges().find(|discharge| discharge.identifier_bytes() == ticket);
    let discharge: Token<'_> = discharge.ok_or(NotExchangeable::Key)?;
    let mut roll = Roll::start(&key, ticket);
    for caveat in discharge.caveats() {
        let own = Caveat::from_bytes(caveat.cid).ok().filter(|_| caveat.vid.is_none());
        match own.and_then(|caveat| caveat.admits_time(now)) {
            Some(true) => {}
            Some(false) => return Err(NotExchangeable::NotNow),
            None => carried.push(carry(&roll, &caveat)?),
        }
        advance(&mut roll, &caveat);
    }
    Ok(carried)
}

fn carry(roll: &Roll, caveat: &RawCaveat<'_>) -> Result<NewCaveat, NotExchangeable> {
    Ok(NewCaveat(match caveat.vid {
        None => Kind::FirstParty(caveat.cid.to_vec()),
        Some(sealed) => Kind::ThirdParty {
            ticket: caveat.cid.to_vec(),
            location: caveat.location.map(<[u8]>::to_vec),
            derived: vid::open_derived(&roll.tail(), sealed).ok_or(NotExchangeable::Key)?,
        },
    }))
}

fn advance(roll: &mut Roll, caveat: &RawCaveat<'_>) {
    match caveat.vid {
        None => roll.first_party(caveat.cid),
        Some(sealed) => roll.third_party(sealed, caveat.cid),
    }
}
