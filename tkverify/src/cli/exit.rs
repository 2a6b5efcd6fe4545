use std::process::ExitCode;

/// How a command ended. The numbers are stable: scripts branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Done; for `check`: granted.
    Ok,
    /// A bug of this program.
    Bug,
    /// The command line is wrong.
    Usage,
    /// The text is no token, or is cut off.
    Malformed,
    /// The signature does not hold, or the key is unknown or for another audience.
    NotAuthentic,
    /// The token does not give what the request asks.
    Refused,
    /// The token is revoked.
    Revoked,
    /// Not knowable now: the revocation state is stale or the signer did not answer.
    NotKnowable,
    /// No server of the feed gave anything usable.
    Unreachable,
    /// The feed gave something that must not be believed: a bad signature, a wrong digest,
    /// another feed's object.
    FeedRefused,
    /// The feed shows an attack or a serious fault: two histories, a freeze, a rollback.
    Alarm,
    /// The revocation state is older than `--max-age`.
    TooOld,
    /// A local file or folder cannot be read or written.
    Local,
    /// The trust file or a key file is wrong.
    Config,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Malformed => 10,
            Self::NotAuthentic => 11,
            Self::Refused => 12,
            Self::Revoked => 13,
            Self::NotKnowable => 14,
            Self::Unreachable => 20,
            Self::FeedRefused => 21,
            Self::Alarm => 22,
            Self::TooOld => 23,
            Self::Local => 24,
            Self::Config => 25,
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
  0 done, granted     1 bug            2 wrong usage
  10 malformed        11 not authentic 12 refused        13 revoked   14 not knowable now
  20 unreachable      21 feed refused  22 alarm          23 too old
  24 local file error 25 wrong trust or key file";
