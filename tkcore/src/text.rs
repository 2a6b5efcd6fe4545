use alloc::string::String;
use alloc::vec;
use core::fmt;

use crate::base64;
use crate::error::Malformed;
use crate::limits;
use crate::wiped::{Wiped, wipe};
use crate::wire::canonical::Caps;
use crate::wire::v2::{self, Layout};

/// What a text says that it is, by its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextKind {
    /// `tk1_…`: a token.
    Root,
    /// `td1_…`: a discharge of a third-party caveat.
    Discharge,
}

impl TextKind {
    /// The four characters in front of the base64.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Root => "tk1_",
            Self::Discharge => "td1_",
        }
    }

    const ALL: [Self; 2] = [Self::Root, Self::Discharge];
}

/// A token's text: a bearer secret. Wiped on drop; `Debug` shows its prefix alone; to hand it
/// out, say [`TokenText::as_str`].
pub struct TokenText(String);

impl Drop for TokenText {
    fn drop(&mut self) {
        wipe(&mut core::mem::take(&mut self.0).into_bytes());
    }
}

impl TokenText {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TokenText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({}..)", self.0.get(..4).unwrap_or(""))
    }
}

/// Writes V2 bytes as text (docs/spec/token.md, TK-40).
pub(crate) fn write(kind: TextKind, v2: &[u8]) -> TokenText {
    let prefix = kind.prefix();
    // All of it at once: a string that grew would leave unwiped copies behind.
    let mut text = String::with_capacity(prefix.len().saturating_add(base64::encoded_len(v2.len())));
    text.push_str(prefix);
    base64::encode(v2, &mut text);
    TokenText(text)
}

/// Reads one text form into V2 bytes of its own.
pub(crate) fn read(text: &[u8]) -> Result<(TextKind, Wiped, Layout), Malformed> {
    let (kind, body) = split(text)?;
    check_len(body)?;
    let mut wire = Wiped::new(vec![0; base64::decoded_len(body.len())]);
    let layout = read_body(body, &mut wire)?;
    Ok((kind, wire, layout))
}

/// Tells the kind by the prefix.
///
/// # Errors
/// `Truncated` when the text is the beginning of a prefix, `Missing` when it is empty,
/// `UnknownPrefix` otherwise.
pub(crate) fn split(text: &[u8]) -> Result<(TextKind, &[u8]), Malformed> {
    if text.is_empty() {
        return Err(Malformed::Missing);
    }
    for kind in TextKind::ALL {
        if let Some(body) = text.strip_prefix(kind.prefix().as_bytes()) {
            return Ok((kind, body));
        }
    }
    if TextKind::ALL.iter().any(|kind| kind.prefix().as_bytes().starts_with(text)) {
        return Err(Malformed::Truncated);
    }
    Err(Malformed::UnknownPrefix)
}

/// Refuses a body that could only hold more than a token may.
pub(crate) fn check_len(body: &[u8]) -> Result<(), Malformed> {
    if base64::decoded_len(body.len()) > limits::TOKEN_BYTES {
        return Err(Malformed::TooLarge("token"));
    }
    Ok(())
}

/// Decodes the text behind a prefix into `to`, which has its exact length, and reads it.
///
/// A cut-off text may end in the middle of a byte, which alone would look like bad base64; so
/// in that case the whole bytes decide (docs/spec/token.md, TK-43).
pub(crate) fn read_body(body: &[u8], to: &mut [u8]) -> Result<Layout, Malformed> {
    match base64::decode(body, to) {
        Ok(()) => v2::read(to, &Caps::OWN),
        Err(base64::Wrong::Character) => Err(Malformed::Base64),
        Err(base64::Wrong::Ending) => match v2::read(to, &Caps::OWN) {
            Err(Malformed::Truncated) => Err(Malformed::Truncated),
            Ok(_) | Err(_) => Err(Malformed::Base64),
        },
    }
}
