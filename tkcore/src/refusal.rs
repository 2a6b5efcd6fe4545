use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::fmt;

use crate::caveat::ParseError;
use crate::error::Owner;
use crate::time::Timestamp;
use crate::verify::Place;

/// A token that is authentic and live, and does not admit this request: which rule or caveat
/// says so, what it wants and what it got.
///
/// `Display` is for logs. The peer gets [`Refusal::code`] and [`Refusal::for_peer`], which name
/// no fact of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(Box<RefusalCause>);

/// What refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalCause {
    /// `now` is not before the token's own expiry.
    Expired {
        /// The expiry in the identifier.
        at: Timestamp,
    },
    /// The token claims to be minted later than the clock and the allowed skew explain.
    IssuedAhead {
        /// The mint time in the identifier.
        minted: Timestamp,
    },
    /// Its caveats at mint are only about `time`, so it is power over the whole tenant, and this
    /// service did not opt in.
    TenantWide,
    /// The request is about another tenant.
    Tenant {
        /// The token's tenant.
        wanted: Box<str>,
        /// The request's tenant.
        got: Box<str>,
    },
    /// The token is for another audience than this service says it is.
    Audience {
        /// The token's audience.
        wanted: Box<str>,
        /// The request's, if it states one.
        got: Option<Box<str>>,
    },
    /// A caveat does not admit the request.
    Caveat(CaveatRefusal),
}

/// A caveat that refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaveatRefusal {
    /// Where it stands.
    pub place: Place,
    /// The caveat, with every byte that is not printable ASCII escaped when it is no UTF-8, and
    /// control characters escaped in any case.
    pub caveat: Box<str>,
    /// Why it refuses.
    pub why: Why,
    /// Which access of the request it refuses, counted from 0.
    pub access: usize,
    /// What it asks for, in words.
    pub wanted: Box<str>,
    /// What the request has: the service's own knowledge, not for the peer.
    pub got: Box<str>,
}

/// Why a caveat refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It cannot be read, and no registered kind claims it: what is unknown refuses.
    Unknown(ParseError),
    /// The request has no such fact.
    Absent,
    /// The fact is of another type than the caveat is about.
    WrongType,
    /// The fact is not admitted.
    NotAdmitted,
    /// The fact is absent and the actions are not those after `else`.
    Otherwise,
    /// A registered kind refuses.
    Custom,
    /// A dialect refuses; its own reason stands in `wanted`.
    Dialect,
}

impl Refusal {
    /// A refusal for this cause: also for what the signer refused on a verifier's behalf.
    #[must_use]
    pub fn new(cause: RefusalCause) -> Self {
        Self(Box::new(cause))
    }

    /// What refused.
    #[must_use]
    pub const fn cause(&self) -> &RefusalCause {
        &self.0
    }

    /// Whose turn it is: a token that ran out is its holder's, anything else the request's.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        match &*self.0 {
            RefusalCause::Expired { .. } | RefusalCause::IssuedAhead { .. } => Owner::Holder,
            RefusalCause::TenantWide
            | RefusalCause::Tenant { .. }
            | RefusalCause::Audience { .. }
            | RefusalCause::Caveat(_) => Owner::Request,
        }
    }

    /// A stable code, safe for the peer.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match &*self.0 {
            RefusalCause::Expired { .. } => "expired",
            RefusalCause::IssuedAhead { .. } => "issued-ahead",
            RefusalCause::TenantWide => "tenant-wide",
            RefusalCause::Tenant { .. } => "wrong-tenant",
            RefusalCause::Audience { .. } => "wrong-audience",
            RefusalCause::Caveat(refusal) => match refusal.why {
                Why::Unknown(_) => "unknown-caveat",
                Why::Absent
                | Why::WrongType
                | Why::NotAdmitted
                | Why::Otherwise
                | Why::Custom
                | Why::Dialect => "caveat",
            },
        }
    }

    /// A sentence that is safe for the peer: it says nothing that the peer's own token does not
    /// say, in printable ASCII.
    #[must_use]
    pub fn for_peer(&self) -> String {
        match &*self.0 {
            RefusalCause::Expired { at } => alloc::format!("the token expired at {at}"),
            RefusalCause::IssuedAhead { .. } => "the token was issued in the future".to_string(),
            RefusalCause::TenantWide => {
                "the token has no restriction and this service does not accept such tokens".to_string()
            }
            RefusalCause::Tenant { .. } => "the token does not belong to this tenant".to_string(),
            RefusalCause::Audience { .. } => "the token is for another service".to_string(),
            RefusalCause::Caveat(refusal) => {
                let what = match refusal.why {
                    Why::Unknown(_) => "is not understood here",
                    Why::Absent
                    | Why::WrongType
                    | Why::NotAdmitted
                    | Why::Otherwise
                    | Why::Custom
                    | Why::Dialect => "does not admit this request",
                };
                let caveat: String = refusal.caveat.escape_default().take(PEER_CAVEAT).collect();
                alloc::format!("{}, `{caveat}`, {what}", refusal.place)
            }
        }
    }
}

/// Characters of a caveat shown to the peer: enough to recognise it, short enough for a header.
const PEER_CAVEAT: usize = 200;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            RefusalCause::Expired { at } => write!(f, "the token expired at {at}"),
            RefusalCause::IssuedAhead { minted } => {
                write!(f, "the token was issued in the future, at {minted}; compare the clocks")
            }
            RefusalCause::TenantWide => f.write_str(
                "the token's caveats at mint are only about time, so it is power over the whole tenant, \
                 and this service did not opt in",
            ),
            RefusalCause::Tenant { wanted, got } => {
                write!(f, "the token is of tenant {wanted:?} and the request of tenant {got:?}")
            }
            RefusalCause::Audience { wanted, got: Some(got) } => {
                write!(f, "the token is for audience {wanted:?} and this service is {got:?}")
            }
            RefusalCause::Audience { wanted, got: None } => {
                write!(f, "the token is for audience {wanted:?} and this service states none")
            }
            RefusalCause::Caveat(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for CaveatRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, `{}`, refuses", self.place, self.caveat)?;
        if self.access > 0 {
            write!(f, " access {}", self.access.saturating_add(1))?;
        }
        match self.why {
            Why::Unknown(error) => write!(f, ": not a caveat known here: {error}"),
            Why::Absent => write!(f, ": wanted {}, the request has no such fact", self.wanted),
            Why::WrongType => write!(f, ": wanted {}, got another type: {}", self.wanted, self.got),
            Why::NotAdmitted | Why::Otherwise | Why::Custom | Why::Dialect => {
                write!(f, ": wanted {}, got {}", self.wanted, self.got)
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// A caveat as it can be written to a log or a terminal.
pub(crate) fn printable(caveat: &[u8]) -> Box<str> {
    match core::str::from_utf8(caveat) {
        Ok(text) => text
            .chars()
            .flat_map(|c| {
                let show = !c.is_control() && !crate::caveat::word::is_hidden(c);
                let plain = show.then_some(c);
                let escaped = (!show).then(|| c.escape_default());
                plain.into_iter().chain(escaped.into_iter().flatten())
            })
            .collect(),
        Err(_) => caveat.escape_ascii().to_string().into(),
    }
}
