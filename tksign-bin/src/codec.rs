//! The fields of a stored record: big-endian, lengths in front, every byte consumed. A record is
//! written by `concat`, which reserves all of it at once: no secret is moved and left behind.

use tkcore::Timestamp;

/// The stored bytes do not read as the record they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadRecord(pub(crate) &'static str);

/// What stands in front of a field whose length is not fixed. Nothing the signer stores comes near
/// that bound; a longer one does not read back.
pub(crate) fn length(field: &[u8]) -> [u8; 4] {
    u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads fields front to back.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(BadRecord("cut off"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadRecord> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, BadRecord> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, BadRecord> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], BadRecord> {
        let len = usize::try_from(self.u32()?).map_err(|_| BadRecord("length"))?;
        let (head, rest) = self.0.split_at_checked(len).ok_or(BadRecord("cut off"))?;
        self.0 = rest;
        Ok(head)
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn time(&mut self) -> Result<Option<Timestamp>, BadRecord> {
        match self.u64()? {
            0 => Ok(None),
            millis => Timestamp::from_millis(millis).map(Some).ok_or(BadRecord("time")),
        }
    }

    /// Whether every byte has been read.
    pub(crate) const fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// Every byte must have been read.
    pub(crate) fn finish(self) -> Result<(), BadRecord> {
        if self.is_done() { Ok(()) } else { Err(BadRecord("surplus bytes")) }
    }
}

/// How many, as it is stored and shown.
pub(crate) fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_every_cut_and_surplus() {
        let bytes =
            [&[1][..], &2u32.to_be_bytes(), &3u64.to_be_bytes(), &length(b"four"), b"four", &[0; 8]].concat();
        let read = |bytes: &[u8]| -> Result<(), BadRecord> {
            let mut reader = Reader::new(bytes);
            assert_eq!((reader.u8()?, reader.u32()?, reader.u64()?), (1, 2, 3));
            assert_eq!((reader.bytes()?, reader.time()?), (&b"four"[..], None));
            reader.finish()
        };
        assert_eq!(read(&bytes), Ok(()));
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }
}
