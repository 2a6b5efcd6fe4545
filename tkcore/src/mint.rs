use alloc::vec::Vec;

use crate::chain::Roll;
use crate::error::Malformed;
use crate::extend::Draft;
use crate::identifier::Identifier;
use crate::key::RootKey;
use crate::token::TokenBuf;
use crate::wire::v2::RawCaveat;

/// Makes a token: the pure part of minting, in which nothing is decided. What may be minted, for
/// whom and for how long is the signer's to settle before.
///
/// # Errors
/// [`Malformed::Identifier`] when the identifier breaks a rule of its own or its number of
/// caveats at mint is not that of `caveats`; [`Malformed::TooLarge`] past a limit.
pub fn mint(identifier: &Identifier<'_>, caveats: &[&str], key: &RootKey) -> Result<TokenBuf, Malformed> {
    if usize::from(identifier.caveats_at_mint) != caveats.len() {
        return Err(Malformed::Identifier("the number of caveats at mint is not theirs"));
    }
    let mut bytes = Vec::with_capacity(Identifier::MAX_BYTES);
    identifier.write(&mut bytes)?;
    let more = caveats.iter().fold(0usize, |sum, text| sum.saturating_add(text.len()).saturating_add(5));
    let mut draft = Draft::start(&bytes, Roll::start(key, &bytes), more);
    for text in caveats {
        draft.push(&RawCaveat { cid: text.as_bytes(), vid: None, location: None })?;
    }
    draft.finish()
}
