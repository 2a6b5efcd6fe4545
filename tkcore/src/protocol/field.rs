//! How each field type stands on the wire; a message is its fields in order (PR-20 to PR-27).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::frame::PAYLOAD_BYTES;
use crate::codec::{Reader, Truncated};
use crate::facts::{KeyClass, LineageFacts};
use crate::ids::{BranchId, FeedId, KeyId, LineageId, Row};
use crate::name::Name;
use crate::revocation::Rule;
use crate::time::Timestamp;

/// A message that breaks its layout. Says where, never what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMessage(pub &'static str);

/// A message, or a field of it, is longer than the protocol can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLarge;

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad message: {}", self.0)
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message is longer than {PAYLOAD_BYTES} bytes or a field too long for its length")
    }
}

impl core::error::Error for BadMessage {}
impl core::error::Error for TooLarge {}

impl From<Truncated> for BadMessage {
    fn from(_: Truncated) -> Self {
        Self("it ends inside a field")
    }
}

/// Collects a message. A field too long for its length marks the whole as too large, so that
/// nothing cut can be sent. What it collects may be a token or a key, so no copy stays behind
/// where it grew.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    overlong: bool,
}

impl Writer {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let length = self.bytes.len().saturating_add(bytes.len());
        if length > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(length.saturating_mul(2).max(256));
            larger.extend_from_slice(&self.bytes);
            zeroize::Zeroize::zeroize(self.bytes.as_mut_slice());
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn put16(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(len) => {
                self.put(&len.to_be_bytes());
                self.put(bytes);
            }
            Err(_) => self.overlong = true,
        }
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, TooLarge> {
        if self.overlong || self.bytes.len() > PAYLOAD_BYTES {
            zeroize::Zeroize::zeroize(self.bytes.as_mut_slice());
            return Err(TooLarge);
        }
        Ok(self.bytes)
    }
}

/// One field, or a whole message, on the wire. Implemented by the types of this module only.
pub trait Field: Sized {
    /// Appends the field.
    fn write(&self, to: &mut Writer);
    /// Reads the field and no byte more.
    ///
    /// # Errors
    /// [`BadMessage`] when the bytes are not one, or when a value is unknown.
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage>;
}

/// The bytes still to be read of a message.
pub struct Fields<'a>(pub(super) Reader<'a>);

impl Fields<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadMessage> {
        Ok(self.0.array()?)
    }
}

/// Encodes a whole message.
pub(super) fn encode<F: Field>(message: &F) -> Result<Vec<u8>, TooLarge> {
    let mut writer = Writer::default();
    message.write(&mut writer);
    writer.finish()
}

/// Decodes a whole message; a byte left over is an error.
pub(super) fn decode<F: Field>(bytes: &[u8]) -> Result<F, BadMessage> {
    if bytes.len() > PAYLOAD_BYTES {
        return Err(BadMessage("longer than a payload may be"));
    }
    let mut fields = Fields(Reader::new(bytes));
    let message = F::read(&mut fields)?;
    if !fields.0.is_empty() {
        return Err(BadMessage("surplus bytes"));
    }
    Ok(message)
}

/// An answer that says no more than "done": no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done;

impl Field for Done {
    fn write(&self, _: &mut Writer) {}
    fn read(_: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Ok(Self)
    }
}

/// Bytes whose meaning this layer does not look into: up to 65,535 behind a 16-bit length.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Field for Bytes {
    fn write(&self, to: &mut Writer) {
        to.put16(&self.0);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Ok(Self(from.0.bytes16()?.to_vec()))
    }
}

/// A line for people: at most [`Text::MAX`] bytes of UTF-8 without control characters; may be
/// empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(Box<str>);

impl Text {
    /// Longest text, in bytes: a sentence with two names of 64 bytes and room to explain.
    pub const MAX: usize = 512;

    /// Checks and takes a text; `None` when it is too long or holds a control character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (text.len() <= Self::MAX && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// Takes what is allowed of a text: control characters dropped, cut at a character.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        let mut kept = String::new();
        for c in text.chars().filter(|c| !c.is_control()) {
            if kept.len().saturating_add(c.len_utf8()) > Self::MAX {
                break;
            }
            kept.push(c);
        }
        Self(kept.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Field for Text {
    fn write(&self, to: &mut Writer) {
        to.put16(self.0.as_bytes());
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        let text = core::str::from_utf8(from.0.bytes16()?).map_err(|_| BadMessage("text is not UTF-8"))?;
        Self::new(text).ok_or(BadMessage("text too long or with a control character"))
    }
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn write(&self, to: &mut Writer) {
                to.put(&self.to_be_bytes());
            }
            fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
                from.array().map(<$type>::from_be_bytes)
            }
        }
    )*};
}
integer!(u8, u16, u32, u64);

macro_rules! id {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn write(&self, to: &mut Writer) {
                to.put(self.as_bytes());
            }
            fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
                from.array().map(<$type>::from_bytes)
            }
        }
    )*};
}
id!(LineageId, BranchId, KeyId, Row, FeedId);

impl<const N: usize> Field for [u8; N] {
    fn write(&self, to: &mut Writer) {
        to.put(self);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        from.array()
    }
}

/// Unix milliseconds in 8 bytes.
impl Field for Timestamp {
    fn write(&self, to: &mut Writer) {
        self.millis().write(to);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Self::from_millis(u64::read(from)?).ok_or(BadMessage("a time past the year 9999"))
    }
}

/// One byte of length, then 1 to 64 bytes of UTF-8.
impl Field for Name {
    fn write(&self, to: &mut Writer) {
        let bytes = self.as_str().as_bytes();
        match u8::try_from(bytes.len()) {
            Ok(len) => {
                len.write(to);
                to.put(bytes);
            }
            Err(_) => to.overlong = true,
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        let len = usize::from(u8::read(from)?);
        let text = core::str::from_utf8(from.0.bytes(len)?).map_err(|_| BadMessage("a name is not UTF-8"))?;
        Self::new(text).map_err(|_| BadMessage("a name breaks the rules of names"))
    }
}

/// A byte 0, or a byte 1 and the field.
impl<F: Field> Field for Option<F> {
    fn write(&self, to: &mut Writer) {
        match self {
            None => 0u8.write(to),
            Some(field) => {
                1u8.write(to);
                field.write(to);
            }
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            0 => Ok(None),
            1 => F::read(from).map(Some),
            _ => Err(BadMessage("presence is neither 0 nor 1")),
        }
    }
}

/// A 16-bit count, then the fields. Room is never reserved by the claimed count.
impl<F: Field> Field for Vec<F> {
    fn write(&self, to: &mut Writer) {
        match u16::try_from(self.len()) {
            Ok(count) => {
                count.write(to);
                self.iter().for_each(|field| field.write(to));
            }
            Err(_) => to.overlong = true,
        }
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        let count = u16::read(from)?;
        let mut list = Self::new();
        for _ in 0..count {
            list.push(F::read(from)?);
        }
        Ok(list)
    }
}

/// One byte.
impl Field for KeyClass {
    fn write(&self, to: &mut Writer) {
        to.put(&[match self {
            Self::Ordinary => 0,
            Self::Delegable => 1,
        }]);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            0 => Ok(Self::Ordinary),
            1 => Ok(Self::Delegable),
            _ => Err(BadMessage("unknown class of key")),
        }
    }
}

/// One byte.
impl Field for Rule {
    fn write(&self, to: &mut Writer) {
        to.put(&[match self {
            Self::Token => 1,
            Self::Branch => 2,
            Self::Key => 3,
            Self::Subject => 4,
            Self::Tenant => 5,
            Self::Global => 6,
            Self::Parent => 7,
        }]);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        match u8::read(from)? {
            1 => Ok(Self::Token),
            2 => Ok(Self::Branch),
            3 => Ok(Self::Key),
            4 => Ok(Self::Subject),
            5 => Ok(Self::Tenant),
            6 => Ok(Self::Global),
            7 => Ok(Self::Parent),
            _ => Err(BadMessage("unknown rule of revocation")),
        }
    }
}

impl Field for LineageFacts {
    fn write(&self, to: &mut Writer) {
        self.tenant.write(to);
        self.audience.write(to);
        self.class.write(to);
        self.tenant_row.write(to);
        self.subject_row.write(to);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Ok(Self {
            tenant: Field::read(from)?,
            audience: Field::read(from)?,
            class: Field::read(from)?,
            tenant_row: Field::read(from)?,
            subject_row: Field::read(from)?,
        })
    }
}

/// Declares a message: its layout is its fields in the order written.
macro_rules! message {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::protocol::field::Field for $name {
            fn write(&self, to: &mut $crate::protocol::field::Writer) {
                let _ = &to;
                $(self.$field.write(to);)*
            }
            fn read(
                from: &mut $crate::protocol::field::Fields<'_>,
            ) -> Result<Self, $crate::protocol::field::BadMessage> {
                let _ = &from;
                $(let $field = $crate::protocol::field::Field::read(from)?;)*
                Ok(Self { $($field,)* })
            }
        }

        impl $name {
            /// The bytes as they stand on the wire.
            ///
            /// # Errors
            /// [`TooLarge`](crate::protocol::TooLarge) past the size of a payload.
            pub fn encode(&self) -> Result<alloc::vec::Vec<u8>, $crate::protocol::TooLarge> {
                $crate::protocol::field::encode(self)
            }

            /// Reads the message and consumes every byte.
            ///
            /// # Errors
            /// [`BadMessage`](crate::protocol::BadMessage) names the rule that is broken.
            pub fn decode(bytes: &[u8]) -> Result<Self, $crate::protocol::BadMessage> {
                $crate::protocol::field::decode(bytes)
            }
        }
    };
}

/// Declares a choice that stands on the wire as one byte. An unknown byte is refused.
macro_rules! choice {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$arm_doc:meta])* $arm:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$arm_doc])* $arm,)* }

        impl $crate::protocol::field::Field for $name {
            fn write(&self, to: &mut $crate::protocol::field::Writer) {
                to.put(&[match self { $(Self::$arm => $code,)* }]);
            }
            fn read(
                from: &mut $crate::protocol::field::Fields<'_>,
            ) -> Result<Self, $crate::protocol::field::BadMessage> {
                match u8::read(from)? {
                    $($code => Ok(Self::$arm),)*
                    _ => Err($crate::protocol::field::BadMessage(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}

pub(super) use {choice, message};

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn round<F: Field + PartialEq + fmt::Debug>(value: F, bytes: &[u8]) {
        assert_eq!(encode(&value).unwrap(), bytes);
        assert_eq!(decode::<F>(bytes), Ok(value));
        for len in 0..bytes.len() {
            assert!(decode::<F>(&bytes[..len]).is_err(), "cut at {len}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(decode::<F>(&longer).is_err(), "surplus byte");
    }

    /// PR-20, PR-21, PR-22, PR-23, PR-24, PR-25, PR-26.
    #[test]
    fn each_field_has_one_spelling() {
        round(0x0102_u16, &[1, 2]);
        round(Timestamp::from_millis(0x0102).unwrap(), &[0, 0, 0, 0, 0, 0, 1, 2]);
        round(Name::new("ab").unwrap(), &[2, b'a', b'b']);
        round(Text::new("é").unwrap(), &[0, 2, 0xc3, 0xa9]);
        round(Bytes(vec![7]), &[0, 1, 7]);
        round(None::<u16>, &[0]);
        round(Some(5u16), &[1, 0, 5]);
        round(vec![1u8, 2], &[0, 2, 1, 2]);
        round(KeyId::from_bytes([9; 8]), &[9; 8]);
    }

    #[test]
    fn values_outside_a_type_are_refused() {
        assert!(decode::<Option<u8>>(&[2, 0]).is_err());
        assert!(decode::<Timestamp>(&[0xff; 8]).is_err());
        assert!(decode::<Name>(&[0]).is_err());
        assert!(decode::<Name>(&[1, b'\n']).is_err());
        assert!(decode::<Text>(&[0, 1, 0x0a]).is_err());
        assert!(decode::<Text>(&[0, 1, 0xff]).is_err());
    }

    #[test]
    fn a_text_at_the_limit_and_one_past_it() {
        assert!(Text::new(&"x".repeat(Text::MAX)).is_some());
        assert!(Text::new(&"x".repeat(Text::MAX + 1)).is_none());
        assert_eq!(Text::lossy(&"x".repeat(Text::MAX + 1)).as_str().len(), Text::MAX);
        assert_eq!(Text::lossy(&"é".repeat(Text::MAX)).as_str().len(), Text::MAX);
        assert_eq!(Text::lossy("a\nb").as_str(), "ab");
    }

    /// PR-27: a claimed count reserves nothing and ends with the bytes.
    #[test]
    fn a_claimed_count_past_the_end_is_refused() {
        assert!(decode::<Vec<u64>>(&[0xff, 0xff, 0]).is_err());
    }

    #[test]
    fn a_payload_at_the_limit_and_one_past_it() {
        let fits = Bytes(vec![1; PAYLOAD_BYTES - 2]);
        assert_eq!(encode(&fits).unwrap().len(), PAYLOAD_BYTES);
        let past = Bytes(vec![1; PAYLOAD_BYTES - 1]);
        assert_eq!(encode(&past), Err(TooLarge));
        assert_eq!(encode(&Bytes(vec![1; 65_536])), Err(TooLarge));
    }
}
