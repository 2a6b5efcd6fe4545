//! The caveat language (docs/spec/caveats.md): one short line of printable text, one meaning,
//! one spelling, no loops.

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
pub(crate) use eval::{Reason, Verdict};
pub use meaning::Meaning;
pub use path::PathFault;
pub(crate) use vocabulary::{Custom, TenantWide};
pub use vocabulary::{CustomCaveat, CustomVerdict, Vocabulary, VocabularyBuilder, VocabularyError};

use core::fmt;

use word::{Kinds, Value};

/// One caveat of the native language, read from a text that it borrows.
///
/// `Display` writes exactly the text it was read from. Reading and judging allocate nothing and
/// take time linear in the text (an element list is also sorted once to find repetitions, at
/// most 11 comparisons an element).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caveat<'a> {
    text: &'a str,
    name: &'a str,
    about: About,
    presence: Presence<'a>,
    operator: Operator,
    operand: Operand<'a>,
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

/// What an absent fact leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence<'a> {
    /// No `?`: refused.
    Required,
    /// `?`: admitted.
    Optional,
    /// `?` and `else`: the actions must be in this list.
    Otherwise(&'a str),
}

/// The value behind the operator, as validated text and what was learned of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand<'a> {
    /// One word.
    One(&'a str, Value),
    /// Words between commas, and the types that all of them can be compared with.
    List(&'a str, Kinds),
    /// Resources with their actions, and the types of the resources.
    Resources(&'a str, Kinds),
}

impl<'a> Caveat<'a> {
    /// Reads a caveat; every byte counts.
    ///
    /// # Errors
    /// [`ParseError`] says what is wrong and at which byte.
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        parse::caveat(text)
    }

    /// Reads a caveat from bytes, which must be UTF-8.
    ///
    /// # Errors
    /// As [`Caveat::parse`].
    #[inline]
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let text = core::str::from_utf8(bytes)
            .map_err(|error| ParseError::new(ParseFault::NotUtf8, error.valid_up_to()))?;
        parse::caveat(text)
    }

    /// The text it was read from.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The name at its start.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
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
        !matches!(self.presence, Presence::Required)
    }

    /// The value as written, without the `else` part.
    #[must_use]
    pub const fn value(&self) -> &'a str {
        match self.operand {
            Operand::One(raw, _) | Operand::List(raw, _) | Operand::Resources(raw, _) => raw,
        }
    }

    /// The list after `else`, as written.
    #[must_use]
    pub const fn otherwise(&self) -> Option<&'a str> {
        match self.presence {
            Presence::Otherwise(list) => Some(list),
            Presence::Required | Presence::Optional => None,
        }
    }

    pub(crate) const fn operand(&self) -> Operand<'a> {
        self.operand
    }
}

impl fmt::Display for Caveat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl About {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "time" => Self::Time,
            "action" => Self::Action,
            "tenant" => Self::Tenant,
            "subject" => Self::Subject,
            "audience" => Self::Audience,
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

    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::More,
            ">=" => Self::AtLeast,
            "in" => Self::In,
            "not-in" => Self::NotIn,
            "under" => Self::Under,
            "allows" => Self::Allows,
            _ => return None,
        })
    }
}

/// Length of the name at the start of a text: a lower-case letter, then lower-case letters,
/// digits, `.`, `_` and `-` (CV-11). Zero when there is none.
#[inline]
pub(crate) fn name_len(bytes: &[u8]) -> usize {
    if !bytes.first().is_some_and(u8::is_ascii_lowercase) {
        return 0;
    }
    let is_name = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    bytes.iter().position(|byte| !is_name(byte)).unwrap_or(bytes.len())
}

/// Whether a text is a name and nothing else, at most [`crate::limits::NAME_BYTES`] long.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= crate::limits::NAME_BYTES && name_len(text.as_bytes()) == text.len()
}

/// Whether every caveat of these is about `time` and nothing else: such a token is power over
/// the whole tenant (CV-72). `None` stands for a third-party caveat, which restricts; so does a
/// caveat that cannot be read, since it refuses.
pub(crate) fn only_about_time<'c>(mut caveats: impl Iterator<Item = Option<&'c [u8]>>) -> bool {
    caveats.all(|caveat| {
        caveat.is_some_and(|bytes| Caveat::from_bytes(bytes).is_ok_and(|caveat| caveat.about == About::Time))
    })
}
