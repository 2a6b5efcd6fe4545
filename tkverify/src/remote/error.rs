use std::fmt;

use tkcore::protocol::RpcError;

/// Why there is no answer, or what it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteError {
    /// The signer's authentic refusal; [`RpcError::fault`] says whose fault.
    Refused(RpcError),
    /// An address answered, and is not a signer that takes this client: the client's key is
    /// not (or no longer) allowed there, or the pinned key is not the signer's. Configuration;
    /// asking again helps only after it was changed.
    NotAllowed(Vec<(String, Trouble)>),
    /// No address gave an answer; what each did, in the order in which they were tried.
    Unreachable(Vec<(String, Trouble)>),
    /// Time ran out; what happened until then.
    Deadline(Vec<(String, Trouble)>),
    /// The request is longer than a message can be.
    TooLarge,
    /// The signer's answer is authentic and not of this version.
    NotUnderstood,
    /// No address was given, or too many.
    NoAddress,
    /// The system's generator failed.
    Random,
}

/// What went wrong at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// No connection, or it broke.
    Connection(String),
    /// No answer in time.
    Timeout,
    /// The handshake was refused: the key of the client or the pinned one of the signer.
    Handshake,
    /// The session is not known there, twice in a row.
    Session,
    /// It takes no more for now.
    Busy,
    /// It speaks other versions of the protocol.
    Version {
        /// The lowest.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
    /// Not an answer of this protocol (something between answered); the HTTP status.
    Foreign(u16),
    /// An answer that does not decrypt, or belongs to another request.
    NotAuthentic,
}

impl RemoteError {
    pub(super) fn from_troubles(troubles: Vec<(String, Trouble)>) -> Self {
        let refused = |trouble: &Trouble| matches!(trouble, Trouble::Handshake | Trouble::Version { .. });
        if !troubles.is_empty() && troubles.iter().all(|(_, trouble)| refused(trouble)) {
            Self::NotAllowed(troubles)
        } else {
            Self::Unreachable(troubles)
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, troubles) = match self {
            Self::Refused(error) => return error.fmt(f),
            Self::NotAllowed(troubles) => (
                "the signer does not take this client; check the client's key with `tksign clients list` \
                 and the pinned signer key",
                troubles,
            ),
            Self::Unreachable(troubles) => ("the signer cannot be reached", troubles),
            Self::Deadline(troubles) => ("the signer did not answer in time", troubles),
            Self::TooLarge => return f.write_str("the request is too large for the signer"),
            Self::NotUnderstood => return f.write_str("the signer's answer is of another version"),
            Self::NoAddress => return f.write_str("from 1 to 16 signer addresses are needed"),
            Self::Random => return f.write_str("the operating system gives no random bytes"),
        };
        f.write_str(what)?;
        for (index, (url, trouble)) in troubles.iter().enumerate() {
            write!(f, "{}{url}: {trouble}", if index == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(why) => f.write_str(why),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Handshake => f.write_str("the handshake was refused"),
            Self::Session => f.write_str("the session is not known"),
            Self::Busy => f.write_str("busy"),
            Self::Version { lowest, highest } => {
                write!(f, "speaks protocol versions {lowest} to {highest} only")
            }
            Self::Foreign(status) => write!(f, "HTTP status {status} and no answer of a signer"),
            Self::NotAuthentic => f.write_str("the answer is not authentic"),
        }
    }
}

impl std::error::Error for RemoteError {}
