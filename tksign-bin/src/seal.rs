//! Sealed records: what stands on the disk says nothing and cannot be moved.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under the key-encryption key that the
//! injected secret leads to; random 24-byte nonces, so no counter has to survive a crash.
//! Associated data binds a record to its authority, table, primary key, key-encryption key and
//! format version: a row put in another's place does not open.

use std::fmt;

use chacha20poly1305::aead::{AeadInPlace as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::codec::{BadRecord, length};
use crate::random;
use crate::secret::Secret;
use crate::store::Table;

/// Version of the sealed form, first byte of every sealed record.
const FORMAT: u8 = 1;
/// Bytes that say which key-encryption key sealed a record: a keyed hash, which says nothing else.
const ID: usize = 8;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEAD: usize = 1 + ID + NONCE;

/// Names one store for life: 16 random bytes made by `init`, in clear. The same secret in two
/// stores leads to two unrelated keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority(pub [u8; 16]);

/// A format version this program does not know, or too short.
const FORM: BadRecord = BadRecord("it has no form this version knows");
pub(crate) const OTHER_SECRET: BadRecord = BadRecord("it is sealed under another secret");
/// Changed, or moved here from another row, table or store.
const NOT_AUTHENTIC: BadRecord = BadRecord("it was changed or moved");

/// The key-encryption key of one store. Wiped on drop; not `Clone`; `Debug` shows only its id.
pub struct Kek {
    key: Zeroizing<[u8; 32]>,
    authority: Authority,
    id: [u8; ID],
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({:02x?})", self.id)
    }
}

impl Kek {
    /// Derives the key from the injected secret.
    #[must_use]
    pub fn new(secret: &Secret, authority: Authority) -> Self {
        let key = Zeroizing::new(keyed(secret.expose(), &[b"tk-kek-v1", &authority.0]));
        let digest = keyed(&*key, &[b"tk-kek-id-v1"]);
        let (id, _) = digest.split_first_chunk().unwrap_or((&[0; ID], &[]));
        Self { id: *id, key, authority }
    }

    pub(crate) const fn id(&self) -> [u8; ID] {
        self.id
    }

    /// What is kept in clear to tell a wrong secret at start: 32 bytes of a keyed hash.
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        keyed(&*self.key, &[b"tk-kek-check-v1"])
    }

    /// Whether `value` is this key's check value.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.check_value().ct_eq(value).into()
    }

    /// Seals `plain` for one row.
    #[must_use]
    pub fn seal(&self, table: Table, key: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = random::bytes();
        let mut out = Vec::with_capacity(HEAD.saturating_add(plain.len()).saturating_add(TAG));
        out.push(FORMAT);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let associated = self.associated(table, key);
        let (_, body) = out.split_at_mut(HEAD);
        let tag = self.cipher().encrypt_in_place_detached(XNonce::from_slice(&nonce), &associated, body);
        // The cipher refuses only past 256 GiB.
        let tag = tag.unwrap_or_else(|_| random::stop("a record is too large to seal"));
        out.extend_from_slice(&tag);
        out
    }

    /// Opens the record of one row.
    ///
    /// # Errors
    /// Why it does not open; another row's record is [`NOT_AUTHENTIC`].
    pub(crate) fn open(
        &self,
        table: Table,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BadRecord> {
        let (format, rest) = sealed.split_first().ok_or(FORM)?;
        if *format != FORMAT {
            return Err(FORM);
        }
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or(FORM)?;
        if *id != self.id {
            return Err(OTHER_SECRET);
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(FORM)?;
        let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(FORM)?;
        let mut plain = Zeroizing::new(body.to_vec());
        self.cipher()
            .decrypt_in_place_detached(
                XNonce::from_slice(nonce),
                &self.associated(table, key),
                &mut plain,
                chacha20poly1305::Tag::from_slice(tag),
            )
            .map_err(|_| NOT_AUTHENTIC)?;
        Ok(plain)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(chacha20poly1305::Key::from_slice(&*self.key))
    }

    fn associated(&self, table: Table, key: &[u8]) -> Vec<u8> {
        let table = table.name().as_bytes();
        let (table_length, key_length) = (length(table), length(key));
        let parts: [&[u8]; 8] =
            [b"tk-record-v1", &self.authority.0, &table_length, table, &key_length, key, &self.id, &[FORMAT]];
        parts.concat()
    }
}

/// HMAC-SHA256 over the length-delimited parts.
pub(crate) fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of every length; the error has no case.
    let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key);
    let mut mac = mac.unwrap_or_else(|_| random::stop("HMAC refused a key"));
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kek(byte: u8, authority: u8) -> Kek {
        let secret: Vec<u8> = (0..32).map(|i| i ^ byte).collect();
        Kek::new(&Secret::new(secret).unwrap(), Authority([authority; 16]))
    }

    #[test]
    fn opens_in_its_own_row_and_nowhere_else() {
        let kek = kek(1, 1);
        let sealed = kek.seal(Table::Keys, b"row", b"plain");
        assert_eq!(&kek.open(Table::Keys, b"row", &sealed).unwrap()[..], b"plain");
        assert_eq!(kek.open(Table::Keys, b"row2", &sealed), Err(NOT_AUTHENTIC));
        assert_eq!(kek.open(Table::Clients, b"row", &sealed), Err(NOT_AUTHENTIC));
        assert_eq!(self::kek(2, 1).open(Table::Keys, b"row", &sealed), Err(OTHER_SECRET));
        assert_eq!(self::kek(1, 2).open(Table::Keys, b"row", &sealed), Err(OTHER_SECRET));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let kek = kek(1, 1);
        let sealed = kek.seal(Table::Keys, b"row", b"plain");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(kek.open(Table::Keys, b"row", &changed).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(kek.open(Table::Keys, b"row", &sealed[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn the_same_plain_text_never_seals_the_same() {
        let kek = kek(1, 1);
        assert_ne!(kek.seal(Table::Keys, b"row", b"plain"), kek.seal(Table::Keys, b"row", b"plain"));
    }

    #[test]
    fn the_check_value_tells_secrets_and_stores_apart() {
        let kek = kek(1, 1);
        assert!(kek.matches(&kek.check_value()));
        assert!(!kek.matches(&self::kek(2, 1).check_value()));
        assert!(!kek.matches(&self::kek(1, 2).check_value()));
        assert!(!kek.matches(b""));
    }

    #[test]
    fn parts_are_delimited() {
        assert_ne!(keyed(b"k", &[b"ab", b"c"]), keyed(b"k", &[b"a", b"bc"]));
    }
}
