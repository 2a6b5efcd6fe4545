//! What a holder does with third-party caveats: adds them, and binds their discharges.

use alloc::vec::Vec;

use crate::chain;
use crate::error::{Bug, Error};
use crate::extend::Draft;
use crate::key::Tail;
use crate::third_party::vid::{self, CaveatKey};
use crate::token::{Token, TokenBuf};
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
    let more = ticket.len().saturating_add(location.map_or(0, str::len)).saturating_add(96);
    let mut draft = Draft::resume(token, more);
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
    let tail = |token: &Token<'_>| Tail::from_bytes(*token.signature());
    let bound = chain::bind(&tail(root), &tail(discharge));
    let mut wire = Vec::from(discharge.as_v2());
    *wire.last_chunk_mut::<32>().ok_or(Bug("a token without a signature"))? = *bound.expose();
    Ok(TokenBuf::from_v2(wire)?)
}
