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

impl Health {
    /// Sorts addresses: resting ones last, ones not measured lately first so that they are,
    /// then by the time of an answer.
    fn distance(&self, now: Duration) -> (bool, Duration) {
        let answer = match self.answer {
            Some((answer, at)) if now.saturating_sub(at) < MEASURED => answer,
            Some(_) | None => Duration::ZERO,
        };
        (now < self.rests_until, answer)
    }

    fn failed(&mut self, now: Duration) {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let rest = REST.saturating_mul(factor).min(REST_MOST);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = now.saturating_add(rest);
    }

    fn answered(&mut self, started: Duration, now: Duration) {
        let took = now.saturating_sub(started);
        self.failures = 0;
        self.rests_until = Duration::ZERO;
        let smoothed = match self.answer {
            Some((before, _)) => before.saturating_mul(7).saturating_add(took) / 8,
            None => took,
        };
        self.answer = Some((smoothed, now));
    }
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

    /// Where it stands among all addresses: the smallest is asked first.
    pub(super) fn distance(&self, now: Duration) -> (bool, Duration) {
        lock(&self.health).distance(now)
    }

    /// Leaves the address alone for a while.
    pub(super) fn rest(&self, clock: &SystemClock) {
        lock(&self.health).failed(clock.read().monotonic);
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
                            lock(&self.health).answered(started, deadline.now());
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn measured(took: u64, at: u64) -> Health {
        let mut health = Health::default();
        health.answered(ms(at - took), ms(at));
        health
    }

    /// PR-70.
    #[test]
    fn the_nearest_comes_first_the_unmeasured_before_it_and_the_failed_last() {
        let now = ms(10_000);
        let (near, far, new) = (measured(5, 9_000), measured(80, 9_000), Health::default());
        let mut failed = measured(1, 9_000);
        failed.failed(ms(9_900));
        let mut order = [&failed, &far, &near, &new];
        order.sort_by_key(|health| health.distance(now));
        let at = |health: &Health| order.iter().position(|other| std::ptr::eq(*other, health)).unwrap();
        assert_eq!([at(&new), at(&near), at(&far), at(&failed)], [0, 1, 2, 3]);
        // A measurement of ten minutes ago is none.
        assert_eq!(near.distance(ms(9_000) + MEASURED), (false, Duration::ZERO));
    }

    #[test]
    fn one_slow_answer_does_not_make_a_near_address_far() {
        let mut near = measured(10, 1_000);
        near.answered(ms(2_000), ms(2_090));
        assert_eq!(near.distance(ms(2_100)), (false, ms(20)));
    }

    /// PR-70.
    #[test]
    fn who_fails_again_and_again_rests_twice_as_long_each_time_and_half_a_minute_at_most() {
        let mut health = Health::default();
        for rest in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            health.failed(ms(1));
            assert!(health.distance(ms(rest)).0 && !health.distance(ms(rest + 1)).0, "{rest}");
        }
        (0..100).for_each(|_| health.failed(ms(1)));
        assert!(!health.distance(REST_MOST + ms(1)).0);
        // One answer, and it counts as any other.
        health.answered(ms(40_000), ms(40_010));
        assert_eq!(health.distance(ms(40_010)), (false, ms(10)));
        health.failed(ms(1));
        assert!(!health.distance(ms(501)).0, "its failures are forgotten");
    }
}
