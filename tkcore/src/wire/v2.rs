//! V2, the binary format: `02 [1 location] 2 identifier 00 ([1 location] 2 cid [4 vid] 00)* 00
//! 06 20 signature`, each field a type, a length and its bytes, lengths as LEB128 varints
//! (docs/spec/token.md, TK-20 to TK-26).

use alloc::vec::Vec;

use super::canonical::{
    self, Caps, END, IDENTIFIER, LOCATION, Reading, SIGNATURE, SIGNATURE_BYTES, VERSION, VID, VID_BYTES,
    is_printable,
};
use crate::error::Malformed;

/// One caveat as it stands on the wire: the received bytes, which are the ones that are MACed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawCaveat<'a> {
    /// The caveat's text, or the ticket for the third party.
    pub(crate) cid: &'a [u8],
    /// The sealed caveat key: what makes it a third-party caveat.
    pub(crate) vid: Option<&'a [u8; VID_BYTES]>,
    /// Where the third party is said to be; signed by nothing.
    pub(crate) location: Option<&'a [u8]>,
}

impl RawCaveat<'_> {
    /// Appends the section without its location: what the chain authenticates.
    pub(crate) fn write_content(&self, to: &mut Vec<u8>) {
        canonical::field(to, IDENTIFIER, self.cid);
        if let Some(vid) = self.vid {
            canonical::field(to, VID, vid);
        }
        to.push(END);
    }

    /// Whether the chain would not tell them apart.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.cid == other.cid && self.vid == other.vid
    }
}

/// Where the parts of a well-formed V2 token lie in its bytes. Made by [`read`] alone, so the
/// offsets fit the bytes it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) location: Option<Span>,
    pub(crate) identifier: Span,
    /// All caveat sections, without the end mark that follows the last one.
    pub(crate) caveats: Span,
    pub(crate) count: u16,
    pub(crate) third_party: u16,
    /// Whether any location stands anywhere, even an empty one. Without, equal bytes and equal
    /// authenticated content are the same thing.
    pub(crate) located: bool,
}

/// Half-open range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    from: u32,
    to: u32,
}

impl Span {
    fn new(whole: usize, rest_before: usize, rest_after: usize) -> Result<Self, Malformed> {
        let at = |rest| u32::try_from(whole.saturating_sub(rest)).map_err(|_| Malformed::TooLarge("token"));
        Ok(Self { from: at(rest_before)?, to: at(rest_after)? })
    }

    /// The bytes it names; empty when they are not there, which the maker rules out.
    #[inline]
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        bytes.get(at(self.from)..at(self.to)).unwrap_or_default()
    }
}

/// Reads known fields in ascending order, minimal lengths, nothing after the end, every cap
/// kept; under [`Reading::Strict`] also the rules of identifiers and locations.
pub(crate) fn read(bytes: &[u8], caps: &Caps) -> Result<Layout, Malformed> {
    let strict = caps.reading == Reading::Strict;
    if bytes.len() > caps.token {
        return Err(Malformed::TooLarge("token"));
    }
    let mut rest = bytes;
    match take(&mut rest)? {
        VERSION => {}
        _ => return Err(Malformed::Shape("not the V2 format")),
    }
    let mut kind = take(&mut rest)?;
    let mut location = None;
    if kind == LOCATION {
        let span = place(&mut rest, bytes.len(), caps)?;
        location = Some(span);
        kind = take(&mut rest)?;
    }
    if kind != IDENTIFIER {
        return Err(Malformed::Shape("the identifier is not where it belongs"));
    }
    let text = field(&mut rest, caps.identifier, "identifier")?;
    if text.is_empty() && strict {
        return Err(Malformed::Shape("the identifier is empty"));
    }
    let identifier = Span::new(bytes.len(), rest.len().saturating_add(text.len()), rest.len())?;
    end(&mut rest)?;

    let mut located = location.is_some();
    let (mut count, mut third_party) = (0u16, 0u16);
    let first = rest;
    let last = loop {
        let here = rest;
        let mut kind = take(&mut rest)?;
        if kind == END {
            break here;
        }
        if usize::from(count) >= caps.caveats {
            return Err(Malformed::TooLarge("number of caveats"));
        }
        count = count.saturating_add(1);
        let has_location = kind == LOCATION;
        if has_location {
            place(&mut rest, bytes.len(), caps)?;
            located = true;
            kind = take(&mut rest)?;
        }
        if kind != IDENTIFIER {
            return Err(Malformed::Shape("a caveat's identifier is not where it belongs"));
        }
        field(&mut rest, caps.caveat, "caveat")?;
        match take(&mut rest)? {
            END if has_location && strict => {
                return Err(Malformed::Shape("a location on a first-party caveat"));
            }
            END => {}
            VID => {
                let claimed = length(&mut rest)?;
                if claimed != VID_BYTES {
                    return Err(Malformed::Shape("a sealed caveat key is not 72 bytes"));
                }
                rest.split_off(..VID_BYTES).ok_or(Malformed::Truncated)?;
                third_party = third_party.saturating_add(1);
                end(&mut rest)?;
            }
            _ => return Err(Malformed::Shape("unknown field in a caveat")),
        }
    };
    let caveats = Span::new(bytes.len(), first.len(), last.len())?;

    if take(&mut rest)? != SIGNATURE {
        return Err(Malformed::Shape("the signature is not where it belongs"));
    }
    if length(&mut rest)? != SIGNATURE_BYTES {
        return Err(Malformed::Shape("the signature is not 32 bytes"));
    }
    match rest.len() {
        ..32 => Err(Malformed::Truncated),
        32 => Ok(Layout { location, identifier, caveats, count, third_party, located }),
        33.. => Err(Malformed::Shape("bytes after the signature")),
    }
}

/// The caveats in a span that [`read`] made.
#[derive(Clone)]
pub(crate) struct Caveats<'a> {
    rest: &'a [u8],
}

impl<'a> Caveats<'a> {
    pub(crate) const fn new(sections: &'a [u8]) -> Self {
        Self { rest: sections }
    }
}

impl<'a> Iterator for Caveats<'a> {
    type Item = RawCaveat<'a>;

    #[inline]
    fn next(&mut self) -> Option<RawCaveat<'a>> {
        let mut rest = self.rest;
        let mut kind = take(&mut rest).ok()?;
        let mut location = None;
        if kind == LOCATION {
            location = Some(field(&mut rest, usize::MAX, "location").ok()?);
            kind = take(&mut rest).ok()?;
        }
        if kind != IDENTIFIER {
            return None;
        }
        let cid = field(&mut rest, usize::MAX, "caveat").ok()?;
        let mut vid = None;
        if take(&mut rest).ok()? == VID {
            length(&mut rest).ok()?;
            let (sealed, after) = rest.split_first_chunk::<VID_BYTES>()?;
            vid = Some(sealed);
            rest = after.split_first()?.1;
        }
        self.rest = rest;
        Some(RawCaveat { cid, vid, location })
    }
}

#[inline]
fn take(rest: &mut &[u8]) -> Result<u8, Malformed> {
    rest.split_off_first().copied().ok_or(Malformed::Truncated)
}

#[inline]
fn end(rest: &mut &[u8]) -> Result<(), Malformed> {
    if take(rest)? == END { Ok(()) } else { Err(Malformed::Shape("a section does not end where it should")) }
}

fn place(rest: &mut &[u8], whole: usize, caps: &Caps) -> Result<Span, Malformed> {
    let location = field(rest, caps.location, "location")?;
    if caps.reading == Reading::Strict && !is_printable(location) {
        return Err(Malformed::Shape("a location that is not printable"));
    }
    Span::new(whole, rest.len().saturating_add(location.len()), rest.len())
}

#[inline]
fn field<'a>(rest: &mut &'a [u8], limit: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
    let len = length(rest)?;
    if len > limit {
        return Err(Malformed::TooLarge(what));
    }
    rest.split_off(..len).ok_or(Malformed::Truncated)
}

/// A LEB128 length in its shortest form.
#[inline]
fn length(rest: &mut &[u8]) -> Result<usize, Malformed> {
    match take(rest)? {
        byte @ ..0x80 => Ok(usize::from(byte)),
        byte => long_length(usize::from(byte & 0x7f), rest),
    }
}

/// The rest of a length of two bytes or more. Three bytes hold every length up to 2 MiB, far
/// past any limit; more are not read.
#[cold]
fn long_length(low: usize, rest: &mut &[u8]) -> Result<usize, Malformed> {
    let mut value = low;
    for shift in [7u32, 14] {
        let byte = take(rest)?;
        value |= usize::from(byte & 0x7f) << shift;
        match byte {
            0 => return Err(Malformed::Shape("a length is not in its shortest form")),
            1..0x80 => return Ok(value),
            0x80.. => {}
        }
    }
    Err(Malformed::TooLarge("a claimed length"))
}
