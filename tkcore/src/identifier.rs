use alloc::vec::Vec;

use crate::codec::Reader;
use crate::error::Malformed;
use crate::ids::{KeyId, LineageId};
use crate::name;
use crate::time::Timestamp;

const VERSION: u8 = 1;
const SERVICE: u8 = 1;

/// The identifier of a token that our signer minted, as it stands in the token: who it is for
/// is read from here alone, never from a caveat a holder could have appended.
///
/// Layout in bytes, big-endian (docs/spec/token.md, TK-10 and following): version 1, flags 1,
/// caveats at mint 1, key id 8, lineage id 16, expiry 5, parent 16 (service tokens only),
/// subject 0–64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier<'a> {
    /// The first that many caveats are the signer's own.
    pub caveats_at_mint: u8,
    /// The key record the chain starts from.
    pub key: KeyId,
    /// This token and everything attenuated from it; carries the mint time.
    pub lineage: LineageId,
    /// The token is refused when `now ≥ expiry`; whole seconds. `None`: never.
    pub expiry: Option<Timestamp>,
    /// Set on a token that was made by exchange from another.
    pub service: Option<ServiceToken>,
    /// 1–64 bytes of UTF-8 without control characters, or none.
    pub subject: Option<&'a str>,
}

/// What marks a service token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceToken {
    /// The lineage that was exchanged. Revoking it, or a floor above its mint time, kills this
    /// token as well.
    pub parent: LineageId,
}

/// Largest expiry the 5-byte field can hold is past the year 9999; [`Timestamp`] bounds it.
const EXPIRY_BYTES: usize = 5;

impl<'a> Identifier<'a> {
    /// Length of the longest identifier: 32 bytes of fixed fields, a parent, a subject.
    pub const MAX_BYTES: usize = 32 + LineageId::LEN + crate::limits::NAME_BYTES;

    /// Reads an identifier and consumes every byte.
    ///
    /// # Errors
    /// [`Malformed::Identifier`] names the field that is wrong. An unknown version or flag is
    /// refused: it may carry a restriction this version does not know.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let wrong = |what| move |_| Malformed::Identifier(what);
        let mut reader = Reader::new(bytes);
        if reader.u8().map_err(wrong("it is empty"))? != VERSION {
            return Err(Malformed::Identifier("unknown version"));
        }
        let flags = reader.u8().map_err(wrong("flags cut off"))?;
        if flags & !SERVICE != 0 {
            return Err(Malformed::Identifier("unknown flag"));
        }
        let caveats_at_mint = reader.u8().map_err(wrong("caveat count cut off"))?;
        let key = KeyId::from_bytes(reader.array().map_err(wrong("key id cut off"))?);
        let lineage = LineageId::from_bytes(reader.array().map_err(wrong("lineage id cut off"))?);
        lineage.minted().ok_or(Malformed::Identifier("mint time past the year 9999"))?;
        let [a, b, c, d, e] = reader.array::<EXPIRY_BYTES>().map_err(wrong("expiry cut off"))?;
        let expiry = match u64::from_be_bytes([0, 0, 0, a, b, c, d, e]) {
            0 => None,
            seconds => Some(
                Timestamp::from_seconds(seconds).ok_or(Malformed::Identifier("expiry past the year 9999"))?,
            ),
        };
        let service = if flags & SERVICE == 0 {
            None
        } else {
            let parent = LineageId::from_bytes(reader.array().map_err(wrong("parent cut off"))?);
            parent.minted().ok_or(Malformed::Identifier("parent's mint time past the year 9999"))?;
            Some(ServiceToken { parent })
        };
        let subject = match reader.rest() {
            [] => None,
            text => Some(name::check(text).map_err(|_| Malformed::Identifier("subject"))?),
        };
        Ok(Self { caveats_at_mint, key, lineage, expiry, service, subject })
    }

    /// Appends the identifier's bytes.
    ///
    /// # Errors
    /// [`Malformed::Identifier`] when a field breaks a rule that [`Identifier::parse`] would
    /// refuse: an expiry that is zero or not whole seconds, a subject that is no name.
    pub fn write(&self, to: &mut Vec<u8>) -> Result<(), Malformed> {
        let seconds = match self.expiry {
            None => 0,
            Some(at) if at.seconds() == 0 => return Err(Malformed::Identifier("expiry of zero")),
            Some(at) if at.millis() % 1000 != 0 => {
                return Err(Malformed::Identifier("expiry not whole seconds"));
            }
            Some(at) => at.seconds(),
        };
        if let Some(subject) = self.subject {
            name::check(subject.as_bytes()).map_err(|_| Malformed::Identifier("subject"))?;
        }
        self.lineage.minted().ok_or(Malformed::Identifier("mint time past the year 9999"))?;
        to.extend_from_slice(&[
            VERSION,
            if self.service.is_some() { SERVICE } else { 0 },
            self.caveats_at_mint,
        ]);
        to.extend_from_slice(self.key.as_bytes());
        to.extend_from_slice(self.lineage.as_bytes());
        to.extend(seconds.to_be_bytes().iter().skip(8 - EXPIRY_BYTES));
        if let Some(ServiceToken { parent }) = self.service {
            to.extend_from_slice(parent.as_bytes());
        }
        to.extend_from_slice(self.subject.unwrap_or("").as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Identifier<'static> {
        let minted = Timestamp::from_millis(1_790_000_000_123).unwrap();
        Identifier {
            caveats_at_mint: 2,
            key: KeyId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]),
            lineage: LineageId::new([9; 10], minted),
            expiry: Timestamp::from_seconds(1_800_000_000),
            service: Some(ServiceToken { parent: LineageId::new([5; 10], minted) }),
            subject: Some("user:ä"),
        }
    }

    fn written(identifier: &Identifier<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        identifier.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn reads_back() {
        for identifier in [
            example(),
            Identifier { service: None, ..example() },
            Identifier { subject: None, expiry: None, ..example() },
        ] {
            assert_eq!(Identifier::parse(&written(&identifier)), Ok(identifier));
        }
    }

    #[test]
    fn every_cut_is_refused_or_reads_as_a_shorter_subject() {
        let bytes = written(&example());
        let fixed = bytes.len() - "user:ä".len();
        for len in 0..fixed {
            assert!(Identifier::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn unknown_things_are_refused() {
        let bytes = written(&example());
        for (at, value) in [(0, 0), (0, 2), (1, 2), (1, 0x81)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert!(Identifier::parse(&bytes).is_err(), "byte {at} = {value}");
        }
    }

    #[test]
    fn a_bad_subject_is_refused_on_both_sides() {
        let too_long = "x".repeat(65);
        for subject in ["a\nb", "", &too_long] {
            let identifier = Identifier { subject: Some(subject), ..example() };
            assert!(identifier.write(&mut Vec::new()).is_err(), "{subject:?}");
        }
        let mut bytes = written(&Identifier { subject: None, ..example() });
        bytes.push(b'\n');
        assert!(Identifier::parse(&bytes).is_err());
    }

    #[test]
    fn an_expiry_must_be_whole_seconds_within_the_calendar() {
        for expiry in [Timestamp::EPOCH, Timestamp::from_millis(1500).unwrap()] {
            let identifier = Identifier { expiry: Some(expiry), ..example() };
            assert!(identifier.write(&mut Vec::new()).is_err());
        }
        let mut bytes = written(&example());
        bytes[27..32].copy_from_slice(&[0xff; 5]);
        assert!(Identifier::parse(&bytes).is_err());
    }
}
