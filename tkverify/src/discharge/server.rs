use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tkcore::{AuthorityKeys, ClearedTicket, Error, OpenTicket, Ticket, TicketError, Timestamp, TokenBuf};
use zeroize::Zeroizing;

use super::message::{self, Answer, BODY_BYTES};

/// The authority's side, for any HTTP framework: it takes bodies and gives [`Reply`]s.
///
/// A discharge leaves it only for a [`ClearedTicket`], which only [`OpenTicket::clear`] makes, so
/// a handler that forgets to check what a ticket asks for does not compile.
///
/// Answers that have to wait are kept in memory, so all requests of one exchange must reach one
/// process; a restart makes the client start again.
pub struct Desk {
    keys: AuthorityKeys,
    table: Mutex<HashMap<PollId, Entry>>,
    life: Duration,
}

/// Names one waiting request: 128 random bits. Whoever knows it can fetch the discharge, so it
/// is a secret of the client and of the person who was sent; `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollId([u8; 16]);

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// JSON; send it as `application/json` with `Cache-Control: no-store`.
    pub body: String,
    /// Seconds for a `Retry-After` header.
    pub retry_after: Option<u64>,
}

/// Why a request gets no ticket opened, a waiting one is not found, or none can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeskError {
    /// The body is no request of the protocol.
    Body,
    /// The ticket does not open.
    Ticket(TicketError),
    /// No request waits under this id, or no longer.
    Unknown,
    /// Too many requests wait: [`WAITING`].
    Full,
    /// The system has no randomness for an id.
    NoRandomness,
    /// The ticket is not cleared.
    NotCleared(Error),
    /// The request was decided already.
    Decided,
}

/// Most requests that wait at once: each holds a ticket of at most 4 KiB and a discharge of at
/// most 16 KiB, so 200 MiB is the worst and about 10 MiB the usual.
pub const WAITING: usize = 10_000;

/// How long a request waits, and how long its answer can be fetched again.
const LIFE: Duration = Duration::from_secs(600);

/// Seconds between two polls that the desk suggests.
const POLL_SECONDS: u64 = 1;

struct Entry {
    until: Timestamp,
    state: State,
}

enum State {
    Waiting(OpenTicket),
    /// Kept until `until`: an answer that was lost on the way can be fetched again.
    Discharged(Zeroizing<String>),
    Refused {
        code: String,
        message: String,
    },
}

impl Desk {
    /// A desk that opens tickets with these keys.
    #[must_use]
    pub fn new(keys: AuthorityKeys) -> Self {
        Self { keys, table: Mutex::new(HashMap::new()), life: LIFE }
    }

    /// How long a request waits and its answer stays; 10 minutes if not said.
    #[must_use]
    pub const fn with_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Opens the ticket of a `POST` body.
    ///
    /// # Errors
    /// [`DeskError::Body`], [`DeskError::Ticket`].
    pub fn open(&self, body: &[u8]) -> Result<OpenTicket, DeskError> {
        if body.len() > BODY_BYTES {
            return Err(DeskError::Body);
        }
        let text = message::read_ticket(body).ok_or(DeskError::Body)?;
        let ticket = message::decode(&text).ok_or(DeskError::Body)?;
        let ticket =
            Ticket::parse(&ticket).map_err(|what| DeskError::Ticket(TicketError::Malformed(what)))?;
        ticket.open(&self.keys).map_err(DeskError::Ticket)
    }

    /// Answers at once: the discharge, living for `lifetime` (capped at 10 minutes by default)
    /// and restricted by `caveats`.
    ///
    /// # Errors
    /// [`DeskError::NotCleared`] with the reason why no discharge can be written.
    pub fn immediate(
        &self,
        cleared: &ClearedTicket,
        lifetime: Duration,
        caveats: &[&str],
    ) -> Result<Reply, DeskError> {
        let discharge = cleared.discharge(lifetime, caveats).map_err(DeskError::NotCleared)?;
        Ok(Reply::discharge(discharge.to_discharge_text().as_str()))
    }

    /// Keeps the ticket for later and answers with an address to poll: `poll_url` of the new id.
    /// With `user_url`, a person is asked to go there.
    ///
    /// Both addresses should be relative, or within the desk's own origin: clients refuse others.
    ///
    /// # Errors
    /// [`DeskError::Full`], [`DeskError::NoRandomness`].
    pub fn defer(
        &self,
        ticket: OpenTicket,
        now: Timestamp,
        poll_url: impl FnOnce(&PollId) -> String,
        user_url: Option<&dyn Fn(&PollId) -> String>,
    ) -> Result<(PollId, Reply), DeskError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| DeskError::NoRandomness)?;
        let id = PollId(bytes);
        let mut table = self.table();
        if table.len() >= WAITING {
            table.retain(|_, entry| entry.until > now);
        }
        if table.len() >= WAITING {
            return Err(DeskError::Full);
        }
        table.insert(id, Entry { until: now.saturating_add(self.life), state: State::Waiting(ticket) });
        drop(table);
        let answer =
            Answer::Pending { poll_url: Some(poll_url(&id)), user_url: user_url.map(|url| url(&id)) };
        Ok((id, Reply { status: 202, body: answer.write(), retry_after: Some(POLL_SECONDS) }))
    }

    /// What the waiting ticket asks for, line by line: to show a person what they confirm.
    ///
    /// # Errors
    /// [`DeskError::Unknown`], [`DeskError::Decided`].
    pub fn describe(&self, id: &PollId, now: Timestamp) -> Result<Vec<String>, DeskError> {
        let table = self.table();
        match table.get(id).filter(|entry| entry.until > now).map(|entry| &entry.state) {
            Some(State::Waiting(ticket)) => Ok(ticket.describe().map(str::to_owned).collect()),
            Some(State::Discharged(_) | State::Refused { .. }) => Err(DeskError::Decided),
            None => Err(DeskError::Unknown),
        }
    }

    /// Decides a waiting request: `clear` gets the opened ticket and clears it. When it does not
    /// clear, the client is told that it was refused, and nothing can be discharged.
    ///
    /// # Errors
    /// [`DeskError::Unknown`], [`DeskError::Decided`], [`DeskError::NotCleared`].
    pub fn decide(
        &self,
        id: &PollId,
        now: Timestamp,
        lifetime: Duration,
        caveats: &[&str],
        clear: impl FnOnce(OpenTicket) -> Result<ClearedTicket, Error>,
    ) -> Result<(), DeskError> {
        let mut table = self.table();
        let entry = table.get_mut(id).filter(|entry| entry.until > now).ok_or(DeskError::Unknown)?;
        let refused = || State::Refused {
            code: "not-cleared".to_owned(),
            message: "what the ticket asks for does not hold".to_owned(),
        };
        if !matches!(entry.state, State::Waiting(_)) {
            return Err(DeskError::Decided);
        }
        let State::Waiting(ticket) = std::mem::replace(&mut entry.state, refused()) else {
            return Err(DeskError::Decided);
        };
        let made: Result<TokenBuf, Error> =
            clear(ticket).and_then(|cleared| cleared.discharge(lifetime, caveats));
        let discharge = made.map_err(DeskError::NotCleared)?;
        entry.state = State::Discharged(Zeroizing::new(discharge.to_discharge_text().as_str().to_owned()));
        Ok(())
    }

    /// Refuses a waiting request, for example because the person said no.
    ///
    /// # Errors
    /// [`DeskError::Unknown`], [`DeskError::Decided`].
    pub fn refuse(&self, id: &PollId, now: Timestamp, code: &str, message: &str) -> Result<(), DeskError> {
        let mut table = self.table();
        let entry = table.get_mut(id).filter(|entry| entry.until > now).ok_or(DeskError::Unknown)?;
        if !matches!(entry.state, State::Waiting(_)) {
            return Err(DeskError::Decided);
        }
        entry.state = State::Refused { code: code.to_owned(), message: message.to_owned() };
        Ok(())
    }

    /// Answers a poll. The same answer comes again until the request expires, so that one lost on
    /// the way is not lost for good.
    #[must_use]
    pub fn poll(&self, id: &PollId, now: Timestamp) -> Reply {
        let mut table = self.table();
        if table.get(id).is_some_and(|entry| entry.until <= now) {
            table.remove(id);
        }
        match table.get(id).map(|entry| &entry.state) {
            None => Reply::refusal(410, "expired", "no request waits here, or no longer"),
            Some(State::Waiting(_)) => {
                let answer = Answer::Pending { poll_url: None, user_url: None };
                Reply { status: 202, body: answer.write(), retry_after: Some(POLL_SECONDS) }
            }
            Some(State::Discharged(text)) => Reply::discharge(text),
            Some(State::Refused { code, message }) => Reply::refusal(403, code, message),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<PollId, Entry>> {
        // Every change of the table is one assignment, so a panic elsewhere leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({}, {} waiting)", self.keys.authority(), self.table().len())
    }
}

impl PollId {
    /// For an address.
    #[must_use]
    pub fn to_text(&self) -> String {
        message::encode(&self.0)
    }

    /// From an address.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        message::decode(text)?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for PollId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PollId(..)")
    }
}

impl Reply {
    fn discharge(text: &str) -> Self {
        Self { status: 200, body: Answer::Discharge(text.to_owned()).write(), retry_after: None }
    }

    /// Says no, with a stable code and a sentence for people.
    #[must_use]
    pub fn refusal(status: u16, code: &str, message: &str) -> Self {
        let answer = Answer::Refused { code: code.to_owned(), message: message.to_owned() };
        Self { status, body: answer.write(), retry_after: None }
    }
}

impl DeskError {
    /// The answer to send.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let (status, code) = match self {
            Self::Body => (400, "bad-request"),
            Self::Ticket(_) => (400, "bad-ticket"),
            Self::Unknown => (410, "expired"),
            Self::Full | Self::NoRandomness => (503, "busy"),
            Self::NotCleared(_) => (403, "not-cleared"),
            Self::Decided => (409, "decided"),
        };
        Reply::refusal(status, code, &self.to_string())
    }
}

impl fmt::Display for DeskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("the body is not {\"ticket\": …}"),
            Self::Ticket(error) => error.fmt(f),
            Self::Unknown => f.write_str("no request waits here, or no longer"),
            Self::Full => f.write_str("too many requests are waiting"),
            Self::NoRandomness => f.write_str("the system has no randomness"),
            Self::NotCleared(error) => write!(f, "what the ticket asks for does not hold: {error}"),
            Self::Decided => f.write_str("the request was decided already"),
        }
    }
}

impl std::error::Error for DeskError {}
