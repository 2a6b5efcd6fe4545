use alloc::boxed::Box;
use core::fmt;

use crate::limits;

/// Why a text is no tenant, audience or subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Empty where a name is needed.
    Empty,
    /// Longer than [`limits::NAME_BYTES`].
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// Holds a control character (Unicode `Cc`), which logs and terminals would act on.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 64 bytes",
            Self::NotUtf8 => "the name is not UTF-8",
            Self::Control => "the name holds a control character",
        })
    }
}

impl core::error::Error for NameError {}

/// A checked name: 1 to 64 bytes of UTF-8 without control characters. Not a secret, though the
/// feed and the signer's disk never show it in clear.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Whose power a token is: the platform's own name for a customer, an organisation, an account.
pub type Tenant = Name;
/// The one service, or group of services, that a key record is for.
pub type Audience = Name;
/// On whose behalf a token was minted: a person, a machine, a pipeline.
pub type Subject = Name;

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule `text` breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text.as_bytes()).map(|text| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The rules of a name over borrowed bytes.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > limits::NAME_BYTES {
        return Err(NameError::TooLong);
    }
    let text = core::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain && text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_name() {
        assert_eq!(Name::new("acme").unwrap().as_str(), "acme");
        assert!(Name::new(&"x".repeat(64)).is_ok());
        assert_eq!(Name::new(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("a\nb"), Err(NameError::Control));
        assert_eq!(Name::new("a\u{85}b"), Err(NameError::Control));
        assert_eq!(check(b"\xff"), Err(NameError::NotUtf8));
    }
}
