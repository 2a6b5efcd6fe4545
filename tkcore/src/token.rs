use alloc::vec::Vec;
use core::fmt;

use crate::chain;
use crate::error::{Bug, Malformed};
use crate::identifier::Identifier;
use crate::key::Tail;
use crate::text::{self, TextKind, TokenText};
use crate::wiped::Wiped;
use crate::wire::canonical::Caps;
use crate::wire::v2::{self, Caveats, Layout, RawCaveat};

/// A well-formed token, not yet verified: a borrowed view of its V2 bytes.
///
/// There is no way to read a caveat from it: what it says is worth nothing until
/// [`crate::verify`] has made a [`crate::Verified`] of it. Its bytes are a bearer secret;
/// `Debug` shows none of them, and logs use [`Token::describe_untrusted`].
#[derive(Clone, Copy)]
pub struct Token<'a> {
    wire: &'a [u8],
    layout: Layout,
}

impl<'a> Token<'a> {
    /// Reads the V2 binary form strictly and consumes every byte (docs/spec/token.md, TK-20).
    ///
    /// # Errors
    /// [`Malformed`]; `Truncated` exactly when the bytes are the beginning of something that
    /// could be a token.
    pub fn parse(v2: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(v2, &Caps::OWN)
    }

    /// The same, as strictly and with the limits that `caps` say.
    pub(crate) fn read(v2: &'a [u8], caps: &Caps) -> Result<Self, Malformed> {
        Ok(Self { wire: v2, layout: v2::read(v2, caps)? })
    }

    /// A token that was read before; `layout` must come from these very bytes.
    pub(crate) const fn from_parts(wire: &'a [u8], layout: Layout) -> Self {
        Self { wire, layout }
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// The V2 bytes. A bearer secret.
    #[must_use]
    pub const fn as_v2(&self) -> &'a [u8] {
        self.wire
    }

    /// What it says of itself if it is a token that our signer minted; nothing of it is proven
    /// yet. For finding the key or the remembered prefix to verify it with.
    ///
    /// # Errors
    /// [`Malformed::Identifier`] when the identifier is none of ours.
    pub fn claimed_identifier(&self) -> Result<Identifier<'a>, Malformed> {
        Identifier::parse(self.identifier_bytes())
    }

    /// What it says, for logs and for people; the name is the warning.
    #[must_use]
    pub const fn describe_untrusted(&self) -> Untrusted<'a> {
        Untrusted { token: *self }
    }

    pub(crate) fn identifier_bytes(&self) -> &'a [u8] {
        self.layout.identifier.of(self.wire)
    }

    pub(crate) fn location(&self) -> Option<&'a [u8]> {
        self.layout.location.map(|span| span.of(self.wire))
    }

    pub(crate) fn caveats(&self) -> Caveats<'a> {
        Caveats::new(self.caveat_bytes())
    }

    pub(crate) fn caveat_bytes(&self) -> &'a [u8] {
        self.layout.caveats.of(self.wire)
    }

    pub(crate) const fn caveat_count(&self) -> u16 {
        self.layout.count
    }

    pub(crate) const fn third_party_count(&self) -> u16 {
        self.layout.third_party
    }

    /// The last 32 bytes: compared by `chain.rs`, in constant time, and by nothing else.
    pub(crate) fn signature(&self) -> &'a [u8; 32] {
        self.wire.last_chunk().unwrap_or(&[0; 32])
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.describe_untrusted())
    }
}

/// What a token says before anybody verified it: for logs, `inspect` commands and clients that
/// look for the discharges it needs. Never for a decision. Shows no signature.
#[derive(Clone, Copy)]
pub struct Untrusted<'a> {
    token: Token<'a>,
}

/// One caveat of an unverified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntrustedCaveat<'a> {
    /// The text of a first-party caveat; the ticket of a third-party one.
    pub id: &'a [u8],
    /// Whether a third party has to discharge it.
    pub third_party: bool,
    /// Where the third party is said to be: printable text, signed by nothing.
    pub location: Option<&'a str>,
}

impl<'a> Untrusted<'a> {
    /// The identifier, if it is one of ours.
    #[must_use]
    pub fn identifier(&self) -> Option<Identifier<'a>> {
        self.token.claimed_identifier().ok()
    }

    /// The identifier's bytes, whoever made it.
    #[must_use]
    pub fn identifier_bytes(&self) -> &'a [u8] {
        self.token.identifier_bytes()
    }

    /// The caveats in their order.
    pub fn caveats(&self) -> impl Iterator<Item = UntrustedCaveat<'a>> + use<'a> {
        self.token.caveats().map(|RawCaveat { cid, vid, location }| UntrustedCaveat {
            id: cid,
            third_party: vid.is_some(),
            location: location.and_then(|text| core::str::from_utf8(text).ok()),
        })
    }

    /// The token's location: printable text, signed by nothing.
    #[must_use]
    pub fn location(&self) -> Option<&'a str> {
        self.token.location().and_then(|text| core::str::from_utf8(text).ok())
    }
}

/// One line of ids that are safe to log; no caveat, since those may name people.
impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identifier() {
            Some(id) => write!(f, "lineage {} key {}", id.lineage, id.key)?,
            None => write!(f, "foreign identifier of {} bytes", self.token.identifier_bytes().len())?,
        }
        write!(f, ", {} caveats unverified", self.token.caveat_count())
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untrusted({self})")
    }
}

/// A well-formed token that owns its V2 bytes. Wiped on drop; `Debug` shows no secret; not
/// `Clone`, since every copy is another copy of a bearer secret.
pub struct TokenBuf {
    wire: Wiped,
    layout: Layout,
}

impl TokenBuf {
    /// Takes V2 bytes over and reads them as [`Token::parse`] does.
    ///
    /// # Errors
    /// As [`Token::parse`]; the bytes are wiped.
    pub fn from_v2(bytes: Vec<u8>) -> Result<Self, Malformed> {
        Self::read(bytes, &Caps::OWN)
    }

    /// The same, as strictly and with the limits that `caps` say.
    pub(crate) fn read(bytes: Vec<u8>, caps: &Caps) -> Result<Self, Malformed> {
        let wire = Wiped::new(bytes);
        let layout = v2::read(&wire, caps)?;
        Ok(Self { wire, layout })
    }

    /// A discharge as it is presented beside `root`.
    pub(crate) fn bound(root: &Token<'_>, discharge: &Token<'_>) -> Result<Self, Bug> {
        let tail = |token: &Token<'_>| Tail::from_bytes(*token.signature());
        let bound = chain::bind(&tail(root), &tail(discharge));
        let mut wire = Wiped::new(discharge.wire.to_vec());
        *wire.last_chunk_mut::<32>().ok_or(Bug("a token without a signature"))? = *bound.expose();
        Ok(Self { wire, layout: discharge.layout })
    }

    /// Reads one token or discharge from its text form, `tk1_…` or `td1_…`, and says which.
    ///
    /// # Errors
    /// [`Malformed`]; `Truncated` for a text that was cut off anywhere.
    pub fn from_text(text: &str) -> Result<(TextKind, Self), Malformed> {
        let (kind, wire, layout) = text::read(text.as_bytes())?;
        Ok((kind, Self { wire, layout }))
    }

    /// The view that everything else works on.
    #[must_use]
    pub fn as_token(&self) -> Token<'_> {
        Token::from_parts(&self.wire, self.layout)
    }

    /// The text form of a token: `tk1_` and unpadded URL-safe base64.
    #[must_use]
    pub fn to_text(&self) -> TokenText {
        text::write(TextKind::Root, &self.wire)
    }

    /// The text form of a discharge: `td1_` and unpadded URL-safe base64.
    #[must_use]
    pub fn to_discharge_text(&self) -> TokenText {
        text::write(TextKind::Discharge, &self.wire)
    }
}

impl fmt::Debug for TokenBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenBuf({})", self.as_token().describe_untrusted())
    }
}
