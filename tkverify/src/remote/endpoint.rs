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
use crate::https;
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
/// How long others leave an address alone that one of them tries again after a rest.
const PROBE: Duration = Duration::from_secs(5);
/// The signer closes idle connections after 30 s; a connection is not used again after this.
const IDLE: Duration = Duration::from_secs(15);

pub(super) struct Endpoint {
    address: SignerAddress,
    /// Where the HTTP client finds it.
    base: String,
    client: Client,
    line: Mutex<Line>,
    health: Mutex<Health>,
}

/// The session, and what whoever waited for one must know.
#[derive(Default)]
struct Line {
    session: Option<Arc<Session>>,
    /// When and why a handshake last came to nothing.
    failed: Option<(Duration, Trouble)>,
}

#[derive(Default)]
struct Health {
    /// Smoothed time of an answer, and when it was last measured.
    answer: Option<(Duration, Duration)>,
    /// In a row, and when the last of them was.
    failures: u32,
    failed_at: Duration,
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

    /// A call that began at `started` failed. Those that were under way together are one failure:
    /// a signer that restarts is not left alone for longer because more asked it.
    fn failed(&mut self, started: Duration, now: Duration) {
        if self.failures > 0 && started <= self.failed_at {
            return;
        }
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let rest = REST.saturating_mul(factor).min(REST_MOST);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        self.rests_until = now.saturating_add(rest);
    }

    /// Whoever goes there first after a rest goes alone: if it hangs still, one call waits for it
    /// and not all.
    fn picked(&mut self, now: Duration) {
        if self.failures > 0 && now >= self.rests_until {
            self.rests_until = now.saturating_add(PROBE);
        }
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

    pub(super) fn now(&self) -> Duration {
        self.clock.read().monotonic
    }
}

/// Speaks HTTP for all addresses of a client: it keeps connections by address.
#[derive(Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
    https: https::Fault,
}

pub(super) fn client() -> Client {
    let (config, https) = https::rooted(ureq::Agent::config_builder());
    let config = config
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
    Client { agent: unix::agent(config), https }
}

impl Endpoint {
    pub(super) fn new(address: SignerAddress, client: Client) -> Self {
        let base = unix::base(&address.url);
        Self { address, base, client, line: Mutex::default(), health: Mutex::default() }
    }

    pub(super) fn url(&self) -> &str {
        &self.address.url
    }

    /// Where it stands among all addresses: the smallest is asked first.
    pub(super) fn distance(&self, now: Duration) -> (bool, Duration) {
        lock(&self.health).distance(now)
    }

    /// A call is about to try this address before all others.
    pub(super) fn picked(&self, now: Duration) {
        lock(&self.health).picked(now);
    }

    /// Leaves the address alone for a while, since a call that began at `started` failed.
    pub(super) fn rest(&self, started: Duration, now: Duration) {
        lock(&self.health).failed(started, now);
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

    /// The session, opened if there is none or it is old. One thread opens, the others wait; what
    /// came to nothing for it came to nothing for all that waited, who may turn elsewhere at once.
    fn session(&self, key: &ClientKey, deadline: &Deadline) -> Result<Arc<Session>, Failure> {
        let began = deadline.now();
        let mut line = lock(&self.line);
        if let Some(session) = line.session.as_ref().filter(|session| !session.is_old(deadline.now())) {
            return Ok(Arc::clone(session));
        }
        if let Some((_, trouble)) = line.failed.as_ref().filter(|(at, _)| *at > began) {
            return Err(Failure { trouble: trouble.clone(), again: true });
        }
        let opened = self.open(key, deadline);
        match &opened {
            Ok(session) => *line = Line { session: Some(Arc::clone(session)), failed: None },
            Err(failure) => line.failed = Some((deadline.now(), failure.trouble.clone())),
        }
        opened
    }

    fn open(&self, key: &ClientKey, deadline: &Deadline) -> Result<Arc<Session>, Failure> {
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
                    Ok(Arc::new(session))
                }
                Frame::Refused(refused) => Err(fail(trouble(refused, status))),
            };
        }
    }

    /// Forgets a session, unless another thread has replaced it already.
    fn drop_session(&self, session: &Arc<Session>) {
        let mut line = lock(&self.line);
        if line.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            line.session = None;
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
        if let (Some(why), true) = (&self.client.https, self.base.starts_with("https:")) {
            return Err(Trouble::Connection(why.clone()));
        }
        let request = self.client.agent.post(format!("{}{path}", self.base));
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
        failed.failed(ms(9_800), ms(9_900));
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
        let mut now = ms(1);
        let fails = |health: &mut Health, now: &mut Duration, rest: u64| {
            health.failed(*now, *now);
            *now += ms(rest);
            assert!(health.distance(*now - ms(1)).0 && !health.distance(*now).0, "{rest}");
        };
        for rest in [500, 1_000, 2_000, 4_000, 8_000, 16_000].into_iter().chain([30_000; 100]) {
            fails(&mut health, &mut now, rest);
        }
        // One answer, and it counts as any other.
        health.answered(now, now + ms(10));
        assert_eq!(health.distance(now + ms(10)), (false, ms(10)));
        fails(&mut health, &mut now, 500);
    }

    /// PR-70.
    #[test]
    fn calls_that_failed_together_are_one_failure_and_one_call_tries_again_first() {
        let mut health = Health::default();
        (0..32).for_each(|call| health.failed(ms(call), ms(1_000 + call)));
        assert!(health.distance(ms(1_499)).0 && !health.distance(ms(1_500)).0);
        // The first to come back has it alone.
        health.picked(ms(1_500));
        assert!(health.distance(ms(1_501)).0);
        let mut hangs = Health { ..health };
        hangs.failed(ms(1_500), ms(6_000));
        assert!(hangs.distance(ms(6_999)).0 && !hangs.distance(ms(7_000)).0);
        health.answered(ms(1_500), ms(1_510));
        assert_eq!(health.distance(ms(1_510)), (false, ms(10)));
        // Who never failed is nobody's to try alone.
        health.picked(ms(1_600));
        assert!(!health.distance(ms(1_601)).0);
    }
}
