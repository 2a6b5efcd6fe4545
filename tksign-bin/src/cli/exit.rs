use std::process::ExitCode;

/// How a command ended. The numbers are stable: scripts branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Done.
    Ok,
    /// A bug of this program.
    Bug,
    /// The command line is wrong.
    Usage,
    /// The signer refused: the request is not possible or not allowed.
    Refused,
    /// What was named does not exist.
    NotFound,
    /// The moment is wrong; the same may succeed later.
    Later,
    /// No signer runs here, or it does not take this operator's key.
    Unreachable,
    /// The secret is missing, unreadable or not the store's.
    Secret,
    /// The store is missing, held by another process, from a newer version, or damaged.
    Store,
    /// An address is in use or cannot be had.
    Address,
    /// A local file or folder cannot be read or written.
    Local,
    /// A check found something wrong.
    Unsound,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Refused => 10,
            Self::NotFound => 11,
            Self::Later => 12,
            Self::Unreachable => 20,
            Self::Secret => 21,
            Self::Store => 22,
            Self::Address => 23,
            Self::Local => 24,
            Self::Unsound => 25,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Shown at the end of `--help`; docs/operations.md says the same at more length.
pub(super) const TABLE: &str = "\
Exit codes:
  0 done              1 bug            2 wrong usage
  10 refused          11 not found     12 not now, try again
  20 no signer here   21 secret        22 store          23 address in use
  24 local file error 25 a check found something wrong";
