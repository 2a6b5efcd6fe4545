use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tkcore::protocol::{
    ClientKey, Frame, Refused, RpcAnswer, RpcRequest, SessionAnswer, SessionId, SessionRequest, VERSION,
    Window,
};
use zeroize::Zeroizing;

use super::noise::{ServerKey, Transport};
use super::rate::{Bucket, Rate};
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
    unconfirmed: HashMap<SessionId, Arc<Session>>,
    confirmed: HashMap<SessionId, Arc<Session>>,
    /// Sessions of each client: waiting, confirmed.
    counts: HashMap<ClientKey, [usize; 2]>,
    buckets: HashMap<ClientKey, Bucket>,
}

struct Session {
    client: ClientKey,
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
        match body.first() {
            Some(&VERSION) => SessionRequest::decode(body).map_err(|_| Refused::Body),
            Some(_) => Err(Refused::Version { lowest: VERSION, highest: VERSION }),
            None => Err(Refused::Body),
        }
    }

    /// Answers a handshake: some hundred microseconds of arithmetic, so call it beside the
    /// request thread.
    pub(crate) fn open(
        &self,
        request: &SessionRequest,
        now: Instant,
        known: impl FnOnce(&ClientKey) -> bool,
    ) -> Result<SessionAnswer, Refused> {
        let answered =
            self.key.answer(request.version, &request.handshake, known).ok_or(Refused::Handshake)?;
        let id = SessionId::new(self.instance, random::bytes());
        let session = Session {
            client: answered.client,
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
        match body.first() {
            Some(&VERSION) => {}
            Some(_) => return Err(Refused::Version { lowest: VERSION, highest: VERSION }),
            None => return Err(Refused::Body),
        }
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
        tables.unconfirmed.retain(|_, session| session.client != *client);
        tables.confirmed.retain(|_, session| session.client != *client);
        tables.counts.remove(client);
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
    pub(crate) fn counts(&self) -> (usize, usize) {
        let tables = self.tables();
        (tables.unconfirmed.len(), tables.confirmed.len())
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
        if self.unconfirmed.len() >= UNCONFIRMED {
            self.drop_ended(now);
            if self.unconfirmed.len() >= UNCONFIRMED {
                return Err(Refused::Busy);
            }
        }
        let client = session.client;
        if self.count(&client, Which::Waiting) >= UNCONFIRMED_PER_CLIENT {
            let oldest = self.unconfirmed.iter().filter(|(_, other)| other.client == client);
            let oldest = oldest.min_by_key(|(_, other)| other.opened).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.unconfirmed.remove(&oldest);
                self.change(&client, Which::Waiting, usize::saturating_sub);
            }
        }
        self.change(&client, Which::Waiting, usize::saturating_add);
        self.unconfirmed.insert(id, session);
        Ok(())
    }

    fn find(&mut self, id: &SessionId, now: Instant) -> Option<Arc<Session>> {
        if let Some(session) = self.confirmed.get(id) {
            if !session.ended(now) {
                return Some(Arc::clone(session));
            }
            let client = session.client;
            self.confirmed.remove(id);
            self.change(&client, Which::Confirmed, usize::saturating_sub);
            return None;
        }
        self.unconfirmed.get(id).filter(|session| !session.waited_out(now)).map(Arc::clone)
    }

    /// Moves a session whose client has shown that it holds the keys.
    fn confirm(&mut self, id: &SessionId) {
        let Some(session) = self.unconfirmed.remove(id) else { return };
        let client = session.client;
        self.change(&client, Which::Waiting, usize::saturating_sub);
        if self.count(&client, Which::Confirmed) >= PER_CLIENT || self.confirmed.len() >= SESSIONS {
            let own = self.confirmed.iter().filter(|(_, other)| other.client == client);
            let longest = own.min_by_key(|(_, other)| lock(&other.state).used).map(|(id, _)| *id);
            // The table is full of other clients' sessions: this request is answered, the next
            // one needs a handshake.
            let Some(longest) = longest else { return };
            self.confirmed.remove(&longest);
            self.change(&client, Which::Confirmed, usize::saturating_sub);
        }
        self.change(&client, Which::Confirmed, usize::saturating_add);
        self.confirmed.insert(*id, session);
    }

    fn drop_ended(&mut self, now: Instant) {
        self.unconfirmed.retain(|_, session| !session.waited_out(now));
        self.confirmed.retain(|_, session| !session.ended(now));
        self.counts.clear();
        for session in self.unconfirmed.values() {
            let count = self.counts.entry(session.client).or_default();
            *count = step(*count, Which::Waiting, usize::saturating_add);
        }
        for session in self.confirmed.values() {
            let count = self.counts.entry(session.client).or_default();
            *count = step(*count, Which::Confirmed, usize::saturating_add);
        }
    }

    fn count(&self, client: &ClientKey, which: Which) -> usize {
        let [waiting, confirmed] = self.counts.get(client).copied().unwrap_or_default();
        match which {
            Which::Waiting => waiting,
            Which::Confirmed => confirmed,
        }
    }

    fn change(&mut self, client: &ClientKey, which: Which, by: fn(usize, usize) -> usize) {
        let count = self.counts.entry(*client).or_default();
        *count = step(*count, which, by);
        if *count == [0, 0] {
            self.counts.remove(client);
        }
    }
}

#[derive(Clone, Copy)]
enum Which {
    Waiting,
    Confirmed,
}

fn step([waiting, confirmed]: [usize; 2], which: Which, by: fn(usize, usize) -> usize) -> [usize; 2] {
    match which {
        Which::Waiting => [by(waiting, 1), confirmed],
        Which::Confirmed => [waiting, by(confirmed, 1)],
    }
}

/// A poisoned lock means that a thread stopped between two statements that keep the tables
/// whole; they are only ever read and written through whole statements, so go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
