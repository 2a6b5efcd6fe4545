//! Delegated keys in a file of their own, so that a service that restarts while the signer is
//! away can go on. Opt in: whoever reads the file *and* holds the service's secret can mint for
//! this service's audience.
//!
//! The file is `magic (16) ‖ check (16) ‖ nonce (24) ‖ XChaCha20-Poly1305(keys)`. Key and check
//! value come from the secret by HMAC-SHA256, so a wrong secret is told apart from a damaged
//! file. Everything before the nonce, the feed and the client's public key are associated data:
//! another service's file, or another authority's, does not open. It is written whole beside its
//! place and moved there, so a crash leaves the one from before or the new one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tkcore::FeedId;
use tkcore::protocol::DelegatedKey;
use zeroize::{Zeroize as _, Zeroizing};

/// A file for delegated keys, and the secret that seals it.
pub struct KeyFile {
    path: PathBuf,
    secret: Zeroizing<Vec<u8>>,
}

/// Why there are no keys from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The secret, or the file, cannot be read or written; the operating system's words.
    Io(String),
    /// The secret is shorter than 32 bytes, or longer than 4,096.
    Secret,
    /// Others than the owner may read this file.
    Readable(PathBuf),
    /// It was sealed with another secret.
    WrongSecret,
    /// It was changed or cut off, or belongs to another client or another feed.
    Damaged,
    /// The system's generator failed.
    Random,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(why) => write!(f, "the file of delegated keys: {why}"),
            Self::Secret => f.write_str("the secret for delegated keys must have 32 to 4,096 bytes"),
            Self::Readable(path) => {
                write!(f, "{} can be read by others; chmod 600 it", path.display())
            }
            Self::WrongSecret => f.write_str("the file of delegated keys was sealed with another secret"),
            Self::Damaged => f.write_str(
                "the file of delegated keys is damaged, or of another client or feed; delete it, and the \
                 next fetch writes a new one",
            ),
            Self::Random => f.write_str("the operating system gives no random bytes"),
        }
    }
}

impl std::error::Error for KeyFileError {}

const MAGIC: &[u8; 16] = b"tk-held-keys-v1\n";
const CHECK: usize = 16;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Shortest secret: as many bytes as the key that is made of it.
const SECRET_LEAST: usize = 32;
/// Longest, so that a wrong path (a log, a database) is noticed.
const SECRET_MOST: usize = 4096;
/// Longest file: 100,000 keys of at most 230 bytes.
const FILE_MOST: u64 = 32 * 1024 * 1024;

impl KeyFile {
    /// Keys in `path`, sealed with `secret`: 32 to 4,096 bytes that nobody can guess, the service's
    /// own, and not kept beside the file.
    ///
    /// # Errors
    /// [`KeyFileError::Secret`].
    pub fn new(path: impl Into<PathBuf>, secret: &[u8]) -> Result<Self, KeyFileError> {
        if !(SECRET_LEAST..=SECRET_MOST).contains(&secret.len()) {
            return Err(KeyFileError::Secret);
        }
        Ok(Self { path: path.into(), secret: Zeroizing::new(secret.to_vec()) })
    }

    /// The same with the secret in a file that only its owner may read, such as one that systemd
    /// puts under `$CREDENTIALS_DIRECTORY`. All its bytes count.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn with_secret_file(path: impl Into<PathBuf>, secret: &Path) -> Result<Self, KeyFileError> {
        let mut file = File::open(secret).map_err(|e| io_error(secret, &e))?;
        private(&file, secret)?;
        // Room for all from the start: bytes that moved would stay behind unwiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_MOST + 2));
        let most = u64::try_from(SECRET_MOST).unwrap_or(u64::MAX).saturating_add(1);
        (&mut file).take(most).read_to_end(&mut bytes).map_err(|e| io_error(secret, &e))?;
        Self::new(path, &bytes)
    }

    /// The keys; none when there is no file yet.
    pub(crate) fn read(&self, owner: &Owner) -> Result<Vec<DelegatedKey>, KeyFileError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error(&self.path, &e)),
        };
        private(&file, &self.path)?;
        let mut bytes = Vec::new();
        let read = (&mut file).take(FILE_MOST.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| io_error(&self.path, &e))?;
        let keys = self.open(&bytes, owner)?;
        decode(&keys).ok_or(KeyFileError::Damaged)
    }

    /// Replaces the keys.
    pub(crate) fn write(&self, keys: &Zeroizing<Vec<u8>>, owner: &Owner) -> Result<(), KeyFileError> {
        let sealed = self.seal(keys, owner)?;
        let failed = |e: io::Error| io_error(&self.path, &e);
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        let mut part = self.path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        // Left by a crash.
        match fs::remove_file(&part) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
        let written = file
            .write_all(&sealed)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&part, &self.path))
            .and_then(|()| File::open(folder)?.sync_all());
        written.map_err(|e| {
            let _ = fs::remove_file(&part);
            failed(e)
        })
    }

    fn seal(&self, keys: &[u8], owner: &Owner) -> Result<Vec<u8>, KeyFileError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| KeyFileError::Random)?;
        let (key, check) = self.derived();
        let aad = owner.associated(&check);
        let sealed = XChaCha20Poly1305::new(key.as_slice().into())
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: keys, aad: &aad })
            .map_err(|_| KeyFileError::Damaged)?;
        Ok([MAGIC.as_slice(), &check, &nonce, &sealed].concat())
    }

    fn open(&self, file: &[u8], owner: &Owner) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        let (magic, rest) = file.split_first_chunk::<16>().ok_or(KeyFileError::Damaged)?;
        let (check, rest) = rest.split_first_chunk::<CHECK>().ok_or(KeyFileError::Damaged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(KeyFileError::Damaged)?;
        if magic != MAGIC || sealed.len() < TAG {
            return Err(KeyFileError::Damaged);
        }
        let (key, ours) = self.derived();
        if !bool::from(check.ct_eq(&ours)) {
            return Err(KeyFileError::WrongSecret);
        }
        let aad = owner.associated(check);
        let opened = XChaCha20Poly1305::new(key.as_slice().into())
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &aad });
        opened.map(Zeroizing::new).map_err(|_| KeyFileError::Damaged)
    }

    /// The sealing key, and what says which secret it was without saying anything of it.
    fn derived(&self) -> (Zeroizing<[u8; 32]>, [u8; CHECK]) {
        let mac = |what: &[u8]| -> [u8; 32] {
            // A key of any length is one for HMAC.
            let Ok(mut mac) = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.secret) else {
                return [0; 32];
            };
            mac.update(what);
            mac.finalize().into_bytes().into()
        };
        let mut full = mac(b"tk-held-keys-v1 check");
        let mut check = [0; CHECK];
        check.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        full.zeroize();
        (Zeroizing::new(mac(b"tk-held-keys-v1 seal")), check)
    }

    /// Where the keys are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whose keys they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) feed: FeedId,
    pub(crate) client: [u8; 32],
}

impl Owner {
    fn associated(&self, check: &[u8; CHECK]) -> Vec<u8> {
        [MAGIC.as_slice(), check, self.feed.as_bytes().as_slice(), &self.client].concat()
    }
}

/// One after the other, each with its length. Sized at once, so that growing leaves no copies.
pub(crate) fn encode<'k>(keys: impl Iterator<Item = &'k DelegatedKey> + Clone) -> Option<Zeroizing<Vec<u8>>> {
    let mut all = Zeroizing::new(Vec::with_capacity(keys.clone().count().checked_mul(256)?));
    for key in keys {
        let bytes = Zeroizing::new(key.encode().ok()?);
        all.extend_from_slice(&u16::try_from(bytes.len()).ok()?.to_be_bytes());
        all.extend_from_slice(&bytes);
    }
    Some(all)
}

fn decode(mut bytes: &[u8]) -> Option<Vec<DelegatedKey>> {
    let mut keys = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        keys.push(DelegatedKey::decode(key).ok()?);
        bytes = rest;
    }
    Some(keys)
}

/// Asked of the file that is open, so that it cannot be another one.
fn private(file: &File, path: &Path) -> Result<(), KeyFileError> {
    let metadata = file.metadata().map_err(|e| io_error(path, &e))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::Readable(path.to_owned()));
    }
    Ok(())
}

fn io_error(path: &Path, error: &io::Error) -> KeyFileError {
    KeyFileError::Io(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use testkit::TempDir;
    use tkcore::protocol::{KeyState, SecretKey};
    use tkcore::{Audience, KeyId, Tenant};

    use super::*;

    const OWNER: Owner = Owner { feed: FeedId::from_bytes([5; 16]), client: [6; 32] };

    fn key(id: u8) -> DelegatedKey {
        DelegatedKey {
            key: KeyId::from_bytes([id; 8]),
            tenant: Tenant::new("acme").unwrap(),
            audience: Audience::new("builds").unwrap(),
            generation: 1,
            state: KeyState::Current,
            root: SecretKey::new([0xa5; 32]),
            rows: SecretKey::new([0x5a; 32]),
        }
    }

    fn written(dir: &TempDir, keys: &[DelegatedKey]) -> KeyFile {
        let file = KeyFile::new(dir.join("keys"), &[1; 32]).unwrap();
        file.write(&encode(keys.iter()).unwrap(), &OWNER).unwrap();
        file
    }

    #[test]
    fn keys_come_back_and_lie_sealed_in_a_private_file() {
        let dir = TempDir::new();
        let file = KeyFile::new(dir.join("keys"), &[1; 32]).unwrap();
        assert!(file.read(&OWNER).unwrap().is_empty());
        let keys: Vec<_> = (0..200).map(key).collect();
        let file = written(&dir, &keys);
        let read = file.read(&OWNER).unwrap();
        assert_eq!(read.len(), 200);
        assert!(read[199].root.ct_eq(&keys[199].root) && read[7].key == keys[7].key);
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        let bytes = fs::read(file.path()).unwrap();
        for secret in [[0xa5; 16], [0x5a; 16], [1; 16]] {
            assert!(!bytes.windows(16).any(|window| window == secret));
        }
        assert!(!bytes.windows(4).any(|window| window == b"acme"));
        // Written again it is another text, and fewer keys are fewer.
        let again = written(&dir, &keys[..1]);
        assert_ne!(fs::read(again.path()).unwrap()[32..56], bytes[32..56]);
        assert_eq!(again.read(&OWNER).unwrap().len(), 1);
    }

    #[test]
    fn a_wrong_secret_is_told_apart_from_a_damaged_file() {
        let dir = TempDir::new();
        let file = written(&dir, &[key(1)]);
        let other = KeyFile::new(file.path(), &[2; 32]).unwrap();
        assert_eq!(other.read(&OWNER).err(), Some(KeyFileError::WrongSecret));
        let good = fs::read(file.path()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(file.path(), bad).unwrap();
            let want = if (16..32).contains(&at) { KeyFileError::WrongSecret } else { KeyFileError::Damaged };
            assert_eq!(file.read(&OWNER).err(), Some(want), "{at}");
            fs::write(file.path(), &good[..at]).unwrap();
            assert_eq!(file.read(&OWNER).err(), Some(KeyFileError::Damaged), "cut at {at}");
        }
        fs::write(file.path(), [good.as_slice(), b"x"].concat()).unwrap();
        assert_eq!(file.read(&OWNER).err(), Some(KeyFileError::Damaged));
    }

    #[test]
    fn another_services_file_does_not_open() {
        let dir = TempDir::new();
        let file = written(&dir, &[key(1)]);
        for other in
            [Owner { client: [7; 32], ..OWNER }, Owner { feed: FeedId::from_bytes([9; 16]), ..OWNER }]
        {
            assert_eq!(file.read(&other).err(), Some(KeyFileError::Damaged));
        }
    }

    #[test]
    fn a_mode_that_gives_others_anything_is_refused_and_so_is_a_short_secret() {
        let dir = TempDir::new();
        let file = written(&dir, &[key(1)]);
        for mode in [0o640, 0o604, 0o601, 0o660] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(file.read(&OWNER).err(), Some(KeyFileError::Readable(file.path().to_owned())));
        }
        assert_eq!(KeyFile::new("x", &[1; 31]).err(), Some(KeyFileError::Secret));
        assert!(KeyFile::new("x", &[1; 4096]).is_ok());
        assert_eq!(KeyFile::new("x", &[1; 4097]).err(), Some(KeyFileError::Secret));
        let open = dir.write("secret", 0o644, [1; 32]);
        assert_eq!(KeyFile::with_secret_file("x", &open).err(), Some(KeyFileError::Readable(open)));
        let path = dir.write("closed", 0o400, [1; 32]);
        assert!(KeyFile::with_secret_file("x", &path).is_ok());
        let path = dir.write("long", 0o400, [1; 5000]);
        assert_eq!(KeyFile::with_secret_file("x", &path).err(), Some(KeyFileError::Secret));
    }

    #[test]
    fn a_write_that_broke_leaves_the_keys_from_before() {
        let dir = TempDir::new();
        let file = written(&dir, &[key(1), key(2)]);
        // As a crash in the middle leaves it; also one that somebody else may read.
        dir.write("keys.part", 0o644, b"half");
        assert_eq!(file.read(&OWNER).unwrap().len(), 2);
        let file = written(&dir, &[key(1)]);
        assert_eq!(file.read(&OWNER).unwrap().len(), 1);
        assert!(!dir.join("keys.part").exists());
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        // A place that cannot be written says so and changes nothing.
        fs::create_dir(dir.join("keys.part")).unwrap();
        let failed = file.write(&encode([key(3)].iter()).unwrap(), &OWNER);
        assert!(matches!(failed, Err(KeyFileError::Io(_))));
        assert_eq!(file.read(&OWNER).unwrap().len(), 1);
    }

    #[test]
    fn debug_shows_no_secret() {
        let file = KeyFile::new("x", &[b'S'; 40]).unwrap();
        assert!(!format!("{file:?}").contains("SSSS") && !format!("{file:?}").contains("83, 83"));
    }
}
