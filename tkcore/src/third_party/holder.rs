//! What a holder does with third-party caveats: adds them, and binds their discharges.

use crate::error::{Bug, Error};
use crate::extend::Draft;
use crate::third_party::vid::{self, CaveatKey};
use crate::token::{Token, TokenBuf};
use crate::wire::canonical::Caps;
use crate::wire::v2::RawCaveat;

/// Appends a third-party caveat: the token then needs a discharge of `ticket` made with `key`,
/// the key that is sealed in the ticket ([`crate::seal_ticket`]). Any holder can.
///
/// `nonce` must be 24 fresh random bytes. `location` tells people where to ask; nothing signs it
/// and nothing decides by it.
///
/// # Errors
/// [`crate::Malformed`] when the result would be no token: a limit, an unprintable location.
pub fn attenuate_third_party(
    token: &Token<'_>,
    location: Option<&str>,
    ticket: &[u8],
    key: &CaveatKey,
    nonce: &[u8; 24],
) -> Result<TokenBuf, Error> {
    ask(token, &Caps::OWN, location, ticket, key, nonce)
}

/// The same within the limits that `caps` say.
pub(crate) fn ask(
    token: &Token<'_>,
    caps: &'static Caps,
    location: Option<&str>,
    ticket: &[u8],
    key: &CaveatKey,
    nonce: &[u8; 24],
) -> Result<TokenBuf, Error> {
    let more = ticket.len().saturating_add(location.map_or(0, str::len)).saturating_add(96);
    let mut draft = Draft::resume(token, more, caps);
    let sealed = vid::seal(&draft.roll().tail(), nonce, key).ok_or(Bug("the cipher refused 32 bytes"))?;
    draft.push(&RawCaveat { cid: ticket, vid: Some(&sealed), location: location.map(str::as_bytes) })?;
    Ok(draft.finish()?)
}

/// Binds a discharge to the token that it will be presented with, as every macaroon library does;
/// a discharge of a discharge is bound to the token as well. The unbound one stays with the
/// holder, who binds it again after attenuating the token. Binding what is bound spoils it.
///
/// # Errors
/// [`Error::Bug`] only.
pub fn bind(root: &Token<'_>, discharge: &Token<'_>) -> Result<TokenBuf, Error> {
    Ok(TokenBuf::bound(root, discharge)?)
}
