use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tkcore::protocol::{
    Bucket, ClientKey, Frame, HANDSHAKE_REQUEST_BYTES, Rate, Refused, RpcAnswer, RpcRequest, SessionAnswer,
    SessionId, SessionRequest, Window,
};
use zeroize::Zeroizing;

use super::counts::Counts;
use super::noise::{ServerKey, Transport};
use crate::codec::count;
use crate::random;

/// How long an answered handshake waits for its first authentic request. Until then a recording
/// of the first message could be all there is.
const UNCONFIRMED_LIFE: Duration = Duration::from_secs(10);
/// Most answered handshakes that wait, for one client: a recording fills the place of the
/// client it was taken from and of nobody else.
const UNCONFIRMED_PER_CLIENT: usize = 16;
/// Most answered handshakes that wait: 256 clients' share, at some 700 bytes each 3 MiB.
const UNCONFIRMED: usize = 4096;
/// How long a session lives, however busy: its keys are then replaced by a new handshake.
const LIFE: Duration = Duration::from_secs(3600);
/// How long a session lives without a request.
const IDLE: Duration = Duration::from_secs(900);
/// Most sessions of one client: its processes and their reconnects. The one idle for longest
/// makes room.
const PER_CLIENT: usize = 64;
/// Most sessions: some 20 MiB.
const SESSIONS: usize = 32_768;
/// Numbers from this one on are refused: a session is replaced long before.
const NUMBERS: u64 = 1 << 48;

/// All sessions of this process. They live in memory only: after a restart a recorded message
/// meets no session that could read it.
pub(crate) struct Sessions {
    key: ServerKey,
    instance: [u8; 8],
    rate: Rate,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    unconfirmed: Pool,
    confirmed: Pool,
    buckets: HashMap<ClientKey, Bucket<Instant>>,
}

/// Sessions, and how many of them each client has.
#[derive(Default)]
struct Pool {
    sessions: HashMap<SessionId, Arc<Session>>,
    each: Counts<ClientKey>,
}

impl Pool {
    fn insert(&mut self, id: SessionId, session: Arc<Session>) {
        self.each.add(session.client);
        self.sessions.insert(id, session);
    }

    fn remove(&mut self, id: &SessionId) -> Option<Arc<Session>> {
        let session = self.sessions.remove(id)?;
        self.each.remove(&session.client);
        Some(session)
    }

    /// Removes the client's session that is the least by `key`, if it has one.
    fn remove_first(&mut self, client: &ClientKey, key: impl Fn(&Session) -> Instant) -> bool {
        let own = self.sessions.iter().filter(|(_, other)| other.client == *client);
        let first = own.min_by_key(|(_, other)| key(other)).map(|(id, _)| *id);
        first.and_then(|id| self.remove(&id)).is_some()
    }

    fn retain(&mut self, keep: impl Fn(&Session) -> bool) {
        let ended: Vec<_> =
            self.sessions.iter().filter(|(_, session)| !keep(session)).map(|(id, _)| *id).collect();
        ended.iter().for_each(|id| drop(self.remove(id)));
    }
}

struct Session {
    client: ClientKey,
    /// The message that it began with. One that was recorded has the same bytes each time.
    first: [u8; HANDSHAKE_REQUEST_BYTES],
    transport: Transport,
    opened: Instant,
    state: Mutex<State>,
}

struct State {
    window: Window,
    used: Instant,
}

/// An authentic request, its number marked as used. Ends in at most one answer.
pub(crate) struct Opened {
    /// Who speaks.
    pub(crate) client: ClientKey,
    /// What is said.
    pub(crate) payload: Zeroizing<Vec<u8>>,
    session: Arc<Session>,
    number: u64,
}

impl Opened {
    /// The body of the answer. Takes the request: nothing can be encrypted under its number
    /// again.
    pub(crate) fn answer(self, payload: &[u8]) -> Vec<u8> {
        match self.session.transport.seal(self.number, payload) {
            Some(message) => Frame::Accepted(RpcAnswer { number: self.number, message: &message }).encode(),
            None => refuse(Refused::Session),
        }
    }
}

/// Body of a refusal on either endpoint.
pub(crate) fn refuse(refused: Refused) -> Vec<u8> {
    Frame::<SessionAnswer>::Refused(refused).encode()
}

impl Sessions {
    pub(crate) fn new(key: ServerKey, rate: Rate) -> Self {
        Self { key, instance: random::bytes(), rate, tables: Mutex::default() }
    }

    /// Judges the version and the shape of a handshake body: what costs nothing comes first.
    pub(crate) fn read_handshake(body: &[u8]) -> Result<SessionRequest, Refused> {
        Refused::unless_spoken(body)?;
        SessionRequest::decode(body).map_err(|_| Refused::Body)
    }

    /// Answers a handshake: some hundred microseconds of arithmetic, so call it beside the
    /// request thread.
    pub(crate) fn open(
        &self,
        request: &SessionRequest,
        now: Instant,
        known: impl Fn(&ClientKey) -> bool,
    ) -> Result<SessionAnswer, Refused> {
        let answered =
            self.key.answer(request.version, &request.handshake, known).ok_or(Refused::Handshake)?;
        let id = SessionId::new(self.instance, random::bytes());
        let session = Session {
            client: answered.client,
            first: request.handshake,
            transport: answered.transport,
            opened: now,
            state: Mutex::new(State { window: Window::new(), used: now }),
        };
        self.tables().wait(id, Arc::new(session), now)?;
        Ok(SessionAnswer { session: id, handshake: answered.answer })
    }

    /// Opens a request. Everything that can be wrong before the message is authentic gets the
    /// one constant answer [`Refused::Session`].
    pub(crate) fn request(&self, body: &[u8], now: Instant) -> Result<Opened, Refused> {
        Refused::unless_spoken(body)?;
        let request = RpcRequest::decode(body).map_err(|_| Refused::Body)?;
        let session = self.tables().find(&request.session, now).ok_or(Refused::Session)?;
        if request.number >= NUMBERS {
            return Err(Refused::Session);
        }
        let payload = session.transport.open(request.number, request.message).ok_or(Refused::Session)?;
        {
            let mut state = lock(&session.state);
            if !state.window.mark(request.number) {
                return Err(Refused::Session);
            }
            state.used = now;
        }
        self.tables().confirm(&request.session);
        Ok(Opened { client: session.client, payload, session, number: request.number })
    }

    /// Takes one request from the client's allowance; else says how long until the next.
    pub(crate) fn allow(&self, client: &ClientKey, now: Instant) -> Result<(), Duration> {
        let rate = self.rate;
        let mut tables = self.tables();
        tables.buckets.entry(*client).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }

    /// Ends every session of a client that is no longer one.
    pub(crate) fn forget(&self, client: &ClientKey) {
        let mut tables = self.tables();
        tables.unconfirmed.retain(|session| session.client != *client);
        tables.confirmed.retain(|session| session.client != *client);
        tables.buckets.remove(client);
    }

    /// Drops what has ended. Called every few seconds; nothing relies on when.
    pub(crate) fn sweep(&self, now: Instant) {
        let rate = self.rate;
        let mut tables = self.tables();
        tables.drop_ended(now);
        tables.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
    }

    /// How many sessions wait for their first request, and how many are in use.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let tables = self.tables();
        (count(tables.unconfirmed.sessions.len()), count(tables.confirmed.sessions.len()))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        lock(&self.tables)
    }
}

impl Session {
    fn ended(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.opened);
        age >= LIFE || now.saturating_duration_since(lock(&self.state).used) >= IDLE
    }

    fn waited_out(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) >= UNCONFIRMED_LIFE
    }
}

impl Tables {
    /// Keeps an answered handshake until its first authentic request.
    fn wait(&mut self, id: SessionId, session: Arc<Session>, now: Instant) -> Result<(), Refused> {
        if self.unconfirmed.sessions.len() >= UNCONFIRMED {
            self.drop_ended(now);
            if self.unconfirmed.sessions.len() >= UNCONFIRMED {
                return Err(Refused::Busy);
            }
        }
        // A recording pushes out nothing: one that waits already makes no room.
        if self.unconfirmed.sessions.values().any(|other| other.first == session.first) {
            return Err(Refused::Busy);
        }
        if self.unconfirmed.each.of(&session.client) >= UNCONFIRMED_PER_CLIENT {
            self.unconfirmed.remove_first(&session.client, |other| other.opened);
        }
        self.unconfirmed.insert(id, session);
        Ok(())
    }

    fn find(&mut self, id: &SessionId, now: Instant) -> Option<Arc<Session>> {
        if let Some(session) = self.confirmed.sessions.get(id) {
            if !session.ended(now) {
                return Some(Arc::clone(session));
            }
            self.confirmed.remove(id);
            return None;
        }
        self.unconfirmed.sessions.get(id).filter(|session| !session.waited_out(now)).map(Arc::clone)
    }

    /// Moves a session whose client has shown that it holds the keys.
    fn confirm(&mut self, id: &SessionId) {
        let Some(session) = self.unconfirmed.remove(id) else { return };
        let full = self.confirmed.each.of(&session.client) >= PER_CLIENT
            || self.confirmed.sessions.len() >= SESSIONS;
        // Where the table is full of other clients' sessions this request is answered, and the
        // next one needs a handshake.
        if !full || self.confirmed.remove_first(&session.client, |other| lock(&other.state).used) {
            self.confirmed.insert(*id, session);
        }
    }

    fn drop_ended(&mut self, now: Instant) {
        self.unconfirmed.retain(|session| !session.waited_out(now));
        self.confirmed.retain(|session| !session.ended(now));
    }
}

/// A poisoned lock means that a thread stopped between two statements that keep a table whole;
/// tables are only ever read and written through whole statements, so go on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
