//! One address of the signer: its session, its connections, how near it is.

use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tkcore::protocol::{
    Frame, RPC_BODY_BYTES, RPC_PATH, Refused, RpcAnswer, SESSION_BODY_BYTES, SESSION_PATH, SessionAnswer,
};
use zeroize::Zeroizing;

use super::error::Trouble;
use super::session::{Opening, Session};
use super::unix;
use crate::clock::{Clock as _, SystemClock};
use crate::{ClientKey, SignerAddress};

/// How long a measurement of an address counts; after that it is measured again.
const MEASURED: Duration = Duration::from_secs(600);
/// How long an address that failed is tried after all others: doubled for each failure in a
/// row, up to [`REST_MOST`].
const REST: Duration = Duration::from_millis(500);
const REST_MOST: Duration = Duration::from_secs(30);
/// How long to wait for a connection. Less than a call's deadline, so that the next address
/// still has its turn.
const CONNECT: Duration = Duration::from_secs(3);
/// The signer closes idle connections after 30 s; a connection is not used again after this.
const IDLE: Duration = Duration::from_secs(15);

pub(super) struct Endpoint {
    address: SignerAddress,
    /// Where the HTTP client finds it.
    base: String,
    agent: ureq::Agent,
    session: Mutex<Option<Arc<Session>>>,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// Smoothed time of an answer, and when it was last measured.
    answer: Option<(Duration, Duration)>,
    failures: u32,
    rests_until: Duration,
}

/// Why an address gave no answer. `again`: not a reason to leave it alone for a while.
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) again: bool,
}

/// The end of one call, on the monotonic clock.
pub(super) struct Deadline {
    clock: SystemClock,
    end: Duration,
    /// How much of what is left one address may take: all of it, or half when there is another
    /// one to turn to.
    share: u32,
}

impl Deadline {
    pub(super) fn new(clock: SystemClock, after: Duration, addresses: usize) -> Self {
        let end = clock.read().monotonic.saturating_add(after);
        Self { clock, end, share: if addresses > 1 { 2 } else { 1 } }
    }

    pub(super) fn left(&self) -> Duration {
        self.end.saturating_sub(self.now())
    }

    fn attempt(&self) -> Duration {
        self.left().checked_div(self.share).unwrap_or_default()
    }

    fn now(&self) -> Duration {
        self.clock.read().monotonic
    }
}

/// One agent for all addresses of a client: it keeps connections by address.
pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("tkverify/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .max_response_header_size(8 * 1024)
        .max_idle_connections(64)
        .max_idle_connections_per_host(32)
        .max_idle_age(IDLE)
        .build();
    unix::agent(config)
}

impl Endpoint {
    pub(super) fn new(address: SignerAddress, agent: ureq::Agent) -> Self {
        let base = unix::base(&address.url);
        Self { address, base, agent, session: Mutex::default(), health: Mutex::default() }
    }

    pub(super) fn url(&self) -> &str {
        &self.address.url
    }

    /// Sorts addresses: resting ones last, ones not measured lately first so that they are,
    /// then by the time of an answer.
    pub(super) fn distance(&self, now: Duration) -> (bool, Duration) {
        let health = lock(&self.health);
        let answer = match health.answer {
            Some((answer, at)) if now.saturating_sub(at) < MEASURED => answer,
            Some(_) | None => Duration::ZERO,
        };
        (now < health.rests_until, answer)
    }

    /// Leaves the address alone for a while.
    pub(super) fn rest(&self, clock: &SystemClock) {
        let mut health = lock(&self.health);
        let factor = 1u32.checked_shl(health.failures).unwrap_or(u32::MAX);
        let rest = REST.saturating_mul(factor).min(REST_MOST);
        health.failures = health.failures.saturating_add(1);
        health.rests_until = clock.read().monotonic.saturating_add(rest);
    }

    fn answered(&self, started: Duration, now: Duration) {
        let took = now.saturating_sub(started);
        let mut health = lock(&self.health);
        health.failures = 0;
        health.rests_until = Duration::ZERO;
        let smoothed = match health.answer {
            Some((before, _)) => before.saturating_mul(7).saturating_add(took) / 8,
            None => took,
        };
        health.answer = Some((smoothed, now));
    }

    /// Sends one payload and gives the decrypted answer. A session that is not known there any
    /// more is replaced once; a connection that broke is tried once more, under a new number.
    pub(super) fn exchange(
        &self,
        key: &ClientKey,
        payload: &[u8],
        deadline: &Deadline,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut broke = false;
        let mut replaced = false;
        loop {
            let session = self.session(key, deadline)?;
            let sealed = session.seal(payload).ok_or(fail(Trouble::NotAuthentic))?;
            let started = deadline.now();
            match self.post(RPC_PATH, &sealed.body, RPC_BODY_BYTES, deadline) {
                Ok((status, body)) => {
                    let frame = Frame::<RpcAnswer<'_>>::decode(&body);
                    match frame.map_err(|_| fail(Trouble::Foreign(status)))? {
                        Frame::Accepted(answer) if answer.number == sealed.number => {
                            let opened = session.open(sealed.number, answer.message);
                            let opened = opened.ok_or(fail(Trouble::NotAuthentic))?;
                            self.answered(started, deadline.now());
                            return Ok(opened);
                        }
                        Frame::Accepted(_) => return Err(fail(Trouble::NotAuthentic)),
                        Frame::Refused(Refused::Session) if !replaced => {
                            replaced = true;
                            self.drop_session(&session);
                        }
                        Frame::Refused(refused) => return Err(fail(trouble(refused, status))),
                    }
                }
                // The usual cause is that the signer closed an idle connection just now. Whether
                // it got the request is unknown: the same request id tells it.
                Err(Trouble::Connection(_)) if !broke && !deadline.left().is_zero() => broke = true,
                Err(trouble) => return Err(fail(trouble)),
            }
        }
    }

    /// The session, opened if there is none or it is old. One thread opens, the others wait.
    fn session(&self, key: &ClientKey, deadline: &Deadline) -> Result<Arc<Session>, Failure> {
        let mut slot = lock(&self.session);
        if let Some(session) = slot.as_ref().filter(|session| !session.is_old(deadline.now())) {
            return Ok(Arc::clone(session));
        }
        let mut broke = false;
        loop {
            // Each attempt is a new handshake: the first message of one is never sent twice.
            let opening = Opening::new(key, &self.address.key).ok_or(fail(Trouble::Handshake))?;
            let (status, body) = match self.post(SESSION_PATH, &opening.body(), SESSION_BODY_BYTES, deadline)
            {
                Ok(answer) => answer,
                Err(Trouble::Connection(_)) if !broke && !deadline.left().is_zero() => {
                    broke = true;
                    continue;
                }
                Err(trouble) => return Err(fail(trouble)),
            };
            return match Frame::<SessionAnswer>::decode(&body).map_err(|_| fail(Trouble::Foreign(status)))? {
                Frame::Accepted(answer) => {
                    let session = opening.finish(&answer, deadline.now()).ok_or(fail(Trouble::Handshake))?;
                    let session = Arc::new(session);
                    *slot = Some(Arc::clone(&session));
                    Ok(session)
                }
                Frame::Refused(refused) => Err(fail(trouble(refused, status))),
            };
        }
    }

    /// Forgets a session, unless another thread has replaced it already.
    fn drop_session(&self, session: &Arc<Session>) {
        let mut slot = lock(&self.session);
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *slot = None;
        }
    }

    fn post(
        &self,
        path: &str,
        body: &[u8],
        limit: usize,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>), Trouble> {
        let left = deadline.attempt();
        if left.is_zero() {
            return Err(Trouble::Timeout);
        }
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = request.config().timeout_global(Some(left)).build();
        let request = request.content_type("application/octet-stream");
        let mut response = request.send(body).map_err(|error| transport(&error))?;
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        let past = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = response.body_mut().as_reader().take(past).read_to_end(&mut answer);
        read.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(inner) => transport(inner),
            None => Trouble::Connection(error.to_string()),
        })?;
        if answer.len() > limit {
            return Err(Trouble::Foreign(status));
        }
        Ok((status, answer))
    }
}

fn fail(trouble: Trouble) -> Failure {
    let again = matches!(trouble, Trouble::Busy | Trouble::Session);
    Failure { trouble, again }
}

fn trouble(refused: Refused, status: u16) -> Trouble {
    match refused {
        Refused::Session => Trouble::Session,
        Refused::Handshake => Trouble::Handshake,
        Refused::Busy => Trouble::Busy,
        Refused::Version { lowest, highest } => Trouble::Version { lowest, highest },
        // Our bodies have the right form: something between changed them.
        _ => Trouble::Foreign(status),
    }
}

fn transport(error: &ureq::Error) -> Trouble {
    match error {
        ureq::Error::Timeout(_) => Trouble::Timeout,
        other => Trouble::Connection(other.to_string()),
    }
}

/// What a lock guards here is replaced whole, so a thread that stopped in between left no half.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
