use alloc::vec;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::base64;
use crate::error::Malformed;
use crate::identifier::Identifier;
use crate::limits;
use crate::text::{self, TextKind};
use crate::token::Token;
use crate::wiped::wipe;
use crate::wire::canonical::{self, Caps};
use crate::wire::v1;
use crate::wire::v2::{self, Layout};

/// A token and the discharges that came with it, read and not yet verified.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    root: Token<'a>,
    discharges: Discharges<'a>,
    deepest: usize,
}

#[derive(Debug, Clone, Copy)]
enum Discharges<'a> {
    Tokens(&'a [Token<'a>]),
    Decoded { bytes: &'a [u8], items: &'a [Item] },
}

impl<'a> Presented<'a> {
    /// A token with its discharges, in the order in which they were presented.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`] past [`limits::DISCHARGES`].
    pub const fn new(root: Token<'a>, discharges: &'a [Token<'a>]) -> Result<Self, Malformed> {
        if discharges.len() > limits::DISCHARGES {
            return Err(Malformed::TooLarge("number of discharges"));
        }
        Ok(Self { root, discharges: Discharges::Tokens(discharges), deepest: limits::DISCHARGE_DEPTH })
    }

    /// A macaroon of another maker, whose discharges have been counted.
    pub(crate) const fn foreign(root: Token<'a>, discharges: &'a [Token<'a>]) -> Self {
        Self { root, discharges: Discharges::Tokens(discharges), deepest: limits::FOREIGN_DEPTH }
    }

    /// How deep its discharges may be nested.
    pub(crate) const fn deepest(&self) -> usize {
        self.deepest
    }

    /// The token.
    #[must_use]
    pub const fn root(&self) -> Token<'a> {
        self.root
    }

    /// How many discharges came with it, at most [`limits::DISCHARGES`].
    #[must_use]
    pub const fn discharge_count(&self) -> usize {
        match self.discharges {
            Discharges::Tokens(tokens) => tokens.len(),
            Discharges::Decoded { items, .. } => items.len(),
        }
    }

    /// The discharge at `index`, counted from 0 in the order of presentation.
    #[must_use]
    pub fn discharge(&self, index: usize) -> Option<Token<'a>> {
        match self.discharges {
            Discharges::Tokens(tokens) => tokens.get(index).copied(),
            Discharges::Decoded { bytes, items } => items.get(index).and_then(|item| item.token(bytes)),
        }
    }

    /// The discharges in the order of presentation.
    pub fn discharges(&self) -> impl Iterator<Item = Token<'a>> + use<'a> {
        let this = *self;
        (0..this.discharge_count()).filter_map(move |index| this.discharge(index))
    }

    /// What the token says of itself; see [`Token::claimed_identifier`].
    ///
    /// # Errors
    /// As there.
    pub fn claimed_identifier(&self) -> Result<Identifier<'a>, Malformed> {
        self.root.claimed_identifier()
    }
}

/// Room for the decoded tokens of one header; kept and used again, it stops allocating. Wiped
/// when it grows and when it is dropped.
#[derive(Default)]
pub struct HeaderBuf {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    kind: TextKind,
    from: usize,
    to: usize,
    layout: Layout,
}

impl Item {
    fn token<'a>(&self, bytes: &'a [u8]) -> Option<Token<'a>> {
        bytes.get(self.from..self.to).map(|wire| Token::from_parts(wire, self.layout))
    }
}

impl HeaderBuf {
    /// Empty; allocates at first use.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), items: Vec::new() }
    }

    /// Empties it and makes room for `bytes`.
    fn begin(&mut self, bytes: usize) {
        self.items.clear();
        self.bytes.clear();
        if self.bytes.capacity() < bytes {
            wipe(&mut self.bytes);
            self.bytes = Vec::with_capacity(bytes.next_power_of_two());
        }
    }
}

impl Drop for HeaderBuf {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

impl core::fmt::Debug for HeaderBuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HeaderBuf({} tokens)", self.items.len())
    }
}

/// Which spellings of a token a header may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextForms {
    /// `tk1_…` and `td1_…` alone.
    #[default]
    OursOnly,
    /// Also what other macaroon libraries make of our tokens when they attenuate them: without
    /// prefix, and then as V2, V1 or V2 JSON.
    Reencoded,
}

/// The tokens of one `Authorization` value: at most [`limits::ROOTS`], each with its own
/// discharges, each judged alone.
#[derive(Debug, Clone, Copy)]
pub struct Authorization<'s> {
    bytes: &'s [u8],
    items: &'s [Item],
    skipped: usize,
}

impl<'s> Authorization<'s> {
    /// Reads the value of one `Authorization` header (docs/spec/token.md, TK-50): the scheme
    /// `Bearer` or `Macaroon`, then tokens separated by commas, each followed by its discharges.
    /// Linear in `value`, which is at most [`limits::HEADER_BYTES`] long.
    ///
    /// What bears none of our prefixes is skipped and counted, since it may be meant for
    /// another service; what bears one and is malformed refuses the whole value.
    ///
    /// # Errors
    /// [`Malformed`]; `UnknownPrefix` when nothing but skipped tokens was there.
    pub fn parse(value: &[u8], forms: TextForms, buf: &'s mut HeaderBuf) -> Result<Self, Malformed> {
        if value.len() > limits::HEADER_BYTES {
            return Err(Malformed::TooLarge("Authorization value"));
        }
        let mut rest = after_scheme(value)?;
        // Every form takes fewer bytes decoded than written, so nothing grows on the way.
        buf.begin(rest.len());
        let (mut roots, mut discharges, mut skipped) = (0usize, 0usize, 0usize);
        loop {
            let comma = find_comma(rest);
            let (text, after) = match comma.and_then(|at| rest.split_at_checked(at)) {
                Some((text, after)) => (text, after.split_first().map(|(_, after)| after)),
                None => (rest, None),
            };
            match read_item(trim(text), forms, roots == 0, &mut buf.bytes)? {
                None => skipped = skipped.saturating_add(1),
                Some(item) => {
                    match item.kind {
                        TextKind::Root => {
                            roots = roots.saturating_add(1);
                            discharges = 0;
                        }
                        TextKind::Discharge if roots == 0 => {
                            return Err(Malformed::Shape("a discharge before any token"));
                        }
                        TextKind::Discharge => discharges = discharges.saturating_add(1),
                    }
                    if roots > limits::ROOTS {
                        return Err(Malformed::TooLarge("number of tokens"));
                    }
                    if discharges > limits::DISCHARGES {
                        return Err(Malformed::TooLarge("number of discharges"));
                    }
                    buf.items.push(item);
                }
            }
            match after {
                None => break,
                Some(after) if trim(after).is_empty() => return Err(Malformed::Truncated),
                Some(after) => rest = after,
            }
        }
        if roots == 0 {
            return Err(Malformed::UnknownPrefix);
        }
        Ok(Self { bytes: &buf.bytes, items: &buf.items, skipped })
    }

    /// Picks the one value out of all the `Authorization` headers of a request: which of two
    /// would count is something that programs in a row disagree about, so two are refused
    /// (docs/spec/token.md, TK-54).
    ///
    /// # Errors
    /// `Missing` for none, `Shape` for more than one.
    pub fn sole_value<'h>(values: impl IntoIterator<Item = &'h [u8]>) -> Result<&'h [u8], Malformed> {
        let mut values = values.into_iter();
        let value = values.next().ok_or(Malformed::Missing)?;
        match values.next() {
            None => Ok(value),
            Some(_) => Err(Malformed::Shape("two Authorization headers")),
        }
    }

    /// The tokens with their discharges, in the order of the header; 1 to [`limits::ROOTS`].
    pub fn candidates(&self) -> impl Iterator<Item = Presented<'s>> + use<'s> {
        let bytes = self.bytes;
        let mut rest = self.items;
        core::iter::from_fn(move || {
            let (root, after) = rest.split_first()?;
            let count = after.iter().take_while(|item| item.kind == TextKind::Discharge).count();
            let (items, after) = after.split_at_checked(count)?;
            rest = after;
            let discharges = Discharges::Decoded { bytes, items };
            Some(Presented { root: root.token(bytes)?, discharges, deepest: limits::DISCHARGE_DEPTH })
        })
    }

    /// How many tokens were skipped because their prefix is none of ours: for the log.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }
}

/// Scheme names are compared without case (RFC 9110, section 11.1).
fn after_scheme(value: &[u8]) -> Result<&[u8], Malformed> {
    let value = trim(value);
    if value.is_empty() {
        return Err(Malformed::Missing);
    }
    // As nearly everybody writes it.
    if let Some(rest) = value.strip_prefix(b"Bearer ") {
        return Ok(trim(rest));
    }
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end).ok_or(Malformed::Missing)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") && !scheme.eq_ignore_ascii_case(b"Macaroon") {
        return Err(Malformed::UnknownScheme);
    }
    let rest = trim(rest);
    if rest.is_empty() { Err(Malformed::Missing) } else { Ok(rest) }
}

/// One token of the list, decoded behind what `bytes` already holds; `None`: none of ours.
fn read_item(
    text: &[u8],
    forms: TextForms,
    first: bool,
    bytes: &mut Vec<u8>,
) -> Result<Option<Item>, Malformed> {
    let from = bytes.len();
    let (kind, body) = match text::split(text) {
        Ok((kind, body)) => (Some(kind), body),
        Err(Malformed::UnknownPrefix) => match forms {
            TextForms::OursOnly => return Ok(None),
            TextForms::Reencoded => (None, text),
        },
        Err(Malformed::Missing) => return Err(Malformed::Shape("an empty place in the list of tokens")),
        Err(wrong) => return Err(wrong),
    };
    let Some(kind) = kind else {
        return read_reencoded(body, first, bytes);
    };
    text::check_len(body)?;
    bytes.resize(from.saturating_add(base64::decoded_len(body.len())), 0);
    let layout = text::read_body(body, bytes.get_mut(from..).unwrap_or_default())?;
    Ok(Some(Item { kind, from, to: bytes.len(), layout }))
}

/// A token without prefix. The first of a header is a token; a later one is a token if its
/// identifier is one that our signer writes, else a discharge of the token before it
/// (docs/spec/token.md, TK-56).
fn read_reencoded(body: &[u8], first: bool, bytes: &mut Vec<u8>) -> Result<Option<Item>, Malformed> {
    let mut raw = Zeroizing::new(vec![0; base64::decoded_len(body.len())]);
    let ending = match base64::decode(body, &mut raw) {
        Ok(()) => None,
        Err(base64::Wrong::Character) => return Ok(None),
        Err(wrong @ base64::Wrong::Ending) => Some(wrong),
    };
    let read = match raw.first() {
        Some(&canonical::VERSION) => Ok(raw),
        Some(b'0'..=b'9' | b'a'..=b'f') => v1::read(&raw, &Caps::OWN).map(Zeroizing::new),
        #[cfg(feature = "json")]
        Some(b'{') => crate::wire::json::read(&raw, &Caps::OWN).map(Zeroizing::new),
        Some(_) | None => return Ok(None),
    };
    let read = read.and_then(|wire| v2::read(&wire, &Caps::OWN).map(|layout| (wire, layout)));
    let (wire, layout) = match (read, ending) {
        (Ok(read), None) => read,
        (Err(Malformed::Truncated), _) => return Err(Malformed::Truncated),
        (Ok(_) | Err(_), Some(_)) => return Err(Malformed::Base64),
        (Err(wrong), None) => return Err(wrong),
    };
    let from = bytes.len();
    bytes.extend_from_slice(&wire);
    let mut item = Item { kind: TextKind::Root, from, to: bytes.len(), layout };
    let ours = item.token(bytes).is_some_and(|token| token.claimed_identifier().is_ok());
    if !first && !ours {
        item.kind = TextKind::Discharge;
    }
    Ok(Some(item))
}

/// Sixteen bytes at a time, without a branch on each: a header is mostly one long token.
fn find_comma(text: &[u8]) -> Option<usize> {
    let is_comma = |byte: &u8| *byte == b',';
    let is_clean = |chunk: &[u8; 16]| !chunk.iter().fold(false, |any, byte| any | is_comma(byte));
    let (chunks, _) = text.as_chunks::<16>();
    let clean = chunks.iter().take_while(|chunk| is_clean(chunk)).count();
    // What is left is part of the last sixteen.
    if clean == chunks.len() && text.last_chunk().is_some_and(is_clean) {
        return None;
    }
    let skip = clean.saturating_mul(16);
    text.get(skip..)?.iter().position(is_comma).map(|at| at.saturating_add(skip))
}

/// Without the spaces and tabs around it (RFC 9110, section 5.6.3).
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
