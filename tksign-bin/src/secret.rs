use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Shortest secret accepted: the strength of every key below it (256 bits).
pub(crate) const SECRET_BYTES_MIN: usize = 32;
/// Longest secret accepted. A secret is 32 random bytes, or those in some text form; anything
/// longer than this is the wrong file.
pub(crate) const SECRET_BYTES_MAX: usize = 4096;
/// Fewest different byte values in a secret. 32 random bytes have about 30, 64 random
/// hexadecimal digits 15 or 16; fewer than 10 come about by typing, not by a generator (less
/// than one in 10^9 for the digits, and practically never for bytes).
pub(crate) const SECRET_DISTINCT_MIN: usize = 10;

/// The injected secret that everything on disk is sealed under. Wiped on drop; not `Clone`.
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where to look for the secret; the first source that is set is the only one read.
#[derive(Debug, Clone, Default)]
pub struct SecretSources {
    /// An inherited file descriptor, by number.
    pub fd: Option<u32>,
    /// The folder of systemd's credentials (`$CREDENTIALS_DIRECTORY`); counts as set only when
    /// it holds a file `tksign-secret`.
    pub credentials: Option<PathBuf>,
    /// A file with mode 0400.
    pub file: Option<PathBuf>,
    /// The value of an environment variable that was named by an explicit flag.
    pub environment: Option<Zeroizing<String>>,
}

/// Why there is no secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum SecretError {
    /// No source was given.
    None,
    /// The source could not be read.
    Unreadable(PathBuf, io::Error),
    /// Others than its owner may read the file, or anyone may write it; holds the mode.
    Mode(PathBuf, u32),
    /// The file belongs to somebody else; holds the user id.
    Owner(PathBuf, u32),
    /// Too short or too long; holds the length.
    Length(usize),
    /// Too few different byte values to be random.
    NotRandom,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(
                "no secret: give --secret-file FILE (mode 0400), --secret-fd N, or a systemd credential named \
                 tksign-secret; make one with: head -c 32 /dev/urandom > FILE && chmod 0400 FILE",
            ),
            Self::Unreadable(path, error) => write!(f, "the secret in {} cannot be read: {error}", path.display()),
            Self::Mode(path, mode) => write!(
                f,
                "the secret in {} has mode {mode:04o}, it must be 0400: chmod 0400 {0}",
                path.display()
            ),
            Self::Owner(path, uid) => {
                write!(f, "the secret in {} belongs to user {uid}, not to the one running this", path.display())
            }
            Self::Length(len) => {
                write!(f, "the secret has {len} bytes; it must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}")
            }
            Self::NotRandom => f.write_str(
                "the secret is not random (too few different bytes): head -c 32 /dev/urandom makes a good one",
            ),
        }
    }
}

impl std::error::Error for SecretError {}

impl Secret {
    /// Takes a secret that is already in memory.
    ///
    /// # Errors
    /// [`SecretError::Length`] or [`SecretError::NotRandom`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < SECRET_BYTES_MIN || bytes.len() > SECRET_BYTES_MAX {
            return Err(SecretError::Length(bytes.len()));
        }
        let mut seen = [false; 256];
        for byte in bytes.iter() {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen = true;
            }
        }
        if seen.iter().filter(|seen| **seen).count() < SECRET_DISTINCT_MIN {
            return Err(SecretError::NotRandom);
        }
        Ok(Self(bytes))
    }

    /// Reads the secret from the first source that is set: descriptor, credential, file,
    /// environment. A source that is set and wrong is an error, never a reason to try the next.
    ///
    /// # Errors
    /// [`SecretError`] says what is wrong and what to do.
    pub fn load(sources: &SecretSources) -> Result<Self, SecretError> {
        if let Some(fd) = sources.fd {
            // Opening the descriptor's path is the safe way to it. The inherited descriptor
            // itself stays open until the process ends; a pipe is empty by then.
            return read(&PathBuf::from(format!("/dev/fd/{fd}")), None);
        }
        if let Some(folder) = &sources.credentials {
            let path = folder.join("tksign-secret");
            // One that is there and cannot be looked at is an error of `read`.
            if !matches!(path.try_exists(), Ok(false)) {
                return read(&path, None);
            }
        }
        if let Some(path) = &sources.file {
            return read(path, Some(0o400));
        }
        match &sources.environment {
            Some(value) => Self::new(value.as_bytes().to_vec()),
            None => Err(SecretError::None),
        }
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a secret; from our own file of exactly this mode, when one is given.
fn read(path: &Path, wanted: Option<u32>) -> Result<Secret, SecretError> {
    let unreadable = |error| SecretError::Unreadable(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    if let Some(wanted) = wanted {
        // Asked of the open file, so that it cannot be exchanged between check and use.
        let meta = file.metadata().map_err(unreadable)?;
        let mode = meta.permissions().mode() & 0o7777;
        if mode != wanted {
            return Err(SecretError::Mode(path.to_owned(), mode));
        }
        let me = rustix::process::geteuid();
        if meta.uid() != me.as_raw() {
            return Err(SecretError::Owner(path.to_owned(), meta.uid()));
        }
    }
    // Room for the longest secret and one byte more, so that the vector never moves and leaves
    // a copy behind.
    let most = SECRET_BYTES_MAX.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Secret::new(std::mem::take(&mut *bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn random(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        crate::random::fill(&mut bytes);
        bytes
    }

    fn file(mode: u32) -> (testkit::TempDir, PathBuf) {
        let dir = testkit::TempDir::new();
        let path = dir.path().join("secret");
        fs::write(&path, random(32)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn length_is_enforced_at_both_ends() {
        assert!(Secret::new(random(32)).is_ok());
        assert!(matches!(Secret::new(random(31)), Err(SecretError::Length(31))));
        assert!(Secret::new(random(4096)).is_ok());
        assert!(matches!(Secret::new(random(4097)), Err(SecretError::Length(4097))));
    }

    #[test]
    fn a_typed_secret_is_refused() {
        assert!(matches!(Secret::new(vec![7; 32]), Err(SecretError::NotRandom)));
        assert!(matches!(Secret::new(b"123123123".repeat(9)), Err(SecretError::NotRandom)));
        let ten: Vec<u8> = (0..40).map(|i| i % 10).collect();
        assert!(Secret::new(ten).is_ok());
        let nine: Vec<u8> = (0..40).map(|i| i % 9).collect();
        assert!(Secret::new(nine).is_err());
    }

    #[test]
    fn only_mode_0400_is_accepted() {
        for mode in [0o400, 0o600, 0o440, 0o404, 0o500, 0o4400] {
            let (_dir, path) = file(mode);
            let got = Secret::load(&SecretSources { file: Some(path), ..SecretSources::default() });
            assert_eq!(got.is_ok(), mode == 0o400, "{mode:o}");
        }
    }

    #[test]
    fn the_first_source_wins_and_its_error_is_final() {
        let (dir, path) = file(0o400);
        let environment = Some(Zeroizing::new("0123456789abcdef0123456789abcdef".to_owned()));
        let sources = SecretSources {
            file: Some(path.clone()),
            environment: environment.clone(),
            ..SecretSources::default()
        };
        assert_eq!(Secret::load(&sources).unwrap().expose(), fs::read(&path).unwrap());
        let missing = SecretSources { file: Some(dir.path().join("none")), ..sources.clone() };
        assert!(matches!(Secret::load(&missing), Err(SecretError::Unreadable(..))));
        let credentials = SecretSources { credentials: Some(dir.path().to_owned()), ..sources };
        assert_eq!(Secret::load(&credentials).unwrap().expose(), fs::read(&path).unwrap());
        fs::write(dir.path().join("tksign-secret"), random(31)).unwrap();
        assert!(matches!(Secret::load(&credentials), Err(SecretError::Length(31))));
        fs::remove_file(dir.path().join("tksign-secret")).unwrap();
        std::os::unix::fs::symlink("tksign-secret", dir.path().join("tksign-secret")).unwrap();
        let round = Secret::load(&credentials);
        assert!(matches!(round, Err(SecretError::Unreadable(..))), "what cannot be looked at is there");
        assert!(matches!(Secret::load(&SecretSources::default()), Err(SecretError::None)));
    }

    #[test]
    fn an_inherited_descriptor_is_read() {
        use std::os::fd::AsRawFd as _;
        let (_dir, path) = file(0o600);
        let open = File::open(&path).unwrap();
        let fd = u32::try_from(open.as_raw_fd()).unwrap();
        let got = Secret::load(&SecretSources { fd: Some(fd), ..SecretSources::default() }).unwrap();
        assert_eq!(got.expose(), fs::read(&path).unwrap());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new(random(32)).unwrap()), "Secret(..)");
    }
}
