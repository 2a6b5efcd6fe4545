use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use super::call::Call;
use super::error::{Code, RpcError};
use super::field::{BadMessage, Bytes, Done, Field, Fields, Writer, choice, message};
use super::mint::{Mint, MintCaveat, Permit};
use super::operation::Operation;
use super::page::{Cursor, Page};
use crate::name::{Audience, Name, Tenant};
use crate::time::Timestamp;

/// The static public key (X25519) that names a client. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey([u8; 32]);

impl ClientKey {
    /// Wraps the bytes as they stand on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({self})")
    }
}

impl Field for ClientKey {
    fn write(&self, to: &mut Writer) {
        to.put(&self.0);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        from.array().map(Self)
    }
}

message! {
    /// What a client of role `mint` is narrowed to.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Narrowing {
        /// Only these tenants; `None`: any. An empty list allows none.
        pub tenants: Option<Vec<Tenant>>,
        /// Longest life of a token, in whole seconds from its mint time, a part of one cut;
        /// `None`: any.
        pub max_lifetime: Option<u64>,
        /// First-party caveats that every token must carry, each byte for byte.
        pub required_caveats: Vec<Bytes>,
    }
}

impl Narrowing {
    /// Whether a mint stays within the bounds. `lifetime` is what the signer made of the expiry
    /// that was asked for, in seconds; `None` for a token that never expires.
    ///
    /// # Errors
    /// Says which bound it breaks.
    pub fn admits(&self, mint: &Mint, lifetime: Option<u64>) -> Result<(), &'static str> {
        if self.tenants.as_ref().is_some_and(|tenants| !tenants.contains(&mint.tenant)) {
            return Err("another tenant");
        }
        if self.max_lifetime.is_some_and(|most| lifetime.is_none_or(|lifetime| lifetime > most)) {
            return Err("a longer life");
        }
        let carries = |required: &Bytes| {
            mint.caveats.iter().any(|caveat| match caveat {
                MintCaveat::FirstParty(text) => text == required,
                MintCaveat::ThirdParty { .. } => false,
            })
        };
        if !self.required_caveats.iter().all(carries) {
            return Err("a required caveat is missing");
        }
        Ok(())
    }
}

message! {
    /// What a client of role `mint` may do.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MintPower {
        /// Narrower than everything.
        pub narrowing: Narrowing,
        /// Whether it may mint tokens without a caveat but of `time`.
        pub unrestricted: Permit,
        /// Whether it may mint tokens that never expire.
        pub never_expires: Permit,
    }
}

impl MintPower {
    /// Whether it covers a mint. What is dangerous needs the word of the request and the power of the
    /// role, both. `lifetime` as for [`Narrowing::admits`].
    ///
    /// # Errors
    /// [`Code::OutsideRole`] names the bound or the power, [`Code::NeedsPermission`] the word.
    pub fn admits(&self, mint: &Mint, lifetime: Option<u64>) -> Result<(), RpcError> {
        self.narrowing.admits(mint, lifetime).map_err(|bound| Code::OutsideRole.detail(bound))?;
        if mint.is_tenant_wide() {
            both(
                mint.unrestricted,
                self.unrestricted,
                "a token that no caveat but of time or with ? restricts",
            )?;
        }
        if lifetime.is_none() {
            both(mint.never_expires, self.never_expires, "a token that never expires")?;
        }
        Ok(())
    }
}

fn both(asked: Permit, power: Permit, what: &str) -> Result<(), RpcError> {
    match (asked, power) {
        (Permit::Given, Permit::Given) => Ok(()),
        (Permit::Withheld, _) => {
            Err(Code::NeedsPermission.detail(&format!("{what} must be asked for explicitly")))
        }
        (Permit::Given, Permit::Withheld) => {
            Err(Code::OutsideRole.detail(&format!("this client may not mint {what}")))
        }
    }
}

/// The one power of a client key. Disjoint: no role includes another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Ask whether tokens hold, for one audience or for general keys only.
    Verify(Option<Audience>),
    /// Make tokens.
    Mint(MintPower),
    /// Revoke by any rule.
    Revoke,
    /// Have a presented token killed from its last caveat on.
    RevokePresented,
    /// Exchange tokens for service tokens.
    Exchange,
    /// Fetch the delegated keys of one audience.
    Keys(Audience),
    /// Everything an operator's command line does.
    Operator,
}

impl Role {
    /// Its name, as on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Verify(_) => "verify",
            Self::Mint(_) => "mint",
            Self::Revoke => "revoke",
            Self::RevokePresented => "revoke-presented",
            Self::Exchange => "exchange",
            Self::Keys(_) => "keys",
            Self::Operator => "operator",
        }
    }

    /// Whether it has this operation; each belongs to one role.
    #[must_use]
    pub const fn covers(&self, operation: Operation) -> bool {
        match operation {
            Operation::Verify => matches!(self, Self::Verify(_)),
            Operation::Mint => matches!(self, Self::Mint(_)),
            Operation::Revoke | Operation::RevokePreview => matches!(self, Self::Revoke),
            Operation::RevokePresented => matches!(self, Self::RevokePresented),
            Operation::Exchange => matches!(self, Self::Exchange),
            Operation::FetchKeys => matches!(self, Self::Keys(_)),
            Operation::Status
            | Operation::KeyCreate
            | Operation::KeyList
            | Operation::KeyRotate
            | Operation::KeyRetire
            | Operation::StaticRotate
            | Operation::StaticRetire
            | Operation::PublicationPrepare
            | Operation::PublicationRotate
            | Operation::ClientAdd
            | Operation::ClientList
            | Operation::ClientRemove
            | Operation::ClientConfirm
            | Operation::TokenList
            | Operation::TokenShow
            | Operation::AuditTail
            | Operation::AuditPrune
            | Operation::Rewrap => matches!(self, Self::Operator),
        }
    }
}

impl Field for Role {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Verify(audience) => {
                1u8.write(to);
                audience.write(to);
            }
            Self::Mint(power) => {
                2u8.write(to);
                power.write(to);
            }
            Self::Revoke => 3u8.write(to),
            Self::RevokePresented => 4u8.write(to),
            Self::Exchange => 5u8.write(to),
            Self::Keys(audience) => {
                6u8.write(to);
                audience.write(to);
            }
            Self::Operator => 7u8.write(to),
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            1 => Option::read(from).map(Self::Verify),
            2 => MintPower::read(from).map(Self::Mint),
            3 => Ok(Self::Revoke),
            4 => Ok(Self::RevokePresented),
            5 => Ok(Self::Exchange),
            6 => Audience::read(from).map(Self::Keys),
            7 => Ok(Self::Operator),
            _ => Err(BadMessage("unknown role")),
        }
    }
}

message! {
    /// Allows a client key one role.
    #[derive(Debug)]
    pub struct ClientAdd {
        /// The client's public key.
        pub key: ClientKey,
        /// For people.
        pub name: Name,
        /// Its one power.
        pub role: Role,
        /// From when on it counts no more; `None`: until it is removed.
        pub expiry: Option<Timestamp>,
    }
}

impl Call for ClientAdd {
    const OPERATION: Operation = Operation::ClientAdd;
    type Answer = ClientInfo;
}

choice! {
    /// Whether a client key counts.
    pub enum ClientState {
        /// It does.
        Active = 0,
        /// Not until the operator confirms it (after a restore).
        Suspended = 1,
        /// Past its expiry.
        Expired = 2,
    }
}

message! {
    /// A client key and its role.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ClientInfo {
        /// The client's public key.
        pub key: ClientKey,
        /// For people.
        pub name: Name,
        /// Its one power.
        pub role: Role,
        /// Whether it counts.
        pub state: ClientState,
        /// When it was added.
        pub added: Timestamp,
        /// From when on it counts no more.
        pub expiry: Option<Timestamp>,
    }
}

impl ClientInfo {
    /// Its state at a time: what is stored, and its expiry.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> ClientState {
        match self.expiry {
            Some(expiry) if now >= expiry => ClientState::Expired,
            Some(_) | None => self.state,
        }
    }
}

message! {
    /// The client keys, a page of them.
    #[derive(Debug)]
    pub struct ClientList {
        /// Where to go on.
        pub from: Cursor,
    }
}

impl Call for ClientList {
    const OPERATION: Operation = Operation::ClientList;
    type Answer = Page<ClientInfo>;
}

message! {
    /// Removes a client key; its live sessions end with their next request.
    #[derive(Debug)]
    pub struct ClientRemove {
        /// The client's public key.
        pub key: ClientKey,
    }
}

impl Call for ClientRemove {
    const OPERATION: Operation = Operation::ClientRemove;
    type Answer = Done;
}

message! {
    /// Ends a client's suspension.
    #[derive(Debug)]
    pub struct ClientConfirm {
        /// The client's public key.
        pub key: ClientKey,
    }
}

impl Call for ClientConfirm {
    const OPERATION: Operation = Operation::ClientConfirm;
    type Answer = ClientInfo;
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::facts::KeyClass;
    use crate::protocol::Expiry;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_dangerous_token_needs_the_word_and_the_power() {
        let (given, withheld) = (Permit::Given, Permit::Withheld);
        let table = [
            (given, given, Ok(())),
            (withheld, given, Err(Code::NeedsPermission)),
            (given, withheld, Err(Code::OutsideRole)),
            (withheld, withheld, Err(Code::NeedsPermission)),
        ];
        for (word, role, expected) in table {
            let mint = |caveats: &[&[u8]], never_expires, unrestricted| Mint {
                tenant: name("acme"),
                audience: None,
                class: KeyClass::Ordinary,
                subject: None,
                label: None,
                expiry: Expiry::Never,
                caveats: caveats.iter().map(|text| MintCaveat::FirstParty(Bytes(text.to_vec()))).collect(),
                unrestricted,
                never_expires,
            };
            let power = |unrestricted, never_expires| MintPower {
                narrowing: Narrowing::default(),
                unrestricted,
                never_expires,
            };
            let admits = |power: MintPower, mint, life| power.admits(&mint, life).map_err(|error| error.code);
            let time = &b"time < 2030-01-01T00:00:00Z"[..];
            let (optional, otherwise) = (&b"host? = w7"[..], &b"host? = w7 else read"[..]);
            for wide in [&[][..], &[time], &[time, time], &[optional], &[time, optional]] {
                assert_eq!(admits(power(role, withheld), mint(wide, withheld, word), Some(60)), expected);
            }
            for narrow in [otherwise, b"host = w7", b"unreadable"] {
                let mint = mint(&[time, narrow, optional], withheld, withheld);
                assert_eq!(admits(power(withheld, withheld), mint, Some(60)), Ok(()));
            }
            let narrow = || mint(&[time, b"action = read"], word, withheld);
            assert_eq!(admits(power(withheld, role), narrow(), None), expected);
            assert_eq!(admits(power(withheld, role), narrow(), Some(60)), Ok(()), "neither is needed");
        }
    }

    #[test]
    fn a_mint_is_narrowed_by_tenant_life_and_caveats() {
        let narrowing = Narrowing {
            tenants: Some(vec![name("acme")]),
            max_lifetime: Some(60),
            required_caveats: vec![Bytes(b"action = read".to_vec())],
        };
        let mint = |tenant, caveats: &[&[u8]]| Mint {
            tenant: name(tenant),
            audience: None,
            class: KeyClass::Ordinary,
            subject: None,
            label: None,
            expiry: Expiry::Never,
            caveats: caveats.iter().map(|text| MintCaveat::FirstParty(Bytes(text.to_vec()))).collect(),
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
        };
        let read: &[&[u8]] = &[b"action = read"];
        assert_eq!(narrowing.admits(&mint("acme", read), Some(60)), Ok(()));
        assert!(narrowing.admits(&mint("acme", read), Some(61)).is_err());
        assert!(narrowing.admits(&mint("acme", read), None).is_err());
        assert!(narrowing.admits(&mint("other", read), Some(60)).is_err());
        assert!(narrowing.admits(&mint("acme", &[b"action = read,write"]), Some(60)).is_err());
        let nobody = Narrowing { tenants: Some(vec![]), ..Narrowing::default() };
        assert!(nobody.admits(&mint("acme", &[]), Some(1)).is_err());
        assert_eq!(Narrowing::default().admits(&mint("any", &[]), None), Ok(()));
    }
}
