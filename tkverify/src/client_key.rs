//! The key by which the signer knows a client: an X25519 pair, the private half in a 0600 file.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::trust::{hex, key_from_hex};

/// A client's static key for sessions with the signer. Says who asks; what that client may do
/// is the signer's business. Wiped on drop; `Debug` shows the public half alone.
pub struct ClientKey {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

/// Why there is no key in a file: of a client, or of an authority.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientKeyError {
    /// The file cannot be read or written.
    Io(io::Error),
    /// Others than the owner may read the file.
    Readable,
    /// The file has another form than the one that was written: digits in lower-case hexadecimal.
    Form,
    /// The system's random generator or the key exchange failed.
    Generate,
}

impl fmt::Display for ClientKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "the key file: {e}"),
            Self::Readable => f.write_str("the key file can be read by others; chmod 600 it"),
            Self::Form => f.write_str("the key file is not of the form that `tkverify keygen` writes"),
            Self::Generate => f.write_str("no key could be generated"),
        }
    }
}

impl std::error::Error for ClientKeyError {}

/// Must be the pattern of the session protocol, since `snow` makes keys for a pattern's curve.
const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

impl ClientKey {
    /// A fresh key from the system's generator.
    ///
    /// # Errors
    /// [`ClientKeyError::Generate`].
    pub fn generate() -> Result<Self, ClientKeyError> {
        let pattern = PATTERN.parse().map_err(|_| ClientKeyError::Generate)?;
        let pair = snow::Builder::new(pattern).generate_keypair().map_err(|_| ClientKeyError::Generate)?;
        let bytes = Zeroizing::new(pair.private);
        let mut private = Zeroizing::new([0; 32]);
        if bytes.len() != private.len() || pair.public.len() != 32 {
            return Err(ClientKeyError::Generate);
        }
        private.copy_from_slice(&bytes);
        Self::from_private(private)
    }

    /// From the private half.
    ///
    /// # Errors
    /// [`ClientKeyError::Generate`] when the public half cannot be computed.
    pub fn from_private(private: Zeroizing<[u8; 32]>) -> Result<Self, ClientKeyError> {
        use snow::resolvers::{CryptoResolver as _, DefaultResolver};
        let mut exchange = DefaultResolver
            .resolve_dh(&snow::params::DHChoice::Curve25519)
            .ok_or(ClientKeyError::Generate)?;
        exchange.set(private.as_slice());
        let public = exchange.pubkey().try_into().map_err(|_| ClientKeyError::Generate)?;
        Ok(Self { private, public })
    }

    /// Reads the file that [`ClientKey::write`] wrote.
    ///
    /// # Errors
    /// [`ClientKeyError`]; `Readable` when the mode gives anything to group or others.
    pub fn read(path: &Path) -> Result<Self, ClientKeyError> {
        let text = read_private(path)?;
        let digits = text.strip_suffix('\n').unwrap_or(&text);
        let private = key_from_hex(digits).map(Zeroizing::new).ok_or(ClientKeyError::Form)?;
        Self::from_private(private)
    }

    /// Writes the private half to a new file of mode 0600.
    ///
    /// # Errors
    /// [`ClientKeyError::Io`]; also when the file exists, since overwriting a key in use would
    /// lock a service out.
    pub fn write(&self, path: &Path) -> Result<(), ClientKeyError> {
        write_private(path, &[&Zeroizing::new(hex(self.private.as_slice())), "\n"])
    }

    /// The public half, for `tksign clients add --key`.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The private half, for the handshake.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.private
    }
}

/// The text of a file that nobody but its owner may read, wiped on drop; 127 bytes at most.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, ClientKeyError> {
    let file = fs::File::open(path).map_err(ClientKeyError::Io)?;
    if file.metadata().map_err(ClientKeyError::Io)?.mode() & 0o077 != 0 {
        return Err(ClientKeyError::Readable);
    }
    // Room for the longest file accepted from the start: a string that grew would leave
    // unwiped copies behind.
    let mut text = Zeroizing::new(String::with_capacity(256));
    file.take(127).read_to_string(&mut text).map_err(ClientKeyError::Io)?;
    Ok(text)
}

/// A new file of mode 0600; there must be none yet. In parts, since a secret that is put together
/// with something else leaves a copy where it was.
pub(crate) fn write_private(path: &Path, parts: &[&str]) -> Result<(), ClientKeyError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(ClientKeyError::Io)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part.as_bytes()));
    written.and_then(|()| file.sync_all()).map_err(ClientKeyError::Io)
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey(public {})", hex(&self.public))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use testkit::TempDir;

    use super::*;

    #[test]
    fn a_key_reads_back_from_its_file() {
        let dir = TempDir::new();
        let key = ClientKey::generate().unwrap();
        let path = dir.join("client.key");
        key.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = ClientKey::read(&path).unwrap();
        assert_eq!(read.public(), key.public());
        assert_eq!(read.expose(), key.expose());
        assert!(
            matches!(key.write(&path), Err(ClientKeyError::Io(e)) if e.kind() == io::ErrorKind::AlreadyExists)
        );
    }

    /// Against a ladder written from RFC 7748, section 5, in another language.
    #[test]
    fn the_public_half_is_the_one_of_rfc_7748() {
        for (private, public) in [
            (
                core::array::from_fn(|at| at as u8),
                "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f",
            ),
            ([0x5a; 32], "b0d08f35b4683381489afb32825e59152d47d19bc9e050d6d5a954984c9d1e2c"),
        ] {
            let key = ClientKey::from_private(Zeroizing::new(private)).unwrap();
            assert_eq!(hex(key.public()), public);
        }
    }

    #[test]
    fn a_file_for_all_to_see_is_refused_and_so_is_another_form() {
        let dir = TempDir::new();
        let good = format!("{}\n", "1a".repeat(32));
        let path = dir.write("open", 0o644, &good);
        assert!(matches!(ClientKey::read(&path), Err(ClientKeyError::Readable)));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(ClientKey::read(&path).is_ok());
        for (name, text) in
            [("short", "1a".repeat(31)), ("upper", "1A".repeat(32)), ("more", format!("{good}\n"))]
        {
            let path = dir.write(name, 0o600, text);
            assert!(matches!(ClientKey::read(&path), Err(ClientKeyError::Form)), "{name}");
        }
    }

    #[test]
    fn debug_shows_the_public_half_alone() {
        let key = ClientKey::from_private(Zeroizing::new([0x5a; 32])).unwrap();
        let text = format!("{key:?}");
        assert!(text.contains(&hex(key.public())) && !text.contains(&"5a".repeat(32)));
    }
}
