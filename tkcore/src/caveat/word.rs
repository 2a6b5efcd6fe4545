//! Words: what stands for one value. A word is bare, or in double quotes where a bare word will
//! not do, so that each value has one spelling (docs/spec/caveats.md, CV-20 to CV-37).

use super::address::{self, V4};
use super::error::ParseFault;
use super::path;
use crate::time::Timestamp;

/// The fact types that a word can be compared with, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const TEXT: Self = Self(1);
    pub(crate) const INT: Self = Self(2);
    pub(crate) const TIME: Self = Self(4);
    pub(crate) const IP: Self = Self(8);
    pub(crate) const PATH: Self = Self(16);
    pub(crate) const ALL: Self = Self(31);

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn holds(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a word stands for, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text and nothing else.
    Text,
    /// Canonical decimal digits: an integer, or the text of those digits, as the fact is.
    Int(i64),
    /// A time.
    Time(Timestamp),
    /// An address: the IPv4 one, or `None` for one that is read again when it is compared, since
    /// carrying an IPv6 address would make every value larger.
    Ip(Option<V4>),
    /// A network, in the same way; only lists of `in` and `not-in` hold one.
    Net(Option<V4>),
    /// An absolute path.
    Path,
    /// In quotes, beginning with `/`, and a well-formed path that no bare word can spell: a
    /// path, or a text, as the fact is.
    QuotedPath,
}

impl Value {
    pub(crate) const fn kinds(self) -> Kinds {
        match self {
            Self::Text => Kinds::TEXT,
            Self::Int(_) => Kinds::INT.or(Kinds::TEXT),
            Self::Time(_) => Kinds::TIME,
            Self::Ip(_) | Self::Net(_) => Kinds::IP,
            Self::Path => Kinds::PATH,
            Self::QuotedPath => Kinds::PATH.or(Kinds::TEXT),
        }
    }
}

/// Where a bare word ends, beside the space and the comma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A value: colons belong to it.
    Value,
    /// A resource before its actions: it ends at the first colon.
    Colon,
}

/// What may stand in a name, behind its first letter.
static NAME: [bool; 256] = name_bytes();

const fn name_bytes() -> [bool; 256] {
    let mut table = [false; 256];
    let mut rest: &mut [bool] = &mut table;
    let mut byte = 0u8;
    while let Some((slot, tail)) = rest.split_first_mut() {
        *slot = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        rest = tail;
        byte = byte.wrapping_add(1);
    }
    table
}

#[inline]
pub(crate) fn is_name_byte(byte: u8) -> bool {
    NAME.get(usize::from(byte)).copied().unwrap_or(false)
}

const DIGIT: u8 = 1;
const HEX: u8 = 2;
const PLAIN: u8 = 4;
const COLON: u8 = 8;
const DOT: u8 = 16;
const SLASH: u8 = 32;
const WIDE: u8 = 64;
const END: u8 = 128;

/// What each byte may do in a bare word. Everything that ends one or needs quotes is `END`.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [END; 256];
    let mut rest: &mut [u8] = &mut table;
    let mut byte = 0u8;
    while let Some((slot, tail)) = rest.split_first_mut() {
        *slot = match byte {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => HEX,
            b':' => COLON,
            b'.' => DOT,
            b'/' => SLASH,
            b'"' | b',' | b'|' | b'\\' | 0..=b' ' | 0x7f => END,
            0x80..=0xff => WIDE,
            _ => PLAIN,
        };
        rest = tail;
        byte = byte.wrapping_add(1);
    }
    table
}

/// Reads one word at the start of `text`: what it stands for and its length in bytes.
///
/// On an error, the fault and how many bytes into `text` it lies. Works on bytes: what is beyond
/// ASCII can only stand in words, and is checked to be UTF-8 there.
#[inline(always)]
pub(crate) fn read(text: &[u8], stop: Stop) -> Result<(Value, usize), (ParseFault, usize)> {
    let mut seen = 0u8;
    let end = if stop == Stop::Colon { END | COLON } else { END };
    let mut len = 0usize;
    for byte in text {
        let class = CLASS.get(usize::from(*byte)).copied().unwrap_or(END);
        if class & end != 0 {
            break;
        }
        seen |= class;
        len = len.wrapping_add(1);
    }
    let word = text.get(..len).unwrap_or(text);
    match (word.first(), text.first()) {
        (None, Some(b'"')) => quoted(text, stop).map(|(quoted, len)| (quoted.value(), len)),
        (None, first) => Err((unexpected(first), 0)),
        // The most common word by far: letters, which stand for nothing but themselves.
        (Some(b'a'..=b'z' | b'A'..=b'Z'), _) if seen & (COLON | WIDE) == 0 => Ok((Value::Text, len)),
        (Some(_), _) => bare(word, seen).map(|value| (value, len)),
    }
}

const fn unexpected(byte: Option<&u8>) -> ParseFault {
    match byte {
        None => ParseFault::ValueMissing,
        Some(b' ') => ParseFault::Space,
        Some(b',' | b'|' | b':') => ParseFault::ElementMissing,
        Some(_) => ParseFault::Character,
    }
}

/// What a bare word stands for. A word that only looks like a value, spelled in a way that is
/// not the one accepted, is refused: as a text it needs quotes.
#[inline(always)]
fn bare(word: &[u8], seen: u8) -> Result<Value, (ParseFault, usize)> {
    if seen & WIDE != 0 {
        check_wide(word)?;
    }
    form(word, seen).map_err(|fault| (fault, 0))
}

/// Checks a bare word that leaves ASCII.
#[inline(never)]
fn check_wide(word: &[u8]) -> Result<(), (ParseFault, usize)> {
    let text = core::str::from_utf8(word).map_err(|error| (ParseFault::NotUtf8, error.valid_up_to()))?;
    match text.char_indices().find(|(_, c)| is_hidden(*c)) {
        Some((at, _)) => Err((ParseFault::HiddenCharacter, at)),
        None => Ok(()),
    }
}

/// In place, since a value is moved through memory when a function returns it.
#[inline(always)]
fn form(word: &[u8], seen: u8) -> Result<Value, ParseFault> {
    if seen == DIGIT {
        return integer(word).map(Value::Int).ok_or(ParseFault::Integer);
    }
    match word {
        [b'/', ..] => return path::check(word).map(|()| Value::Path).map_err(ParseFault::Path),
        // A time has hyphens.
        [b'0'..=b'9', ..] if seen & PLAIN != 0 => match Timestamp::from_rfc3339_bytes(word) {
            Ok(time) => return Ok(Value::Time(time)),
            Err(fault) if looks_like_time(word) => return Err(ParseFault::Time(fault)),
            Err(_) => {}
        },
        [b'0'..=b'9', ..] if seen & !(DIGIT | DOT | SLASH) == 0 => match V4::read(word) {
            Some(read) if read.is_net() => return Ok(Value::Net(Some(read))),
            Some(read) => return Ok(Value::Ip(Some(read))),
            None if address::looks_like_v4(word) => return Err(ParseFault::Address),
            None => {}
        },
        [b'-' | b'+', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            return integer(word).map(Value::Int).ok_or(ParseFault::Integer);
        }
        _ => {}
    }
    if seen & COLON != 0 && seen & WIDE == 0 {
        Ok(match address::read_v6(word)? {
            Some(true) => Value::Net(None),
            Some(false) => Value::Ip(None),
            None => Value::Text,
        })
    } else {
        Ok(Value::Text)
    }
}

/// Canonical decimal: no plus, no leading zero, no minus zero, within `i64`.
#[inline]
pub(crate) fn integer(word: &[u8]) -> Option<i64> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Counted below zero, where there is one number more.
    let mut value = 0i64;
    if digits.len() <= SAFE_DIGITS {
        for byte in digits {
            value = value.wrapping_mul(10).wrapping_sub(digit(*byte)?);
        }
    } else {
        for byte in digits {
            value = value.checked_mul(10)?.checked_sub(digit(*byte)?)?;
        }
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// So many digits always fit.
const SAFE_DIGITS: usize = 18;

#[inline]
fn digit(byte: u8) -> Option<i64> {
    let digit = byte.wrapping_sub(b'0');
    if digit > 9 { None } else { Some(i64::from(digit)) }
}

/// Whether a word that is no time is refused as one: as a text it needs quotes.
fn looks_like_time(bytes: &[u8]) -> bool {
    let Some(&[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't']) = bytes.first_chunk::<11>() else {
        return false;
    };
    [y0, y1, y2, y3, m0, m1, d0, d1].iter().all(u8::is_ascii_digit)
}

/// What a quoted word stands for.
enum Quoted {
    Text,
    Path,
}

impl Quoted {
    const fn value(self) -> Value {
        match self {
            Self::Text => Value::Text,
            Self::Path => Value::QuotedPath,
        }
    }
}

/// Reads a quoted word: `\"` and `\\` are the only escapes.
#[inline(never)]
fn quoted(text: &[u8], stop: Stop) -> Result<(Quoted, usize), (ParseFault, usize)> {
    let mut escaped = false;
    let close = text.iter().skip(1).position(|byte| {
        let close = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        close
    });
    // An open quote is only named when nothing before the end of the text is wrong.
    let end = close.map_or(text.len(), |at| at.saturating_add(1));
    let content = text.get(1..end).unwrap_or(&[]);
    let content = core::str::from_utf8(content)
        .map_err(|error| (ParseFault::NotUtf8, error.valid_up_to().saturating_add(1)))?;
    let mut escaped = false;
    let mut needed = false;
    for (at, c) in content.char_indices() {
        let at = at.saturating_add(1);
        match (escaped, c) {
            (true, '"' | '\\') => escaped = false,
            (true, _) => return Err((ParseFault::Escape, at)),
            (false, '\\') => {
                escaped = true;
                needed = true;
            }
            (false, c) if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                return Err((ParseFault::Control, at));
            }
            (false, c) => needed |= !may_be_bare(c, stop),
        }
    }
    if close.is_none() {
        return Err((ParseFault::QuoteOpen, text.len()));
    }
    let len = end.saturating_add(1);
    if content.is_empty() {
        return Ok((Quoted::Text, len));
    }
    if needed {
        // Only a path that is the same with and without its quotes is one: a backslash is
        // refused in paths, so an escaped one never is.
        let path = content.starts_with('/') && path::check(content.as_bytes()).is_ok();
        return Ok((if path { Quoted::Path } else { Quoted::Text }, len));
    }
    let class = |byte: u8| CLASS.get(usize::from(byte)).copied().unwrap_or(END);
    let seen = content.bytes().fold(0, |seen, byte| seen | class(byte));
    match form(content.as_bytes(), seen) {
        Ok(Value::Text | Value::Int(_)) => Err((ParseFault::NeedlessQuotes, 0)),
        Ok(Value::Time(_) | Value::Ip(_) | Value::Net(_) | Value::Path | Value::QuotedPath) | Err(_) => {
            Ok((Quoted::Text, len))
        }
    }
}

fn may_be_bare(c: char, stop: Stop) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte < 0x80 => {
            let end = if stop == Stop::Colon { END | COLON } else { END };
            CLASS.get(usize::from(byte)).is_some_and(|class| class & end == 0)
        }
        _ => !is_hidden(c),
    }
}

/// Whether the word, as it stands in a caveat, spells exactly `text`.
#[inline]
pub(crate) fn spells(word: &[u8], text: &str) -> bool {
    if let [b'"', inner @ .., b'"'] = word { spells_quoted(inner, text) } else { same(word, text.as_bytes()) }
}

/// Whether two texts are equal. Most are a few bytes long, for which a call of the platform's
/// comparison takes longer than the comparison.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let whole = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    a.iter().zip(b).all(|(a, b)| whole(a) == whole(b)) && a_last.iter().zip(b_last).all(|(a, b)| a == b)
}

#[inline(never)]
fn spells_quoted(inner: &[u8], text: &str) -> bool {
    if !inner.contains(&b'\\') {
        return inner == text.as_bytes();
    }
    core::str::from_utf8(inner).is_ok_and(|inner| unescaped(inner).eq(text.chars()))
}

/// A path word without its quotes: it holds no escapes.
#[inline]
pub(crate) fn unquoted(word: &[u8]) -> &[u8] {
    if let [b'"', inner @ .., b'"'] = word { inner } else { word }
}

fn unescaped(inner: &str) -> impl Iterator<Item = char> + Clone + '_ {
    let mut escaped = false;
    inner.chars().filter(move |c| {
        let keep = *c != '\\' || escaped;
        escaped = *c == '\\' && !escaped;
        keep
    })
}

/// Length in bytes of the validated word at the start of `text`.
#[inline]
fn len_of(text: &[u8], stop: Stop) -> usize {
    if text.first() == Some(&b'"') {
        let mut escaped = false;
        let close = text.iter().skip(1).position(|byte| {
            let close = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            close
        });
        return close.map_or(text.len(), |at| at.saturating_add(2));
    }
    let ends = |byte: &u8| matches!(byte, b',' | b'|' | b' ') || (stop == Stop::Colon && *byte == b':');
    text.iter().position(ends).unwrap_or(text.len())
}

/// Walks words that have been read before, up to the end of the text.
#[derive(Debug, Clone)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// Words separated by one byte each: a comma, or a bar between actions.
    pub(crate) const fn new(validated: &'a [u8]) -> Self {
        Self { rest: validated }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (word, rest) = self.rest.split_at_checked(len_of(self.rest, Stop::Value))?;
        self.rest = rest.get(1..).unwrap_or(&[]);
        Some(word)
    }
}

/// Walks `resource:action|action,…` that has been read before.
#[derive(Debug, Clone)]
pub(crate) struct Resources<'a> {
    rest: &'a [u8],
}

impl<'a> Resources<'a> {
    pub(crate) const fn new(validated: &'a [u8]) -> Self {
        Self { rest: validated }
    }
}

impl<'a> Iterator for Resources<'a> {
    /// The resource, and its actions separated by bars.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        let (resource, rest) = self.rest.split_at_checked(len_of(self.rest, Stop::Colon))?;
        let rest = rest.get(1..)?;
        let mut len = 0usize;
        loop {
            len = len.saturating_add(len_of(rest.get(len..)?, Stop::Value));
            if rest.get(len) != Some(&b'|') {
                break;
            }
            len = len.saturating_add(1);
        }
        let (actions, rest) = rest.split_at_checked(len)?;
        self.rest = rest.get(1..).unwrap_or(&[]);
        Some((resource, actions))
    }
}

/// A validated word or list as text: ASCII, or checked to be UTF-8 when it was read.
pub(crate) fn as_text(validated: &[u8]) -> &str {
    core::str::from_utf8(validated).unwrap_or("")
}

/// Characters beyond ASCII that a reader cannot see, that reorder what is seen, or that have no
/// fixed look: refused in bare words (CV-24). A fixed table and no Unicode property, so that no
/// verdict changes with a Unicode version.
pub(crate) const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}' | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}')
}
