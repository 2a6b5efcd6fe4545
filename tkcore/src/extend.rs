use alloc::vec::Vec;

use crate::chain::Roll;
use crate::error::Malformed;
use crate::token::{Token, TokenBuf};
use crate::wiped::Wiped;
use crate::wire::canonical::{self, Caps};
use crate::wire::v2::RawCaveat;

/// `00 06 20` and the signature.
const TRAILER: usize = 3 + 32;

/// A token that is being written: what stands so far, and the chain at its end.
pub(crate) struct Draft {
    wire: Wiped,
    roll: Roll,
    caps: &'static Caps,
}

impl Draft {
    /// From the first tag of a new token, with room for `more` bytes of caveats.
    #[cfg(any(feature = "mint", feature = "third-party"))]
    pub(crate) fn start(identifier: &[u8], roll: Roll, more: usize) -> Self {
        let room = identifier.len().saturating_add(more).saturating_add(TRAILER).saturating_add(8);
        let mut wire = Wiped::new(Vec::with_capacity(room.min(Caps::OWN.token)));
        wire.push(canonical::VERSION);
        canonical::field(&mut wire, canonical::IDENTIFIER, identifier);
        wire.push(canonical::END);
        Self { wire, roll, caps: &Caps::OWN }
    }

    /// From a finished token, with room for `more` bytes of caveats. Any holder can: the
    /// signature is the key of what follows.
    pub(crate) fn resume(token: &Token<'_>, more: usize, caps: &'static Caps) -> Self {
        let room = token.as_v2().len().saturating_add(more).min(caps.token);
        let mut wire = Wiped::new(Vec::with_capacity(room));
        let kept = token.as_v2().len().saturating_sub(TRAILER);
        wire.extend_from_slice(token.as_v2().get(..kept).unwrap_or_default());
        Self { wire, roll: Roll::resume_signature(token.signature()), caps }
    }

    /// The chain at this point, for sealing a caveat key under it.
    #[cfg(feature = "third-party")]
    pub(crate) const fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Appends a caveat and rolls the chain over it.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`] before a token grows past the limit; the rest of
    /// the format's rules are checked by [`Draft::finish`].
    pub(crate) fn push(&mut self, caveat: &RawCaveat<'_>) -> Result<(), Malformed> {
        // Keeps a caller's loop from growing it without end; the exact limit is the reader's.
        if self.wire.len() > self.caps.token {
            return Err(Malformed::TooLarge("token"));
        }
        if let Some(location) = caveat.location {
            canonical::field(&mut self.wire, canonical::LOCATION, location);
        }
        caveat.write_content(&mut self.wire);
        match caveat.vid {
            None => self.roll.first_party(caveat.cid),
            Some(vid) => self.roll.third_party(vid, caveat.cid),
        }
        Ok(())
    }

    /// Signs it with the tag the chain has come to.
    ///
    /// # Errors
    /// What reading the result says.
    pub(crate) fn finish(mut self) -> Result<TokenBuf, Malformed> {
        // Nothing so far is a secret, so growing leaves none behind; the signature goes last.
        self.wire.reserve(TRAILER);
        self.wire.push(canonical::END);
        canonical::field(&mut self.wire, canonical::SIGNATURE, self.roll.tail().expose());
        TokenBuf::read(core::mem::take(&mut *self.wire), self.caps)
    }
}
