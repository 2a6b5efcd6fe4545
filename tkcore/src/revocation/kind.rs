use crate::ids::{BranchId, KeyId, LineageId, Row};
use crate::revocation::rule::Revocation;
use crate::time::Timestamp;

/// What a section's rows name. The numbers are on the wire (RV-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Token,
    Branch,
    Key,
    Subject,
    Tenant,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Token, Self::Branch, Self::Key, Self::Subject, Self::Tenant];

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Token => 1,
            Self::Branch => 2,
            Self::Key => 3,
            Self::Subject => 4,
            Self::Tenant => 5,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Token),
            2 => Some(Self::Branch),
            3 => Some(Self::Key),
            4 => Some(Self::Subject),
            5 => Some(Self::Tenant),
            _ => None,
        }
    }

    /// Bytes of an id of this kind.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Key => KeyId::LEN,
            Self::Token | Self::Branch | Self::Subject | Self::Tenant => Row::LEN,
        }
    }

    /// Whether a row carries a time.
    pub(crate) const fn is_floor(self) -> bool {
        match self {
            Self::Token | Self::Branch => false,
            Self::Key | Self::Subject | Self::Tenant => true,
        }
    }

    /// Whether `value` may stand in a row of this kind.
    pub(crate) const fn admits(self, value: u64) -> bool {
        let is_time = value != 0 && value <= Timestamp::MAX.millis();
        match self {
            Self::Token | Self::Branch => value == EVERYTHING,
            Self::Key => is_time || value == EVERYTHING,
            Self::Subject | Self::Tenant => is_time,
        }
    }
}

/// The value of a row that kills whatever it names, whenever it was issued.
pub(crate) const EVERYTHING: u64 = u64::MAX;

/// One row: an id, left-aligned so that its top bits are the number's top bits, and the floor
/// in milliseconds ([`EVERYTHING`] where the kind has none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) id: u128,
    pub(crate) value: u64,
}

pub(crate) const fn wide(id: [u8; 16]) -> u128 {
    u128::from_be_bytes(id)
}

pub(crate) fn key_id(key: KeyId) -> u128 {
    u128::from(u64::from_be_bytes(*key.as_bytes())) << 64
}

/// Where a revocation is kept.
pub(crate) enum Place {
    Floor(u64),
    Row(Kind, Item),
}

impl Place {
    pub(crate) fn of(revocation: &Revocation) -> Self {
        let row = |kind, id, value| Self::Row(kind, Item { id, value });
        match revocation {
            Revocation::Token { lineage } => row(Kind::Token, wide(*lineage.as_bytes()), EVERYTHING),
            Revocation::Branch { branch } => row(Kind::Branch, wide(*branch.as_bytes()), EVERYTHING),
            Revocation::Key { key, before } => {
                row(Kind::Key, key_id(*key), before.map_or(EVERYTHING, Timestamp::millis))
            }
            Revocation::Subject { row: id, before } => {
                row(Kind::Subject, wide(*id.as_bytes()), before.millis())
            }
            Revocation::Tenant { row: id, before } => {
                row(Kind::Tenant, wide(*id.as_bytes()), before.millis())
            }
            Revocation::Global { before } => Self::Floor(before.millis()),
        }
    }
}

/// The revocation that a row stands for; `None` when the value is no time.
pub(crate) fn revocation(kind: Kind, item: Item) -> Option<Revocation> {
    let id = item.id.to_be_bytes();
    let before = Timestamp::from_millis(item.value);
    match kind {
        Kind::Token => Some(Revocation::Token { lineage: LineageId::from_bytes(id) }),
        Kind::Branch => Some(Revocation::Branch { branch: BranchId::from_bytes(id) }),
        Kind::Key => {
            let key = KeyId::from_bytes(*id.first_chunk::<8>()?);
            match (item.value, before) {
                (EVERYTHING, _) => Some(Revocation::Key { key, before: None }),
                (_, Some(_)) => Some(Revocation::Key { key, before }),
                (_, None) => None,
            }
        }
        Kind::Subject => Some(Revocation::Subject { row: Row::from_bytes(id), before: before? }),
        Kind::Tenant => Some(Revocation::Tenant { row: Row::from_bytes(id), before: before? }),
    }
}
