use core::fmt;

use super::path::PathFault;
use crate::time::TimeError;

/// Why a text is no caveat of this language, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    at: usize,
    fault: ParseFault,
}

/// What is wrong at one place of a caveat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseFault {
    /// Longer than [`crate::limits::CAVEAT_BYTES`].
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// No name at the start: a lower-case letter, then lower-case letters, digits, `.`, `_`, `-`.
    Name,
    /// `?` after the name of something that every request has.
    NeverAbsent,
    /// A space too many, or one missing.
    Space,
    /// No operator of the language.
    Operator,
    /// The operator has no meaning for this reserved name.
    OperatorForName,
    /// Nothing where a value must stand.
    ValueMissing,
    /// Nothing where an element of a list must stand.
    ElementMissing,
    /// A character that cannot stand here bare.
    Character,
    /// An invisible or reordering character in a bare word.
    HiddenCharacter,
    /// A control character or a line break.
    Control,
    /// A backslash before anything but a quote or a backslash.
    Escape,
    /// The closing quote is missing.
    QuoteOpen,
    /// Quotes around what a bare word can say.
    NeedlessQuotes,
    /// Looks like an integer, and is not the decimal form within 64 bits.
    Integer,
    /// Looks like a time, and is not the one form.
    Time(TimeError),
    /// Looks like an IP address or network, and is not the one form.
    Address,
    /// Begins with `/`, and is no path.
    Path(PathFault),
    /// The operator takes another type of value.
    ValueForOperator,
    /// The reserved name is of another type.
    ValueForName,
    /// Elements of a list that no fact could be compared with together.
    MixedTypes,
    /// The same element twice.
    Repeated,
    /// `else` without `?` after the name.
    ElseWithoutOptional,
    /// Something after the end.
    Surplus,
    /// A resource without its actions.
    ActionsMissing,
}

impl ParseError {
    pub(crate) const fn new(fault: ParseFault, at: usize) -> Self {
        Self { at, fault }
    }

    /// Bytes before the fault.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// What is wrong there.
    #[must_use]
    pub const fn fault(&self) -> ParseFault {
        self.fault
    }

    /// Characters before the fault in `text`, which is where a caret belongs.
    #[must_use]
    pub fn column(&self, text: &str) -> usize {
        text.char_indices().take_while(|(at, _)| *at < self.at).count()
    }
}

impl fmt::Display for ParseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a caveat is at most 4096 bytes",
            Self::NotUtf8 => "a caveat is UTF-8 text",
            Self::Name => "a caveat begins with a name in lower-case letters, digits, `.`, `_`, `-`",
            Self::NeverAbsent => "every request has this, so `?` means nothing here",
            Self::Space => "exactly one space belongs between name, operator and value, and none elsewhere",
            Self::Operator => "operators are `=` `!=` `<` `<=` `>` `>=` `in` `not-in` `under` `allows`",
            Self::OperatorForName => "this operator has no meaning for this name",
            Self::ValueMissing => "a value is missing",
            Self::ElementMissing => "an element of the list is missing",
            Self::Character => "this character needs double quotes around the value",
            Self::HiddenCharacter => "an invisible character needs double quotes around the value",
            Self::Control => "a caveat is one line without control characters",
            Self::Escape => "only `\\\"` and `\\\\` are escapes",
            Self::QuoteOpen => "the closing quote is missing",
            Self::NeedlessQuotes => "quotes are only for what a bare word cannot say",
            Self::Integer => {
                "an integer has no plus sign and no leading zero and fits 64 bits; as a text it needs quotes"
            }
            Self::Time(error) => return error.fmt(f),
            Self::Address => {
                "an IP address or network is written in its shortest form, without host bits, zone or mapped IPv4"
            }
            Self::Path(fault) => return fault.fmt(f),
            Self::ValueForOperator => "this operator takes another type of value",
            Self::ValueForName => "this name takes another type of value; a text may need quotes",
            Self::MixedTypes => "no fact can be compared with all elements of this list",
            Self::Repeated => "this element stands in the list twice",
            Self::ElseWithoutOptional => "`else` belongs to a name with `?`",
            Self::Surplus => "the caveat should end here",
            Self::ActionsMissing => "a resource is followed by `:` and its actions",
        })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.fault)
    }
}

impl core::error::Error for ParseError {}
