use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crypto_secretbox::aead::AeadInPlace as _;
use crypto_secretbox::{Key, KeyInit as _, Nonce, Tag, XSalsa20Poly1305};
use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::{Zeroize as _, Zeroizing};

use crate::chain;
use crate::codec::{Reader, put_bytes16};
use crate::error::Malformed;
use crate::ids::AuthorityId;
use crate::limits;
use crate::third_party::vid::CaveatKey;

const VERSION: u8 = 1;
const SHARED: u8 = 1;
const PUBLIC: u8 = 2;
/// Version, form, authority id.
const HEADER: usize = 18;
const DOMAIN: &[u8; 12] = b"tk-ticket-v1";

/// The key that a token's maker and an authority share. Wiped on drop; not `Clone`; `Debug`
/// shows nothing of it.
pub struct SharedKey([u8; 32]);

/// An authority's X25519 secret key. Wiped on drop; not `Clone`; `Debug` shows nothing of it.
pub struct AuthoritySecret([u8; 32]);

/// An authority's X25519 public key: whoever has it can ask this authority in a caveat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityPublic([u8; 32]);

impl SharedKey {
    /// Wraps 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AuthoritySecret {
    /// Wraps 32 random bytes (RFC 7748 clamps them on use).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key to hand out.
    #[must_use]
    pub fn public(&self) -> AuthorityPublic {
        AuthorityPublic(MontgomeryPoint::mul_base_clamped(self.0).to_bytes())
    }
}

impl AuthorityPublic {
    /// Wraps the 32 bytes of RFC 7748.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of RFC 7748.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

macro_rules! secret {
    ($name:ident) => {
        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}
secret!(SharedKey);
secret!(AuthoritySecret);

/// To whom a ticket is sealed, with the fresh randomness that sealing needs.
#[derive(Debug)]
#[non_exhaustive]
pub enum SealTo<'a> {
    /// Under a key shared with the authority.
    Shared {
        /// That key.
        key: &'a SharedKey,
        /// 24 fresh random bytes.
        nonce: &'a [u8; 24],
    },
    /// To the authority's public key, so that any holder can add a caveat for it.
    Public {
        /// That key.
        key: &'a AuthorityPublic,
        /// 32 fresh random bytes, wiped by the caller afterwards.
        ephemeral: &'a [u8; 32],
    },
}

/// Writes a ticket: the id of a third-party caveat, which only the authority can read
/// (docs/spec/third-party.md, TP-10 to TP-13).
///
/// `caveats` are lines of the caveat language that the authority must clear before it
/// discharges.
///
/// # Errors
/// [`Malformed::TooLarge`] past [`limits::TICKET_CAVEATS`] caveats or when the ticket would not
/// fit [`limits::IDENTIFIER_BYTES`]; [`Malformed::Shape`] for a public key of small order, which
/// no honest authority has.
pub fn seal_ticket(
    authority: AuthorityId,
    to: &SealTo<'_>,
    key: &CaveatKey,
    caveats: &[&str],
) -> Result<Vec<u8>, Malformed> {
    if caveats.len() > limits::TICKET_CAVEATS {
        return Err(Malformed::TooLarge("the number of caveats in a ticket"));
    }
    // All of it at once: a buffer that grew would leave unwiped copies of the key behind.
    let room = caveats.iter().fold(32usize, |sum, caveat| sum.saturating_add(caveat.len()).saturating_add(2));
    if room > limits::IDENTIFIER_BYTES {
        return Err(Malformed::TooLarge("a ticket"));
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(room));
    plain.extend_from_slice(key.expose());
    for caveat in caveats {
        put_bytes16(&mut plain, caveat.as_bytes()).ok_or(Malformed::TooLarge("a caveat in a ticket"))?;
    }
    let form = match to {
        SealTo::Shared { .. } => SHARED,
        SealTo::Public { .. } => PUBLIC,
    };
    let mut ticket = Vec::from([VERSION, form]);
    ticket.extend_from_slice(authority.as_bytes());
    let (cipher, nonce) = match to {
        SealTo::Shared { key, nonce } => {
            let cipher = shared_cipher(key, &ticket);
            ticket.extend_from_slice(*nonce);
            (cipher, **nonce)
        }
        SealTo::Public { key, ephemeral } => {
            let public = MontgomeryPoint::mul_base_clamped(**ephemeral).to_bytes();
            let secret = Zeroizing::new(MontgomeryPoint(key.0).mul_clamped(**ephemeral).to_bytes());
            let cipher = public_cipher(&secret, &ticket, &public, key)
                .ok_or(Malformed::Shape("the authority's public key is of small order"))?;
            ticket.extend_from_slice(&public);
            (cipher, [0; 24])
        }
    };
    let tag = cipher
        .encrypt_in_place_detached(Nonce::from_slice(&nonce), b"", &mut plain)
        .map_err(|_| Malformed::TooLarge("a ticket"))?;
    ticket.extend_from_slice(&tag);
    ticket.extend_from_slice(&plain);
    if ticket.len() > limits::IDENTIFIER_BYTES {
        return Err(Malformed::TooLarge("a ticket"));
    }
    Ok(ticket)
}

/// A well-formed ticket, still sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket<'a> {
    bytes: &'a [u8],
    authority: AuthorityId,
    body: Body<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body<'a> {
    Shared { nonce: [u8; 24], tag: [u8; 16], sealed: &'a [u8] },
    Public { ephemeral: [u8; 32], tag: [u8; 16], sealed: &'a [u8] },
}

/// The keys of an authority: what opens the tickets for it.
#[derive(Debug)]
pub struct AuthorityKeys {
    authority: AuthorityId,
    shared: Vec<SharedKey>,
    secret: Option<AuthoritySecret>,
}

impl AuthorityKeys {
    /// The keys of `authority`; none yet.
    #[must_use]
    pub const fn new(authority: AuthorityId) -> Self {
        Self { authority, shared: Vec::new(), secret: None }
    }

    /// Adds a shared key. Several make a rotation possible; at most
    /// [`limits::AUTHORITY_SHARED_KEYS`] are tried, in this order.
    #[must_use]
    pub fn with_shared(mut self, key: SharedKey) -> Self {
        self.shared.push(key);
        self
    }

    /// Sets the X25519 secret key.
    #[must_use]
    pub fn with_secret(mut self, secret: AuthoritySecret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The authority these keys are for.
    #[must_use]
    pub const fn authority(&self) -> AuthorityId {
        self.authority
    }
}

/// Why a ticket does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketError {
    /// It is no ticket of a version known here.
    Malformed(Malformed),
    /// It is for another authority.
    OtherAuthority,
    /// This authority has no key of the kind it was sealed to.
    NoKey,
    /// It was not sealed to a key of this authority, or was changed.
    NotAuthentic,
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "not a ticket: {what}"),
            Self::OtherAuthority => f.write_str("the ticket is for another authority"),
            Self::NoKey => f.write_str("this authority has no key of the ticket's kind"),
            Self::NotAuthentic => f.write_str("the ticket was not sealed for this authority, or was changed"),
        }
    }
}

impl core::error::Error for TicketError {}

impl<'a> Ticket<'a> {
    /// Reads a ticket and consumes every byte.
    ///
    /// # Errors
    /// [`Malformed`]; an unknown version or form is refused.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > limits::IDENTIFIER_BYTES {
            return Err(Malformed::TooLarge("a ticket"));
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Malformed::Shape("a ticket of another version"));
        }
        let form = reader.u8()?;
        let authority = AuthorityId::from_bytes(reader.array()?);
        let body = match form {
            SHARED => Body::Shared { nonce: reader.array()?, tag: reader.array()?, sealed: reader.rest() },
            PUBLIC => {
                Body::Public { ephemeral: reader.array()?, tag: reader.array()?, sealed: reader.rest() }
            }
            _ => return Err(Malformed::Shape("a ticket of another form")),
        };
        let (Body::Shared { sealed, .. } | Body::Public { sealed, .. }) = body;
        if sealed.len() < 32 {
            return Err(Malformed::Truncated);
        }
        Ok(Self { bytes, authority, body })
    }

    /// Whom it is for. The MAC of the token that holds the ticket vouches for this; whoever holds
    /// only the ticket learns it for certain by opening it.
    #[must_use]
    pub const fn authority(&self) -> AuthorityId {
        self.authority
    }

    /// Opens the ticket. What it asks for is still to be cleared.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn open(&self, keys: &AuthorityKeys) -> Result<OpenTicket, TicketError> {
        if self.authority != keys.authority {
            return Err(TicketError::OtherAuthority);
        }
        let header = self.bytes.get(..HEADER).unwrap_or_default();
        let plain = match self.body {
            Body::Shared { nonce, tag, sealed } => {
                if keys.shared.is_empty() {
                    return Err(TicketError::NoKey);
                }
                let mut tried = keys.shared.iter().take(limits::AUTHORITY_SHARED_KEYS);
                tried.find_map(|key| decrypt(&shared_cipher(key, header), &nonce, &tag, sealed))
            }
            Body::Public { ephemeral, tag, sealed } => {
                let secret = keys.secret.as_ref().ok_or(TicketError::NoKey)?;
                let shared = Zeroizing::new(MontgomeryPoint(ephemeral).mul_clamped(secret.0).to_bytes());
                public_cipher(&shared, header, &ephemeral, &secret.public())
                    .and_then(|cipher| decrypt(&cipher, &[0; 24], &tag, sealed))
            }
        };
        OpenTicket::read(self, &plain.ok_or(TicketError::NotAuthentic)?)
    }
}

fn decrypt(
    cipher: &XSalsa20Poly1305,
    nonce: &[u8; 24],
    tag: &[u8; 16],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut plain = Zeroizing::new(sealed.to_vec());
    cipher.decrypt_in_place_detached(Nonce::from_slice(nonce), b"", &mut plain, Tag::from_slice(tag)).ok()?;
    Some(plain)
}

/// The header is part of the key, so a ticket cannot be relabelled even outside a token.
fn shared_cipher(key: &SharedKey, header: &[u8]) -> XSalsa20Poly1305 {
    let mut message = Vec::from(*DOMAIN);
    message.extend_from_slice(header);
    let key = Zeroizing::new(chain::hmac(&key.0, &message));
    XSalsa20Poly1305::new(Key::from_slice(&*key))
}

/// HKDF's two steps (RFC 5869) over the shared secret; both public keys are bound, and the key
/// is used once, so the nonce is zero. `None` for a shared secret of zeros (RFC 7748, 6.1).
fn public_cipher(
    secret: &[u8; 32],
    header: &[u8],
    ephemeral: &[u8; 32],
    authority: &AuthorityPublic,
) -> Option<XSalsa20Poly1305> {
    if secret.iter().fold(0, |all, byte| all | byte) == 0 {
        return None;
    }
    let extracted = Zeroizing::new(chain::hmac(&[0; 32], secret));
    let mut message = Vec::from(*DOMAIN);
    message.extend_from_slice(header);
    message.extend_from_slice(ephemeral);
    message.extend_from_slice(&authority.0);
    let key = Zeroizing::new(chain::hmac(&extracted, &message));
    Some(XSalsa20Poly1305::new(Key::from_slice(&*key)))
}

/// A ticket that this authority could open. What it asks for is not yet cleared, so nothing can
/// be discharged with it.
pub struct OpenTicket {
    ticket: Box<[u8]>,
    authority: AuthorityId,
    key: CaveatKey,
    caveats: Vec<Box<str>>,
}

impl OpenTicket {
    fn read(ticket: &Ticket<'_>, plain: &[u8]) -> Result<Self, TicketError> {
        let malformed = |what| TicketError::Malformed(Malformed::Shape(what));
        let mut reader = Reader::new(plain);
        let cut = |_| malformed("its sealed part is cut off");
        let key = CaveatKey::from_bytes(reader.array().map_err(cut)?);
        let mut caveats = Vec::new();
        while !reader.is_empty() {
            if caveats.len() >= limits::TICKET_CAVEATS {
                return Err(TicketError::Malformed(Malformed::TooLarge("the number of caveats in a ticket")));
            }
            let line = reader.bytes16().map_err(cut)?;
            let line = core::str::from_utf8(line).map_err(|_| malformed("a caveat in it is not UTF-8"))?;
            caveats.push(line.into());
        }
        Ok(Self { ticket: ticket.bytes.into(), authority: ticket.authority, key, caveats })
    }

    pub(crate) fn into_parts(self) -> (Box<[u8]>, AuthorityId, CaveatKey) {
        (self.ticket, self.authority, self.key)
    }

    /// Whom it is for: this authority.
    #[must_use]
    pub const fn authority(&self) -> AuthorityId {
        self.authority
    }

    /// The ticket's bytes: what the discharge will be the discharge of.
    #[must_use]
    pub fn ticket(&self) -> &[u8] {
        &self.ticket
    }

    /// What the maker of the caveat asks this authority to check, for showing it to a person.
    /// Clearing is what decides.
    pub fn describe(&self) -> impl Iterator<Item = &str> {
        self.caveats.iter().map(|line| &**line)
    }
}

impl fmt::Debug for OpenTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenTicket({}, {} caveats)", self.authority, self.caveats.len())
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString as _;

    use super::*;

    fn id() -> AuthorityId {
        AuthorityId::from_bytes([0xa7; 16])
    }

    fn keys() -> AuthorityKeys {
        AuthorityKeys::new(id())
            .with_shared(SharedKey::from_bytes([1; 32]))
            .with_shared(SharedKey::from_bytes([2; 32]))
            .with_secret(AuthoritySecret::from_bytes([3; 32]))
    }

    fn shared(caveats: &[&str]) -> Vec<u8> {
        let to = SealTo::Shared { key: &SharedKey::from_bytes([2; 32]), nonce: &[4; 24] };
        seal_ticket(id(), &to, &CaveatKey::from_bytes([5; 32]), caveats).unwrap()
    }

    fn public(caveats: &[&str]) -> Vec<u8> {
        let public = AuthoritySecret::from_bytes([3; 32]).public();
        let to = SealTo::Public { key: &public, ephemeral: &[6; 32] };
        seal_ticket(id(), &to, &CaveatKey::from_bytes([5; 32]), caveats).unwrap()
    }

    /// TP-10.
    #[test]
    fn both_forms_open_with_the_authoritys_keys() {
        for ticket in [
            shared(&["user = ann", "time < 2027-01-01T00:00:00Z"]),
            public(&["user = ann", "time < 2027-01-01T00:00:00Z"]),
        ] {
            let parsed = Ticket::parse(&ticket).unwrap();
            assert_eq!(parsed.authority(), id());
            assert_eq!(AuthorityId::of_ticket(&ticket), Some(id()));
            let open = parsed.open(&keys()).unwrap();
            assert_eq!(open.describe().collect::<Vec<_>>(), ["user = ann", "time < 2027-01-01T00:00:00Z"]);
            assert_eq!(open.key.expose(), &[5; 32]);
            assert_eq!(open.ticket(), ticket);
        }
    }

    #[test]
    fn no_bit_may_change() {
        for ticket in [shared(&["a = 1"]), public(&["a = 1"])] {
            for bit in 0..ticket.len() * 8 {
                let mut bad = ticket.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let opened = Ticket::parse(&bad).map(|ticket| ticket.open(&keys()).is_ok());
                assert!(opened != Ok(true), "{bit}");
            }
            for len in 0..ticket.len() {
                let opened = Ticket::parse(&ticket[..len]).map(|ticket| ticket.open(&keys()).is_ok());
                assert!(opened != Ok(true), "{len}");
            }
        }
    }

    /// TP-11.
    #[test]
    fn a_ticket_cannot_be_relabelled() {
        let mut ticket = shared(&[]);
        ticket[2..18].copy_from_slice(&[0xb8; 16]);
        let other = AuthorityKeys::new(AuthorityId::from_bytes([0xb8; 16]))
            .with_shared(SharedKey::from_bytes([2; 32]));
        let parsed = Ticket::parse(&ticket).unwrap();
        assert_eq!(parsed.open(&keys()).unwrap_err(), TicketError::OtherAuthority);
        assert_eq!(parsed.open(&other).unwrap_err(), TicketError::NotAuthentic);
    }

    #[test]
    fn a_missing_key_is_said() {
        let none = AuthorityKeys::new(id());
        for ticket in [shared(&[]), public(&[])] {
            assert_eq!(Ticket::parse(&ticket).unwrap().open(&none).unwrap_err(), TicketError::NoKey);
        }
        assert!(TicketError::NoKey.to_string().contains("no key"));
    }

    /// TP-12.
    #[test]
    fn a_small_order_point_is_refused_on_both_sides() {
        let zero = AuthorityPublic::from_bytes([0; 32]);
        let to = SealTo::Public { key: &zero, ephemeral: &[6; 32] };
        assert!(seal_ticket(id(), &to, &CaveatKey::from_bytes([5; 32]), &[]).is_err());
        let mut ticket = public(&[]);
        ticket[HEADER..HEADER + 32].fill(0);
        assert_eq!(Ticket::parse(&ticket).unwrap().open(&keys()).unwrap_err(), TicketError::NotAuthentic);
    }

    /// TP-13.
    #[test]
    fn limits_hold_at_the_edge() {
        let most = ["a = 1"; limits::TICKET_CAVEATS];
        assert_eq!(
            Ticket::parse(&shared(&most)).unwrap().open(&keys()).unwrap().describe().count(),
            most.len()
        );
        let to = SealTo::Shared { key: &SharedKey::from_bytes([2; 32]), nonce: &[4; 24] };
        let key = CaveatKey::from_bytes([5; 32]);
        let more = ["a = 1"; limits::TICKET_CAVEATS + 1];
        assert!(seal_ticket(id(), &to, &key, &more).is_err());
        let fits = "x".repeat(limits::IDENTIFIER_BYTES - HEADER - 24 - 16 - 32 - 2);
        assert_eq!(shared(&[&fits]).len(), limits::IDENTIFIER_BYTES);
        assert!(seal_ticket(id(), &to, &key, &[&(fits + "x")]).is_err());
        assert!(seal_ticket(id(), &to, &key, &[&"x".repeat(70_000)]).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let open = Ticket::parse(&shared(&["a = 1"])).unwrap().open(&keys()).unwrap();
        let shown = format!("{open:?} {:?} {:?}", keys().shared, keys().secret);
        assert_eq!(
            shown,
            format!(
                "OpenTicket({}, 1 caveats) [SharedKey(..), SharedKey(..)] Some(AuthoritySecret(..))",
                id()
            )
        );
    }
}
