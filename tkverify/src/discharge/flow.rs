//! The client's side of one discharge as a pure state machine: what to send next, how long to
//! wait, whom to bother. The shell in `client.rs` only carries it out.

use std::time::Duration;

use tkcore::{AuthorityId, Timestamp, TokenBuf};

use super::People;
use super::error::{DischargeError, tame};
use super::message::Answer;
use super::origin::{Address, Origin};

/// First pause between two polls.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause that doubling reaches.
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// Longest pause that a `Retry-After` reaches.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(30);

/// What the shell does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// `POST` the ticket.
    Post(Address),
    /// `GET`.
    Poll(Address),
    /// Show this to a person; then ask for the next step.
    Show(Address),
    /// Pause; then ask for the next step.
    Wait(Duration),
    /// Here it is.
    Done(TokenBuf),
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Came<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: &'a [u8],
    /// Since the flow began.
    pub(crate) elapsed: Duration,
    pub(crate) now: Timestamp,
    /// Random, for the jitter.
    pub(crate) random: u16,
}

pub(crate) struct Flow<'a> {
    authority: AuthorityId,
    address: &'a Address,
    /// Origins beside the authority's own that a person may be sent to.
    user_origins: &'a [Origin],
    people: People,
    patience: Duration,
    ticket: &'a [u8],
    state: State,
    pause: Duration,
    shown: bool,
}

enum State {
    Post,
    Show { user: Address, poll: Address },
    Wait { pause: Duration, then: Option<Address> },
    Poll(Address),
    Sent { poll: Option<Address> },
    Done(Option<TokenBuf>),
}

impl<'a> Flow<'a> {
    pub(crate) const fn new(
        authority: AuthorityId,
        address: &'a Address,
        user_origins: &'a [Origin],
        people: People,
        patience: Duration,
        ticket: &'a [u8],
    ) -> Self {
        Self {
            authority,
            address,
            user_origins,
            people,
            patience,
            ticket,
            state: State::Post,
            pause: PAUSE_FIRST,
            shown: false,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Step, DischargeError> {
        match std::mem::replace(&mut self.state, State::Done(None)) {
            State::Post => {
                self.state = State::Sent { poll: None };
                Ok(Step::Post(self.address.clone()))
            }
            State::Show { user, poll } => {
                self.state = State::Poll(poll);
                Ok(Step::Show(user))
            }
            State::Wait { pause, then } => {
                self.state = then.map_or(State::Post, State::Poll);
                Ok(Step::Wait(pause))
            }
            State::Poll(address) => {
                self.state = State::Sent { poll: Some(address.clone()) };
                Ok(Step::Poll(address))
            }
            State::Done(Some(token)) => Ok(Step::Done(token)),
            State::Done(None) | State::Sent { .. } => Err(DischargeError::BadAnswer("none was handed over")),
        }
    }

    /// Takes what came for the last `Post` or `Poll`; `None`: no answer, the connection failed.
    pub(crate) fn came(
        &mut self,
        came: Result<&Came<'_>, (String, Duration, u16)>,
    ) -> Result<(), DischargeError> {
        let State::Sent { poll } = std::mem::replace(&mut self.state, State::Done(None)) else {
            return Err(DischargeError::BadAnswer("it came unasked"));
        };
        let came = match came {
            Ok(came) => came,
            Err((why, elapsed, random)) => {
                let given_up = DischargeError::Unreachable(why);
                return self.again(poll, None, elapsed, random).map_err(|_| given_up);
            }
        };
        match came.status {
            200 | 202 | 403 => {}
            300..=399 => return Err(DischargeError::Redirect(came.status)),
            404 | 410 if poll.is_some() => return Err(DischargeError::Expired),
            429 | 500..=599 => {
                let given_up = DischargeError::Unreachable(format!("status {}", came.status));
                return self.again(poll, came.retry_after, came.elapsed, came.random).map_err(|_| given_up);
            }
            _ => {
                if let Some(Answer::Refused { code, message }) = Answer::read(came.body) {
                    return Err(self.refused(&code, &message));
                }
                return Err(DischargeError::BadAnswer("an unexpected status"));
            }
        }
        let answer =
            Answer::read(came.body).ok_or(DischargeError::BadAnswer("it is none of the three answers"))?;
        match (came.status, answer) {
            (200, Answer::Discharge(text)) => {
                self.state = State::Done(Some(check(&text, self.ticket, came.now)?));
                Ok(())
            }
            (202, Answer::Pending { poll_url, user_url }) => {
                let base = poll.clone().unwrap_or_else(|| self.address.clone());
                let poll = match (poll_url, poll) {
                    (Some(url), _) => self.own(base.resolve(&url)?)?,
                    (None, Some(poll)) => poll,
                    (None, None) => return Err(DischargeError::BadAnswer("no address to poll")),
                };
                match (user_url, self.people) {
                    (None, _) => self.again(Some(poll), came.retry_after, came.elapsed, came.random),
                    (Some(_), People::Never) => {
                        Err(DischargeError::NeedsPerson { authority: self.authority })
                    }
                    (Some(url), People::Ask) => {
                        let user = base.resolve(&url)?;
                        if user.origin() != self.address.origin()
                            && !self.user_origins.contains(user.origin())
                        {
                            return Err(self.elsewhere(&user));
                        }
                        // Shown once: while the person is busy, the answers may repeat it.
                        if std::mem::replace(&mut self.shown, true) {
                            return self.again(Some(poll), came.retry_after, came.elapsed, came.random);
                        }
                        self.state = State::Show { user, poll };
                        Ok(())
                    }
                }
            }
            (403, Answer::Refused { code, message }) => Err(self.refused(&code, &message)),
            (_, _) => Err(DischargeError::BadAnswer("the status does not fit it")),
        }
    }

    fn refused(&self, code: &str, message: &str) -> DischargeError {
        DischargeError::Refused {
            authority: self.authority,
            code: tame(code, 64),
            message: tame(message, 256),
        }
    }

    fn own(&self, address: Address) -> Result<Address, DischargeError> {
        if address.origin() == self.address.origin() { Ok(address) } else { Err(self.elsewhere(&address)) }
    }

    fn elsewhere(&self, address: &Address) -> DischargeError {
        DischargeError::OtherOrigin {
            configured: self.address.origin().clone(),
            named: address.origin().clone(),
        }
    }

    /// Waits and asks again, as long as patience lasts: half of the pause for certain, the other
    /// half by chance, twice as long each time.
    fn again(
        &mut self,
        then: Option<Address>,
        retry_after: Option<Duration>,
        elapsed: Duration,
        random: u16,
    ) -> Result<(), DischargeError> {
        let half = self.pause / 2;
        let jittered = half.saturating_add(half.saturating_mul(u32::from(random)) / u32::from(u16::MAX));
        self.pause = self.pause.saturating_mul(2).min(PAUSE_MOST);
        let pause = jittered.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MOST));
        if elapsed.saturating_add(pause) > self.patience {
            return Err(DischargeError::TimedOut);
        }
        self.state = State::Wait { pause, then };
        Ok(())
    }
}

/// Whether `text` is a discharge of this ticket that has an end and has not reached it.
fn check(text: &str, ticket: &[u8], now: Timestamp) -> Result<TokenBuf, DischargeError> {
    let (kind, token) = TokenBuf::from_text(text).map_err(DischargeError::Malformed)?;
    if kind != tkcore::TextKind::Discharge {
        return Err(DischargeError::WrongDischarge("it is no discharge"));
    }
    if token.as_token().describe_untrusted().identifier_bytes() != ticket {
        return Err(DischargeError::WrongDischarge("it is of another ticket"));
    }
    match end_of(&token) {
        None => Err(DischargeError::WrongDischarge("it has no end")),
        Some(end) if end <= now => Err(DischargeError::WrongDischarge("it has ended already")),
        Some(_) => Ok(token),
    }
}

/// When a discharge ends, by its own `time <` caveats: the earliest. Not proven, and good enough
/// for knowing when to ask for the next one.
pub(crate) fn end_of(discharge: &TokenBuf) -> Option<Timestamp> {
    let token = discharge.as_token();
    let untrusted = token.describe_untrusted();
    let first_party = untrusted.caveats().filter(|caveat| !caveat.third_party);
    let bounds = first_party.filter_map(|caveat| {
        let text = std::str::from_utf8(caveat.id).ok()?;
        Timestamp::from_rfc3339(text.strip_prefix("time < ")?).ok()
    });
    bounds.min()
}
