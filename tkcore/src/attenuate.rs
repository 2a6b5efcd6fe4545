use crate::error::Malformed;
use crate::extend::Draft;
use crate::token::{Token, TokenBuf};
use crate::wire::canonical::Caps;
use crate::wire::v2::RawCaveat;

/// Appends caveats to a token, in their order; a holder needs no key for it and asks nobody.
/// The result allows what the token allowed and every new caveat admits, never more.
///
/// Any text is taken as it stands: one that the verifying service does not understand makes a
/// token that it always refuses. Neither the token nor the text is verified here.
///
/// # Errors
/// [`Malformed::TooLarge`] past a limit of [`crate::limits`].
pub fn attenuate(token: &Token<'_>, caveats: &[&str]) -> Result<TokenBuf, Malformed> {
    let more = caveats.iter().fold(0usize, |sum, text| sum.saturating_add(text.len()).saturating_add(5));
    let mut draft = Draft::resume(token, more, &Caps::OWN);
    for text in caveats {
        draft.push(&RawCaveat { cid: text.as_bytes(), vid: None, location: None })?;
    }
    draft.finish()
}
