//! Caveat kinds that a service adds: registered by name in one verifier, no global registry.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{About, Asked, ParseError, ParseFault, is_name, name_len};
use crate::budget::Budget;

/// A kind of caveat that a service understands beside the native language.
///
/// A caveat is of this kind when it begins with the registered name; a space follows, and the rest
/// of the line is the kind's own. It must hold the promises of the language: a total function of its
/// text and the request, no clock, no I/O, work linear in the text and taken from the budget.
pub trait CustomCaveat: Send + Sync {
    /// Judges one access. `text` is what follows the name and its space; its length has been
    /// taken from `budget` once already.
    fn judge(&self, text: &str, asked: &Asked<'_>, budget: &mut Budget) -> CustomVerdict;

    /// Whether this version could ever admit with this text: what `attenuate` asks before it
    /// appends. The answer says what is wrong, in one sentence.
    ///
    /// # Errors
    /// The sentence.
    fn check(&self, text: &str) -> Result<(), &'static str>;
}

/// What a custom caveat says to one access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomVerdict {
    /// It admits this access.
    Admits,
    /// It does not concern this access, which is not refused by it.
    NotApplicable,
    /// It refuses.
    Refuses {
        /// What it asks for.
        wanted: String,
        /// What the request has instead. Not shown to the peer.
        got: String,
    },
    /// The budget is used up.
    BudgetSpent,
}

/// Whether a token whose caveats at mint are only about `time` may be cleared: it is power over
/// the whole tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TenantWide {
    #[default]
    Refuse,
    Admit,
}

/// What caveats a verifier understands: the native language and the kinds registered here.
/// What is in neither refuses.
#[derive(Default)]
pub struct Vocabulary {
    kinds: Vec<(Box<str>, Box<dyn CustomCaveat>)>,
    tenant_wide: TenantWide,
}

/// Collects what makes a [`Vocabulary`].
#[derive(Default)]
pub struct VocabularyBuilder {
    vocabulary: Vocabulary,
}

/// Why a vocabulary cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyError {
    /// Two kinds under one name.
    Duplicate(Box<str>),
    /// A reserved name of the native language: `time`, `action`, `tenant`, `subject`, `audience`.
    Reserved(Box<str>),
    /// Not a name: a lower-case letter, then lower-case letters, digits, `.`, `_`, `-`, at most
    /// 64 bytes.
    Name(Box<str>),
}

impl fmt::Display for VocabularyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(name) => write!(f, "two caveat kinds are registered as `{name}`"),
            Self::Reserved(name) => write!(f, "`{name}` is a reserved name of the caveat language"),
            Self::Name(name) => write!(f, "{name:?} is no caveat name"),
        }
    }
}

impl core::error::Error for VocabularyError {}

impl Vocabulary {
    /// The native language alone.
    #[must_use]
    pub fn native() -> Self {
        Self::default()
    }

    /// Begins a vocabulary with kinds of its own.
    #[must_use]
    pub fn builder() -> VocabularyBuilder {
        VocabularyBuilder::default()
    }

    pub(crate) const fn tenant_wide(&self) -> TenantWide {
        self.tenant_wide
    }

    /// The registered kind that a line belongs to, and the rest of the line.
    #[inline]
    pub(crate) fn custom<'t>(&self, line: &'t [u8]) -> Option<Custom<'_, 't>> {
        if self.kinds.is_empty() {
            return None;
        }
        let (name, rest) = line.split_at_checked(name_len(line))?;
        let (_, kind) = self.kinds.iter().find(|(known, _)| known.as_bytes() == name)?;
        // `name? …` would else be a native caveat about a fact that nobody states, and so admit.
        let text = match rest.strip_prefix(b" ") {
            Some(rest) => rest_text(rest).ok_or(ParseFault::Control),
            None => Err(ParseFault::Space),
        };
        Some(Custom { kind: kind.as_ref(), text: text.map_err(|fault| ParseError::new(fault, name.len())) })
    }
}

/// One line of a registered kind.
pub(crate) struct Custom<'v, 't> {
    pub(crate) kind: &'v dyn CustomCaveat,
    /// What is not one line of text behind the name and a space, no kind gets to see.
    pub(crate) text: Result<&'t str, ParseError>,
}

fn rest_text(rest: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(rest).ok()?;
    let line =
        !text.is_empty() && !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    line.then_some(text)
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.kinds.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("Vocabulary").field("kinds", &names).field("tenant_wide", &self.tenant_wide).finish()
    }
}

impl fmt::Debug for VocabularyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vocabulary.fmt(f)
    }
}

impl VocabularyBuilder {
    /// Registers a kind under a name.
    #[must_use]
    pub fn caveat(mut self, name: &str, kind: impl CustomCaveat + 'static) -> Self {
        self.vocabulary.kinds.push((name.into(), Box::new(kind)));
        self
    }

    pub(crate) const fn set_tenant_wide(mut self, choice: TenantWide) -> Self {
        self.vocabulary.tenant_wide = choice;
        self
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// [`VocabularyError`] on a name that is taken twice, reserved, or no name.
    pub fn build(self) -> Result<Vocabulary, VocabularyError> {
        let kinds = &self.vocabulary.kinds;
        for (at, (name, _)) in kinds.iter().enumerate() {
            if !is_name(name) {
                return Err(VocabularyError::Name(name.clone()));
            }
            if About::of(name.as_bytes()) != About::Fact {
                return Err(VocabularyError::Reserved(name.clone()));
            }
            if kinds.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(VocabularyError::Duplicate(name.clone()));
            }
        }
        Ok(self.vocabulary)
    }
}
