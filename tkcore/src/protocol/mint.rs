use alloc::vec::Vec;
use core::time::Duration;

use super::call::Call;
use super::error::{Code, RpcError};
use super::field::{BadMessage, Bytes, Field, Fields, Text, Writer, choice, message};
use super::operation::Operation;
use super::secret::{SecretBytes, SecretKey};
use crate::caveat::may_restrict_nothing;
use crate::facts::KeyClass;
use crate::ids::{KeyId, LineageId};
use crate::name::{Audience, Name, Subject, Tenant};
use crate::time::Timestamp;

/// When a new token expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never. Needs [`Permit::Given`] for it and a role that has it.
    Never,
    /// At this time, cut to whole seconds.
    At(Timestamp),
    /// That many seconds after the signer's now: independent of the caller's clock.
    After(u32),
}

impl Expiry {
    /// The expiry in whole seconds at the signer's `now`: a time asked for is cut, one that is
    /// counted from now is not shortened. `None`: never.
    ///
    /// # Errors
    /// [`Code::BadTime`] when it is not in the future, or past the year 9999.
    pub fn resolve(self, now: Timestamp) -> Result<Option<Timestamp>, RpcError> {
        let at = match self {
            Self::Never => return Ok(None),
            Self::At(at) => Timestamp::from_seconds(at.seconds()),
            Self::After(seconds) => {
                let now = seconds_up(now.saturating_since(Timestamp::EPOCH));
                Timestamp::from_seconds(now.saturating_add(u64::from(seconds)))
            }
        };
        match at {
            Some(at) if at > now => Ok(Some(at)),
            Some(_) => Err(Code::BadTime.detail("the expiry is not in the future")),
            None => Err(Code::BadTime.detail("the expiry lies past the year 9999")),
        }
    }
}

/// A length of time in whole seconds, a part of one counted as one.
fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

impl Field for Expiry {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Never => 0u8.write(to),
            Self::At(at) => {
                1u8.write(to);
                at.write(to);
            }
            Self::After(seconds) => {
                2u8.write(to);
                seconds.write(to);
            }
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            0 => Ok(Self::Never),
            1 => Timestamp::read(from).map(Self::At),
            2 => u32::read(from).map(Self::After),
            _ => Err(BadMessage("unknown kind of expiry")),
        }
    }
}

choice! {
    /// Whether the caller said aloud that it wants something dangerous.
    pub enum Permit {
        /// It did not; the signer refuses.
        Withheld = 0,
        /// It did; its role must allow it as well.
        Given = 1,
    }
}

/// A caveat that the signer puts on a token at mint.
#[derive(Debug)]
pub enum MintCaveat {
    /// A line of the caveat language.
    FirstParty(Bytes),
    /// Somebody else must agree.
    ThirdParty {
        /// Where discharges come from; signed by nothing.
        location: Text,
        /// What the third party gets to see: the caveat's identifier, a ticket.
        ticket: Bytes,
        /// The key of the discharge's chain, which the ticket carries sealed; the signer seals
        /// it once more for itself and keeps no copy.
        key: SecretKey,
    },
}

impl Field for MintCaveat {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::FirstParty(caveat) => {
                0u8.write(to);
                caveat.write(to);
            }
            Self::ThirdParty { location, ticket, key } => {
                1u8.write(to);
                location.write(to);
                ticket.write(to);
                key.write(to);
            }
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            0 => Bytes::read(from).map(Self::FirstParty),
            1 => Ok(Self::ThirdParty {
                location: Text::read(from)?,
                ticket: Bytes::read(from)?,
                key: SecretKey::read(from)?,
            }),
            _ => Err(BadMessage("unknown kind of caveat")),
        }
    }
}

message! {
    /// A new token.
    #[derive(Debug)]
    pub struct Mint {
        /// Whose power it is.
        pub tenant: Tenant,
        /// Under a key of one audience, or under the tenant's general key.
        pub audience: Option<Audience>,
        /// Under an ordinary key or under one that services of the audience hold.
        pub class: KeyClass,
        /// On whose behalf; revocable by it.
        pub subject: Option<Subject>,
        /// For people, in the registry; not in the token.
        pub label: Option<Name>,
        /// When it ends.
        pub expiry: Expiry,
        /// The caveats it starts with.
        pub caveats: Vec<MintCaveat>,
        /// Whether no caveat but of `time` is meant.
        pub unrestricted: Permit,
        /// Whether [`Expiry::Never`] is meant.
        pub never_expires: Permit,
    }
}

impl Mint {
    /// Whether it is power over its whole tenant, at some service at least: no caveat but of `time`, or
    /// with `?` and without `else` (PR-83).
    #[must_use]
    pub fn is_tenant_wide(&self) -> bool {
        may_restrict_nothing(self.caveats.iter().map(|caveat| match caveat {
            MintCaveat::FirstParty(text) => Some(&text.0[..]),
            MintCaveat::ThirdParty { .. } => None,
        }))
    }
}

impl Call for Mint {
    const OPERATION: Operation = Operation::Mint;
    type Answer = MintAnswer;
}

message! {
    /// The token that was minted. Repeating the request id gives the same bytes.
    #[derive(Debug)]
    pub struct MintAnswer {
        /// The token, V2 bytes.
        pub token: SecretBytes,
        /// Its lineage: safe to log, and what a revocation names.
        pub lineage: LineageId,
        /// The key it is under.
        pub key: KeyId,
        /// When it ends; `None`: never.
        pub expiry: Option<Timestamp>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    /// PR-81.
    #[test]
    fn an_expiry_is_whole_seconds_and_in_the_future() {
        let now = at(10_500);
        let code = |asked: Expiry| asked.resolve(now).map_err(|error| error.code);
        assert_eq!(code(Expiry::Never), Ok(None));
        assert_eq!(code(Expiry::At(at(11_999))), Ok(Some(at(11_000))));
        assert_eq!(code(Expiry::At(at(10_999))), Err(Code::BadTime));
        assert_eq!(code(Expiry::At(at(10_500))), Err(Code::BadTime));
        assert_eq!(code(Expiry::After(1)), Ok(Some(at(12_000))));
        assert_eq!(code(Expiry::After(0)), Ok(Some(at(11_000))));
    }
}
