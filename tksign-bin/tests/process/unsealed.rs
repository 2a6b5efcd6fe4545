//! The secrets of a store, as whoever has the injected one takes them out of it: the test opens the
//! sealed records itself.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use testkit::signer::Running;

use super::search::stands;

/// A secret and what it is.
pub struct Secret {
    pub what: String,
    pub bytes: Vec<u8>,
}

impl Secret {
    fn new(what: impl Into<String>, bytes: &[u8]) -> Self {
        Self { what: what.into(), bytes: bytes.to_vec() }
    }

    pub fn is(&self, what: &str) -> bool {
        self.what == what
    }

    /// Whether it is in a memory image, whole: of freed copies the allocator writes over the first 16 bytes,
    /// and a compiler may leave parts on a stack (docs/threat-model.md, "Not met").
    pub fn is_left_in(&self, image: &[u8]) -> bool {
        stands(image, &self.bytes)
    }
}

/// Everything that the store holds sealed and that makes keys, and the key that seals it.
pub fn secrets(signer: &Running) -> Vec<Secret> {
    let store = rusqlite::Connection::open(signer.dir().join("state/tksign.db")).unwrap();
    let value = |key: &[u8]| -> Vec<u8> {
        store.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0)).unwrap()
    };
    let authority = value(b"authority");
    let injected = std::fs::read(signer.secret()).unwrap();
    let kek = keyed(&injected, &[b"tk-kek-v1", &authority]);
    let open = |table: &str, key: &[u8], sealed: &[u8]| open(&kek, &authority, table, key, sealed);
    let core = open("meta", b"core", &value(b"core"));
    let mut secrets =
        vec![Secret::new("the injected secret", &injected), Secret::new("the key-encryption key", &kek)];
    // Version, feed, then 32 bytes each.
    let what = ["the key of rows", "the key of look-ups", "the key of tags", "the key of the handshake"];
    secrets.extend(core[17..].chunks_exact(32).zip(what).map(|(part, what)| Secret::new(what, part)));
    for (table, skip) in [("keys", 5), ("publication_keys", 1)] {
        let mut rows = store.prepare(&format!("SELECT key, value FROM {table}")).unwrap();
        let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for (key, sealed) in rows.map(Result::<(Vec<u8>, Vec<u8>), _>::unwrap) {
            let record = open(table, &key, &sealed);
            let id: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            secrets.push(Secret::new(id, &record[skip..skip + 32]));
        }
    }
    secrets
}

fn open(kek: &[u8; 32], authority: &[u8], table: &str, key: &[u8], sealed: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_be_bytes();
    let aad = [
        b"tk-record-v1",
        authority,
        &length(table.as_bytes()),
        table.as_bytes(),
        &length(key),
        key,
        &sealed[1..9],
        &[1],
    ]
    .concat();
    let cipher = XChaCha20Poly1305::new(kek.into());
    let payload = Payload { msg: &sealed[33..], aad: &aad };
    cipher.decrypt(XNonce::from_slice(&sealed[9..33]), payload).expect("a record of this store")
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
