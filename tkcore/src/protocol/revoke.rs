use super::FeedPosition;
use alloc::vec::Vec;

use super::call::Call;
use super::error::{Code, RpcError};
use super::field::{BadMessage, Bytes, Field, Fields, Text, Writer, choice, message};
use super::operation::Operation;
use super::registry::TokenInfo;
use super::secret::SecretBytes;
use crate::ids::{BranchId, KeyId, LineageId};
use crate::name::{Subject, Tenant};
use crate::revocation::{ExpiryDay, Revocation, Rule};
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

impl Floor {
    /// The time of the floor, of which "now" is `now`: the signer's clock, or what lies above every
    /// mint time there is, so that it kills everything that exists.
    ///
    /// # Errors
    /// [`Code::BadTime`] for a time in the future, and for 1970, which kills nothing.
    pub fn time(self, now: Timestamp) -> Result<Timestamp, RpcError> {
        match self {
            Self::Now => Ok(now),
            Self::At(at) if at > now => Err(Code::BadTime.detail("a floor may not lie in the future")),
            Self::At(at) if at == Timestamp::EPOCH => {
                Err(Code::BadTime.detail("a floor of 1970 kills nothing"))
            }
            Self::At(at) => Ok(at),
        }
    }
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

message! {
    /// Asks what a revocation would hit, and changes nothing.
    #[derive(Debug)]
    pub struct RevokePreview {
        /// What would be killed.
        pub target: RevokeTarget,
    }
}

impl Call for RevokePreview {
    const OPERATION: Operation = Operation::RevokePreview;
    type Answer = RevokePreviewAnswer;
}

choice! {
    /// Whether the numbers of a preview are all there are.
    pub enum Counted {
        /// Every registered token in reach of the rule was looked at.
        All = 0,
        /// Only so many that the signer is not kept from other work: each number is a lower bound.
        AtLeast = 1,
    }
}

message! {
    /// What a revocation would hit at this moment. Numbers are of tokens in the signer's registry:
    /// what holders attenuated by themselves is not in it, and dies with what it was made from.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RevokePreviewAnswer {
        /// The rule of the row that would be published.
        pub rule: Rule,
        /// The id in that row: a lineage, a branch, a key id, the keyed hash of a subject or a
        /// tenant; empty for everything.
        pub id: Bytes,
        /// Whether it would be new.
        pub effect: RevokeEffect,
        /// The floor it would set, when it is one of time.
        pub before: Option<Timestamp>,
        /// The floor that is in force for the same target now. A revocation below it changes
        /// nothing.
        pub standing: Option<Timestamp>,
        /// The expiry day that the row would be kept for (RV-6), as the time that day begins;
        /// without one it is kept for good.
        pub kept: Option<Timestamp>,
        /// Whether the numbers below are whole.
        pub counted: Counted,
        /// Live tokens that would die.
        pub hit: u64,
        /// Of these, those with a label.
        pub labelled: u64,
        /// Of these, service tokens.
        pub service: u64,
        /// Tokens that it names and that are dead already, by whatever rule.
        pub already: u64,
        /// Tokens of the same key, subject, tenant or signer that its floor lets live.
        pub spared: u64,
    }
}

impl RevokePreviewAnswer {
    /// Of a row and the day it would be kept for, before any token is counted.
    #[must_use]
    pub fn of(revocation: &Revocation, day: ExpiryDay, effect: RevokeEffect, counted: Counted) -> Self {
        Self {
            rule: revocation.rule(),
            id: Bytes(revocation.named().map_or_else(Vec::new, |(_, id)| id.to_vec())),
            effect,
            before: revocation.before(),
            standing: None,
            kept: day.begins(),
            counted,
            hit: 0,
            labelled: 0,
            service: 0,
            already: 0,
            spared: 0,
        }
    }

    /// Adds one registered token to the numbers: what this revocation alone does to it, and
    /// what those in force do.
    pub fn count(&mut self, token: &TokenInfo, alone: Option<Rule>, in_force: Option<Rule>) {
        let add = |number: &mut u64, one: bool| *number = number.saturating_add(u64::from(one));
        let hit = alone.is_some() && in_force.is_none();
        add(&mut self.spared, alone.is_none());
        add(&mut self.already, alone.is_some() && in_force.is_some());
        add(&mut self.hit, hit);
        add(&mut self.labelled, hit && token.label.is_some());
        add(&mut self.service, hit && token.parent.is_some());
    }
}
