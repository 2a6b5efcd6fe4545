use alloc::vec::Vec;

use super::field::{BadMessage, Field, Fields, Writer};
use super::frame::PAYLOAD_BYTES;

/// Where a list goes on: bytes that only the signer understands, at most [`Cursor::MAX`].
/// Empty asks for the first page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    /// Longest cursor, in bytes: a sealed row name of 64 bytes and a sequence number.
    pub const MAX: usize = 72;

    /// Takes the bytes; `None` when there are more than [`Cursor::MAX`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= Self::MAX).then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it asks for the first page.
    #[must_use]
    pub const fn is_start(&self) -> bool {
        self.0.is_empty()
    }
}

impl Field for Cursor {
    fn write(&self, to: &mut Writer) {
        to.put16(&self.0);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Self::new(from.0.bytes16()?).ok_or(BadMessage("cursor too long"))
    }
}

/// One page of a list. `next` set: there is more, asked for with that cursor.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items of this page, in the list's order.
    pub items: Vec<T>,
    /// Where the list goes on.
    pub next: Option<Cursor>,
    /// Bytes the items take when encoded.
    bytes: usize,
}

/// The item does not fit this page; it starts the next one.
#[derive(Debug)]
pub struct PageFull<T>(pub T);

/// Room for items: a payload less the answer's first byte, the count and the longest cursor.
const ROOM: usize = PAYLOAD_BYTES - 1 - 2 - 1 - 2 - Cursor::MAX;

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None, bytes: 0 }
    }
}

impl<T: Field> Page<T> {
    /// Adds an item if it still fits a payload.
    ///
    /// # Errors
    /// [`PageFull`] gives the item back. A first item always fits or never will: then it is
    /// longer than a payload.
    pub fn push(&mut self, item: T) -> Result<(), PageFull<T>> {
        let mut writer = Writer::default();
        item.write(&mut writer);
        let Ok(encoded) = writer.finish() else { return Err(PageFull(item)) };
        let bytes = self.bytes.saturating_add(encoded.len());
        if bytes > ROOM || self.items.len() >= usize::from(u16::MAX) {
            return Err(PageFull(item));
        }
        self.bytes = bytes;
        self.items.push(item);
        Ok(())
    }
}

impl<T: Field> Field for Page<T> {
    fn write(&self, to: &mut Writer) {
        self.items.write(to);
        self.next.write(to);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        let before = from.0.remaining();
        let items = Vec::read(from)?;
        let bytes = before.saturating_sub(from.0.remaining());
        Ok(Self { items, next: Option::read(from)?, bytes })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::field::{Bytes, encode};
    use super::*;

    /// PR-36: a full page with the longest cursor fits a payload; one item more does not.
    #[test]
    fn a_page_takes_what_fits() {
        let mut page = Page::default();
        let mut count = 0;
        while page.push(Bytes(vec![0; 998])).is_ok() {
            count += 1;
        }
        assert_eq!(count, ROOM / 1000);
        while page.push(Bytes(vec![0; 1])).is_ok() {}
        page.next = Cursor::new(&[9; Cursor::MAX]);
        assert!(encode(&page).unwrap().len() < PAYLOAD_BYTES);
        assert!(Cursor::new(&[0; Cursor::MAX + 1]).is_none());
    }

    #[test]
    fn an_item_longer_than_a_payload_never_fits() {
        let mut page = Page::default();
        assert!(page.push(Bytes(vec![0; 65_535])).is_err());
    }
}
