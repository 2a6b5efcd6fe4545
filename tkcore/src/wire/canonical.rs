//! Canonical V2 bytes, the one internal form of every token: readers of other formats transcode
//! the received field bytes into it unchanged, so what is MACed is always what was received.
//!
//! Layout: `02 [01 location] 02 identifier 00 ([01 location] 02 cid [04 vid] 00)* 00 06 20 signature`,
//! each length a minimal varint.

use alloc::vec::Vec;

use crate::error::Malformed;
use crate::limits;

pub(crate) const VERSION: u8 = 2;
pub(crate) const END: u8 = 0;
pub(crate) const LOCATION: u8 = 1;
pub(crate) const IDENTIFIER: u8 = 2;
pub(crate) const VID: u8 = 4;
pub(crate) const SIGNATURE: u8 = 6;
/// Nonce, tag and ciphertext of a 32-byte caveat key.
pub(crate) const VID_BYTES: usize = 72;
pub(crate) const SIGNATURE_BYTES: usize = 32;
/// `00 06 20` and the signature.
const TRAILER_BYTES: usize = 3 + SIGNATURE_BYTES;

/// What a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// One spelling per token: what our own tokens must be.
    Strict,
    /// What the peers agree on: for macaroons of other makers.
    Lenient,
}

/// How much a reader takes, and how strictly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) reading: Reading,
    pub(crate) token: usize,
    pub(crate) identifier: usize,
    pub(crate) caveats: usize,
    pub(crate) caveat: usize,
    pub(crate) location: usize,
}

impl Caps {
    /// Of our own tokens.
    pub(crate) const OWN: Self = Self {
        reading: Reading::Strict,
        token: limits::TOKEN_BYTES,
        identifier: limits::IDENTIFIER_BYTES,
        caveats: limits::CAVEATS,
        caveat: limits::CAVEAT_BYTES,
        location: limits::LOCATION_BYTES,
    };
    /// Of macaroons of other makers.
    pub(crate) const FOREIGN: Self = Self {
        reading: Reading::Lenient,
        token: limits::FOREIGN_TOKEN_BYTES,
        identifier: limits::FOREIGN_TOKEN_BYTES,
        caveats: limits::FOREIGN_CAVEATS,
        caveat: limits::FOREIGN_TOKEN_BYTES,
        location: limits::FOREIGN_TOKEN_BYTES,
    };
}

/// Writes canonical bytes field by field, keeping the caps. Grows by what was received, never by
/// what was claimed.
#[derive(Debug)]
pub(crate) struct Assembler<'c> {
    out: Vec<u8>,
    caps: &'c Caps,
    caveats: usize,
}

impl<'c> Assembler<'c> {
    pub(crate) fn start(
        caps: &'c Caps,
        location: Option<&[u8]>,
        identifier: &[u8],
    ) -> Result<Self, Malformed> {
        if identifier.len() > caps.identifier {
            return Err(Malformed::TooLarge("the identifier"));
        }
        if identifier.is_empty() && caps.reading == Reading::Strict {
            return Err(Malformed::Shape("the identifier is empty"));
        }
        let mut this = Self { out: Vec::new(), caps, caveats: 0 };
        this.out.push(VERSION);
        this.location(location)?;
        field(&mut this.out, IDENTIFIER, identifier);
        this.out.push(END);
        this.room(TRAILER_BYTES)?;
        Ok(this)
    }

    pub(crate) fn caveat(
        &mut self,
        cid: &[u8],
        vid: Option<&[u8]>,
        location: Option<&[u8]>,
    ) -> Result<(), Malformed> {
        if self.caveats >= self.caps.caveats {
            return Err(Malformed::TooLarge("the number of caveats"));
        }
        self.caveats = self.caveats.saturating_add(1);
        if cid.len() > self.caps.caveat {
            return Err(Malformed::TooLarge("a caveat"));
        }
        if location.is_some() && vid.is_none() && self.caps.reading == Reading::Strict {
            return Err(Malformed::Shape("a location on a first-party caveat"));
        }
        self.location(location)?;
        field(&mut self.out, IDENTIFIER, cid);
        match vid.map(<&[u8; VID_BYTES]>::try_from) {
            None => {}
            Some(Ok(vid)) => field(&mut self.out, VID, vid),
            Some(Err(_)) => return Err(Malformed::Shape("a verification id that is not 72 bytes")),
        }
        self.out.push(END);
        self.room(TRAILER_BYTES)
    }

    pub(crate) fn finish(mut self, signature: &[u8]) -> Result<Vec<u8>, Malformed> {
        let signature: &[u8; SIGNATURE_BYTES] =
            signature.try_into().map_err(|_| Malformed::Shape("a signature that is not 32 bytes"))?;
        self.out.push(END);
        field(&mut self.out, SIGNATURE, signature);
        self.room(0)?;
        Ok(self.out)
    }

    fn location(&mut self, location: Option<&[u8]>) -> Result<(), Malformed> {
        let Some(location) = location else { return Ok(()) };
        if location.len() > self.caps.location {
            return Err(Malformed::TooLarge("a location"));
        }
        if self.caps.reading == Reading::Strict && !is_printable(location) {
            return Err(Malformed::Shape("a location that is not printable"));
        }
        field(&mut self.out, LOCATION, location);
        Ok(())
    }

    fn room(&self, more: usize) -> Result<(), Malformed> {
        if self.out.len().saturating_add(more) > self.caps.token {
            return Err(Malformed::TooLarge("the token"));
        }
        Ok(())
    }
}

/// UTF-8 without control characters.
pub(crate) fn is_printable(bytes: &[u8]) -> bool {
    core::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// Appends one field: type, minimal varint length, bytes.
pub(crate) fn field(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    to.push(kind);
    let mut len = bytes.len();
    loop {
        let low = u8::try_from(len & 0x7f).unwrap_or(0);
        len >>= 7;
        if len == 0 {
            to.push(low);
            break;
        }
        to.push(low | 0x80);
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_at_the_limit_and_one_past_it() {
        let caps = Caps { token: 60, identifier: 4, caveats: 2, caveat: 3, location: 2, ..Caps::OWN };
        assert!(Assembler::start(&caps, Some(b"12"), b"1234").is_ok());
        assert!(Assembler::start(&caps, Some(b"123"), b"1234").is_err());
        assert!(Assembler::start(&caps, None, b"12345").is_err());
        assert!(Assembler::start(&caps, None, b"").is_err());
        let mut out = Assembler::start(&caps, None, b"1").unwrap();
        assert!(out.caveat(b"1234", None, None).is_err());
        let mut out = Assembler::start(&caps, None, b"1").unwrap();
        out.caveat(b"123", None, None).unwrap();
        out.caveat(b"123", None, None).unwrap();
        assert!(out.caveat(b"1", None, None).is_err());
        // 1 version, 2 + n identifier, 1 end, 35 trailer: 21 bytes of identifier fill 60.
        let caps = Caps { identifier: 60, ..caps };
        assert_eq!(Assembler::start(&caps, None, &[1; 21]).unwrap().finish(&[0; 32]).unwrap().len(), 60);
        assert!(Assembler::start(&caps, None, &[1; 22]).is_err());
    }
}
