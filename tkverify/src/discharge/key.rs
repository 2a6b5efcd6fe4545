use std::fmt;
use std::path::Path;

use tkcore::{AuthorityId, AuthorityKeys, AuthorityPublic, AuthoritySecret};
use zeroize::Zeroizing;

use crate::client_key::{ClientKeyError, read_private, write_private};
use crate::trust::{hex, key_from_hex};

/// An authority's id and secret key, as `tkverify keygen --authority` makes them. Holders and the
/// signer are given the id and the public half, and need nothing else to ask for a discharge.
pub struct AuthorityKey {
    id: AuthorityId,
    secret: Zeroizing<[u8; 32]>,
}

impl AuthorityKey {
    /// A fresh authority from the system's generator.
    ///
    /// # Errors
    /// [`ClientKeyError::Generate`].
    pub fn generate() -> Result<Self, ClientKeyError> {
        let (mut id, mut secret) = ([0; 16], Zeroizing::new([0; 32]));
        getrandom::fill(&mut id).map_err(|_| ClientKeyError::Generate)?;
        getrandom::fill(secret.as_mut_slice()).map_err(|_| ClientKeyError::Generate)?;
        Ok(Self { id: AuthorityId::from_bytes(id), secret })
    }

    /// Reads the file that [`AuthorityKey::write`] wrote.
    ///
    /// # Errors
    /// [`ClientKeyError`]; `Readable` when the mode gives anything to group or others.
    pub fn read(path: &Path) -> Result<Self, ClientKeyError> {
        let text = read_private(path)?;
        let parts = text.strip_suffix('\n').unwrap_or(&text).split_once('\n');
        let (id, secret) = parts.ok_or(ClientKeyError::Form)?;
        let id = AuthorityId::from_hex(id).ok_or(ClientKeyError::Form)?;
        let secret = key_from_hex(secret).map(Zeroizing::new).ok_or(ClientKeyError::Form)?;
        Ok(Self { id, secret })
    }

    /// Writes id and secret to a new file of mode 0600.
    ///
    /// # Errors
    /// [`ClientKeyError::Io`]; also when the file exists, since every caveat for a key that was
    /// overwritten would be lost.
    pub fn write(&self, path: &Path) -> Result<(), ClientKeyError> {
        let secret = Zeroizing::new(hex(self.secret.as_slice()));
        write_private(path, &[&self.id.to_string(), "\n", &secret, "\n"])
    }

    /// Names the authority in caveats.
    #[must_use]
    pub const fn id(&self) -> AuthorityId {
        self.id
    }

    /// What caveats are sealed to.
    #[must_use]
    pub fn public(&self) -> AuthorityPublic {
        AuthoritySecret::from_bytes(*self.secret).public()
    }

    /// For a [`Desk`](crate::discharge::Desk).
    #[must_use]
    pub fn keys(&self) -> AuthorityKeys {
        AuthorityKeys::new(self.id).with_secret(AuthoritySecret::from_bytes(*self.secret))
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use testkit::TempDir;

    use super::*;

    #[test]
    fn an_authority_reads_back_from_its_file_and_shows_no_secret() {
        let dir = TempDir::new();
        let key = AuthorityKey::generate().unwrap();
        let path = dir.join("login.key");
        key.write(&path).unwrap();
        let read = AuthorityKey::read(&path).unwrap();
        assert_eq!((read.id(), read.public()), (key.id(), key.public()));
        assert_eq!(read.keys().authority(), key.id());
        assert!(matches!(key.write(&path), Err(ClientKeyError::Io(_))));
        assert_eq!(format!("{key:?}"), format!("AuthorityKey({})", key.id()));
        assert_ne!(AuthorityKey::generate().unwrap().public(), key.public());
    }

    #[test]
    fn another_form_or_a_file_for_all_to_see_is_refused() {
        let dir = TempDir::new();
        let good = format!("{}\n{}\n", "0a".repeat(16), "1a".repeat(32));
        assert!(AuthorityKey::read(&dir.write("good", 0o600, &good)).is_ok());
        assert!(matches!(
            AuthorityKey::read(&dir.write("open", 0o640, &good)),
            Err(ClientKeyError::Readable)
        ));
        for (name, text) in [
            ("client", format!("{}\n", "1a".repeat(32))),
            ("more", format!("{good}\n")),
            ("swapped", format!("{}\n{}\n", "1a".repeat(32), "0a".repeat(16))),
        ] {
            let read = AuthorityKey::read(&dir.write(name, 0o600, text));
            assert!(matches!(read, Err(ClientKeyError::Form)), "{name}");
        }
    }
}
