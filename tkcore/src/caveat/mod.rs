//! The caveat language (docs/spec/caveats.md): one short line of printable text, one meaning,
//! one spelling, no loops.

pub(crate) mod address;
mod error;
mod eval;
mod list;
mod meaning;
mod parse;
pub(crate) mod path;
mod vocabulary;
pub(crate) mod word;

pub use error::{ParseError, ParseFault};
pub use eval::Asked;
pub(crate) use eval::{Reason, Unjudged, Verdict, read_and_judge};
pub use meaning::Meaning;
pub use path::PathFault;
pub(crate) use vocabulary::{Custom, TenantWide};
pub use vocabulary::{CustomCaveat, CustomVerdict, Vocabulary, VocabularyBuilder, VocabularyError};

use core::fmt;

use word::{Kinds, Value};

use crate::time::Timestamp;

/// One caveat of the native language, read from a text that it borrows.
///
/// `Display` writes exactly the text it was read from. Reading and judging allocate nothing and
/// take time linear in the text (an element list is also sorted once to find repetitions, at
/// most 11 comparisons an element).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Caveat<'a> {
    /// UTF-8: what is beyond ASCII stands in words, which are checked one by one.
    text: &'a [u8],
    /// What the value stands for when it is one integer or time.
    number: i64,
    name_len: u16,
    /// Where the value lies in the text, and the list after `else`, which is never at 0.
    value: (u16, u16),
    otherwise: (u16, u16),
    about: About,
    operator: Operator,
    kinds: Kinds,
    form: Form,
    optional: bool,
}

/// What was learned of the value. Small and flat, since a caveat is copied on the hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Int,
    Time,
    Ip,
    Path,
    QuotedPath,
    List,
    Resources,
}

/// What a caveat is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum About {
    /// `time`: the moment of the request.
    Time,
    /// `action`: everything the request does.
    Action,
    /// `tenant`: whose power the token is.
    Tenant,
    /// `subject`: on whose behalf the token was minted.
    Subject,
    /// `audience`: the service the token's key is for.
    Audience,
    /// Any other name: a fact that the service states.
    Fact,
}

/// The operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `in`
    In,
    /// `not-in`
    NotIn,
    /// `under`
    Under,
    /// `allows`
    Allows,
}

/// The value behind the operator, as validated text and what was learned of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand<'a> {
    /// One word.
    One(&'a [u8], Value),
    /// Words between commas, and the types that all of them can be compared with.
    List(&'a [u8], Kinds),
    /// Resources with their actions, and the types of the resources.
    Resources(&'a [u8], Kinds),
}

impl<'a> Caveat<'a> {
    /// Reads a caveat; every byte counts.
    ///
    /// # Errors
    /// [`ParseError`] says what is wrong and at which byte.
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        Self::from_bytes(text.as_bytes())
    }

    /// Reads a caveat from bytes, which must be UTF-8.
    ///
    /// # Errors
    /// As [`Caveat::parse`].
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, ParseError> {
        parse::read(bytes, ()).map(|(caveat, ())| caveat)
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        word::as_text(self.text)
    }

    /// The name at its start.
    #[must_use]
    pub fn name(&self) -> &'a str {
        word::as_text(self.name_bytes())
    }

    #[inline]
    pub(crate) fn name_bytes(&self) -> &'a [u8] {
        self.text.get(..usize::from(self.name_len)).unwrap_or(&[])
    }

    /// What it is about.
    #[must_use]
    pub const fn about(&self) -> About {
        self.about
    }

    /// Its operator.
    #[must_use]
    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// Whether it says `?`: only if the request has this fact.
    #[must_use]
    pub const fn is_optional(&self) -> bool {
        self.optional
    }

    /// The value as written, without the `else` part.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &'a str {
        word::as_text(self.at(self.value))
    }

    /// The list after `else`, as written.
    #[must_use]
    #[inline]
    pub fn otherwise(&self) -> Option<&'a str> {
        self.otherwise_bytes().map(word::as_text)
    }

    #[inline]
    pub(crate) fn otherwise_bytes(&self) -> Option<&'a [u8]> {
        (self.otherwise != (0, 0)).then(|| self.at(self.otherwise))
    }

    #[inline]
    fn at(&self, (from, to): (u16, u16)) -> &'a [u8] {
        self.text.get(usize::from(from)..usize::from(to)).unwrap_or(&[])
    }

    #[inline(always)]
    pub(crate) fn operand(&self) -> Operand<'a> {
        let raw = self.at(self.value);
        let time = || u64::try_from(self.number).ok().and_then(Timestamp::from_millis);
        let value = match self.form {
            Form::List => return Operand::List(raw, self.kinds),
            Form::Resources => return Operand::Resources(raw, self.kinds),
            Form::Text => Value::Text,
            Form::Int => Value::Int(self.number),
            Form::Time => Value::Time(time().unwrap_or(Timestamp::EPOCH)),
            Form::Ip => Value::Ip(None),
            Form::Path => Value::Path,
            Form::QuotedPath => Value::QuotedPath,
        };
        Operand::One(raw, value)
    }
}

impl fmt::Display for Caveat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Caveat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caveat({:?})", self.as_str())
    }
}

impl About {
    #[inline(always)]
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b"time" => Self::Time,
            b"action" => Self::Action,
            b"tenant" => Self::Tenant,
            b"subject" => Self::Subject,
            b"audience" => Self::Audience,
            _ => Self::Fact,
        }
    }
}

impl Operator {
    /// As it stands in a caveat.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
            Self::NotIn => "not-in",
            Self::Under => "under",
            Self::Allows => "allows",
        }
    }

    /// The operator at the start of a text, and its length. It ends at a space, or at the end.
    #[inline(always)]
    fn read(text: &[u8]) -> Option<(Self, usize)> {
        let longer = |whole: &[u8]| text.starts_with(whole);
        let (operator, len) = match text.first()? {
            b'=' => (Self::Equal, 1),
            b'<' if longer(b"<=") => (Self::AtMost, 2),
            b'<' => (Self::Less, 1),
            b'>' if longer(b">=") => (Self::AtLeast, 2),
            b'>' => (Self::More, 1),
            b'!' if longer(b"!=") => (Self::NotEqual, 2),
            b'i' if longer(b"in") => (Self::In, 2),
            b'n' if longer(b"not-in") => (Self::NotIn, 6),
            b'u' if longer(b"under") => (Self::Under, 5),
            b'a' if longer(b"allows") => (Self::Allows, 6),
            _ => return None,
        };
        matches!(text.get(len), None | Some(b' ')).then_some((operator, len))
    }
}

/// Length of the name at the start of a text: a lower-case letter, then lower-case letters,
/// digits, `.`, `_` and `-` (CV-11). Zero when there is none.
#[inline]
pub(crate) fn name_len(bytes: &[u8]) -> usize {
    if !bytes.first().is_some_and(u8::is_ascii_lowercase) {
        return 0;
    }
    let mut len = 0usize;
    for byte in bytes {
        if !word::is_name_byte(*byte) {
            break;
        }
        len = len.wrapping_add(1);
    }
    len
}

/// Whether a text is a name and nothing else, at most [`crate::limits::NAME_BYTES`] long.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= crate::limits::NAME_BYTES && name_len(text.as_bytes()) == text.len()
}

/// Whether every caveat of these is about `time` and nothing else: such a token is power over
/// the whole tenant (CV-72). `None` stands for a third-party caveat, which restricts; so does a
/// caveat that cannot be read, since it refuses.
pub(crate) fn only_about_time<'c>(mut caveats: impl Iterator<Item = Option<&'c [u8]>>) -> bool {
    // `time` never stands with `?`, so what does not begin like this need not be read.
    caveats.all(|caveat| {
        caveat.is_some_and(|bytes| {
            bytes.starts_with(b"time ")
                && Caveat::from_bytes(bytes).is_ok_and(|caveat| caveat.about == About::Time)
        })
    })
}

/// Whether these restrict nothing at a service that states no fact of its own: all of them are about
/// `time`, or say `?` without `else` and so do not apply there. A signer asks this before it makes a
/// token; what a service refuses is told by [`only_about_time`]. `None` as there.
#[cfg(any(all(feature = "mint", feature = "third-party"), feature = "protocol"))]
pub(crate) fn may_restrict_nothing<'c>(mut caveats: impl Iterator<Item = Option<&'c [u8]>>) -> bool {
    caveats.all(|caveat| {
        let read = caveat.and_then(|bytes| Caveat::from_bytes(bytes).ok());
        read.is_some_and(|read| read.about == About::Time || (read.optional && read.otherwise().is_none()))
    })
}
