//! Identifiers that are safe to log and to publish: none of them helps to make a token.

use core::fmt;

use crate::time::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps the bytes as they stand on the wire.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes as they stand on the wire.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads the lower-case hexadecimal form that `Display` writes.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0u8; $len];
                hex_decode(text.as_bytes(), &mut bytes)?;
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                write_hex(f, &self.0)?;
                f.write_str(")")
            }
        }
    };
}

id! {
    /// A lineage: a token and everything attenuated from it.
    ///
    /// 80 random bits, then 48 bits of Unix milliseconds: when the token was minted. Random
    /// first, because the revoked set is indexed and sharded by the top bits.
    LineageId, 16
}
id! {
    /// A branch: one point of a token's chain and what follows from it. The first 16 bytes of
    /// `SHA-256("tk-branch-v1" ‖ tail)`; one-way, so it can be published where a tail cannot.
    BranchId, 16
}
id! {
    /// Names one key record of the signer: (tenant, audience or none, delegable or not,
    /// generation).
    KeyId, 8
}
id! {
    /// The 16 bytes under which a tenant or a subject is revoked: a keyed hash, so that the
    /// published feed names nobody.
    Row, 16
}
id! {
    /// Names a third party that discharges caveats: a login service, another team. Chosen at
    /// random by whoever runs it, for life.
    AuthorityId, 16
}
id! {
    /// Names one feed: one signer, or one cluster of signers, for life.
    FeedId, 16
}

id! {
    /// SHA-256 of something in the feed, each kind under a tag of its own (RV-10).
    FeedDigest, 32
}
id! {
    /// Names one Ed25519 key of the feed: the first 8 bytes of a tagged hash of it (RV-11).
    FeedKeyId, 8
}

impl AuthorityId {
    /// The authority that a ticket names: bytes 2 to 17 of a version 1 ticket. `None` for any
    /// other bytes, such as the caveat id of another maker's macaroon.
    #[must_use]
    pub fn of_ticket(ticket: &[u8]) -> Option<Self> {
        match ticket.split_first_chunk::<18>()? {
            ([1, 1 | 2, id @ ..], [_, ..]) => Some(Self(*id)),
            _ => None,
        }
    }
}

impl LineageId {
    /// Composes an id from 80 random bits and the mint time, which is cut to whole
    /// milliseconds that fit 48 bits (any [`Timestamp`] does).
    #[must_use]
    pub fn new(random: [u8; 10], minted: Timestamp) -> Self {
        let mut bytes = [0u8; 16];
        let millis = minted.millis().to_be_bytes();
        let tail = millis.iter().skip(2);
        for (to, from) in bytes.iter_mut().zip(random.iter().chain(tail)) {
            *to = *from;
        }
        Self(bytes)
    }

    /// When the token was minted, as the id itself says. `None` when the 48 bits lie past the
    /// year 9999: no signer of ours writes such an id.
    #[must_use]
    pub fn minted(&self) -> Option<Timestamp> {
        let last = self.0.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Timestamp::from_millis(last & 0xffff_ffff_ffff)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn hex_decode(text: &[u8], to: &mut [u8]) -> Option<()> {
    if text.len() != to.len().checked_mul(2)? {
        return None;
    }
    for (byte, pair) in to.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_lineage_carries_its_mint_time() {
        let minted = Timestamp::from_millis(1_790_000_000_123).unwrap();
        let id = LineageId::new([7; 10], minted);
        assert_eq!(id.minted(), Some(minted));
        assert_eq!(id.as_bytes()[..10], [7; 10]);
    }

    #[test]
    fn a_mint_time_past_the_calendar_is_none() {
        assert_eq!(LineageId::from_bytes([0xff; 16]).minted(), None);
    }

    #[test]
    fn hexadecimal_reads_back_and_only_lower_case_does() {
        let id = KeyId::from_bytes([0, 1, 0xab, 3, 4, 5, 6, 0xff]);
        assert_eq!(id.to_string(), "0001ab03040506ff");
        assert_eq!(KeyId::from_hex("0001ab03040506ff"), Some(id));
        for wrong in ["", "0001ab03040506f", "0001ab03040506FF", "0001ab03040506fg", "0001ab03040506ff00"] {
            assert_eq!(KeyId::from_hex(wrong), None, "{wrong}");
        }
    }
}
