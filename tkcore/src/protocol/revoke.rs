use super::call::Call;
use super::field::{BadMessage, Field, Fields, Text, Writer, choice, message};
use super::operation::Operation;
use super::secret::SecretBytes;
use super::verify::FeedPosition;
use crate::ids::{BranchId, KeyId, LineageId};
use crate::name::{Subject, Tenant};
use crate::time::Timestamp;

/// The time before which everything minted is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// The signer's now: everything that exists.
    Now,
    /// This time; refused when it lies in the future.
    At(Timestamp),
}

/// How much of a key is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFloor {
    /// Everything under it, for good.
    All,
    /// Everything under it that was minted before a time.
    Before(Floor),
}

choice! {
    /// How much of a presented token is revoked.
    pub enum RevokeScope {
        /// Its whole lineage.
        Lineage = 0,
        /// From its last caveat on; parent and siblings live.
        Branch = 1,
    }
}

/// What a revocation kills.
#[derive(Debug)]
pub enum RevokeTarget {
    /// A lineage and everything attenuated or exchanged from it.
    Token(LineageId),
    /// One attenuated descendant and what follows from it.
    Branch(BranchId),
    /// Under a key.
    Key(KeyId, KeyFloor),
    /// Of one subject of a tenant.
    Subject(Tenant, Subject, Floor),
    /// Of a tenant.
    Tenant(Tenant, Floor),
    /// Everything: the emergency brake.
    Global(Floor),
    /// A token that the caller holds, V2 bytes without discharges.
    Presented(SecretBytes, RevokeScope),
}

impl Field for Floor {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Now => 0u8.write(to),
            Self::At(at) => {
                1u8.write(to);
                at.write(to);
            }
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            0 => Ok(Self::Now),
            1 => Timestamp::read(from).map(Self::At),
            _ => Err(BadMessage("unknown kind of floor")),
        }
    }
}

impl Field for KeyFloor {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::All => 0u8.write(to),
            Self::Before(floor) => {
                1u8.write(to);
                floor.write(to);
            }
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            0 => Ok(Self::All),
            1 => Floor::read(from).map(Self::Before),
            _ => Err(BadMessage("unknown kind of key floor")),
        }
    }
}

impl Field for RevokeTarget {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Token(lineage) => {
                1u8.write(to);
                lineage.write(to);
            }
            Self::Branch(branch) => {
                2u8.write(to);
                branch.write(to);
            }
            Self::Key(key, floor) => {
                3u8.write(to);
                key.write(to);
                floor.write(to);
            }
            Self::Subject(tenant, subject, floor) => {
                4u8.write(to);
                tenant.write(to);
                subject.write(to);
                floor.write(to);
            }
            Self::Tenant(tenant, floor) => {
                5u8.write(to);
                tenant.write(to);
                floor.write(to);
            }
            Self::Global(floor) => {
                6u8.write(to);
                floor.write(to);
            }
            Self::Presented(token, scope) => {
                7u8.write(to);
                token.write(to);
                scope.write(to);
            }
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            1 => LineageId::read(from).map(Self::Token),
            2 => BranchId::read(from).map(Self::Branch),
            3 => Ok(Self::Key(KeyId::read(from)?, KeyFloor::read(from)?)),
            4 => Ok(Self::Subject(Tenant::read(from)?, Subject::read(from)?, Floor::read(from)?)),
            5 => Ok(Self::Tenant(Tenant::read(from)?, Floor::read(from)?)),
            6 => Floor::read(from).map(Self::Global),
            7 => Ok(Self::Presented(SecretBytes::read(from)?, RevokeScope::read(from)?)),
            _ => Err(BadMessage("unknown rule of revocation")),
        }
    }
}

message! {
    /// Kills what the target names, on every service. There is no way back.
    #[derive(Debug)]
    pub struct Revoke {
        /// What to kill.
        pub target: RevokeTarget,
        /// For the audit; may be empty.
        pub reason: Text,
    }
}

impl Call for Revoke {
    const OPERATION: Operation = Operation::Revoke;
    type Answer = RevokeAnswer;
}

message! {
    /// Kills the presented token from its last caveat on. The signature must hold; discharges
    /// are not asked for.
    #[derive(Debug)]
    pub struct RevokePresented {
        /// The token, V2 bytes.
        pub token: SecretBytes,
        /// For the audit; may be empty.
        pub reason: Text,
    }
}

impl Call for RevokePresented {
    const OPERATION: Operation = Operation::RevokePresented;
    type Answer = RevokeAnswer;
}

choice! {
    /// Whether a revocation was new.
    pub enum RevokeEffect {
        /// It was not in force before.
        New = 0,
        /// The same or a stricter one was; this is success.
        Already = 1,
    }
}

message! {
    /// The revocation is durable and binds this signer's answers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RevokeAnswer {
        /// Whether it was new.
        pub effect: RevokeEffect,
        /// The floor now in force for the target, when it is one of time.
        pub before: Option<Timestamp>,
        /// The feed's position when it was committed: every later position carries it.
        pub after: FeedPosition,
    }
}
