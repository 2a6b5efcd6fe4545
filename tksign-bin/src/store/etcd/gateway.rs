//! etcd's JSON gateway over one connection at a time: requests with a time limit, the next member
//! when one does not answer, a login that is renewed when its token has ended.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use serde_json::Value;
use tkcore::Timestamp;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::space::at;
use super::stream::{self, Tls};
use crate::clock::monotonic;
use crate::store::StoreError;

/// How long one member may take to answer before the next is asked: above an election and a slow
/// disk's sync, below what a caller waits in all.
const ANSWER: Duration = Duration::from_secs(3);
/// How long connecting to one member may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Between rounds over members of which none answered.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// Largest answer that is read: a page of rows, or a step of a watch.
const ANSWER_BYTES: usize = 64 << 20;

/// What etcd says of a login that has ended, or that is older than a change of its users.
const ENDED: [&str; 2] = ["invalid auth token", "revision of auth store is old"];

/// Where a cluster is and how to speak to it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `http://ADDRESS:PORT` or `https://…` of each member.
    pub urls: Vec<String>,
    /// Name and password, where etcd asks for them.
    pub login: Option<Login>,
    /// Needed for `https`.
    pub tls: Option<Tls>,
}

/// Who to log in as.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub name: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.name)
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// etcd refused it; its words. Nothing was changed.
    Refused(String),
    /// No member answered in time. It may have been done all the same.
    Silent(String),
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(why) => Self::Database(format!("etcd: {why}")),
            Trouble::Silent(why) => Self::CutOff(format!("etcd: {why}")),
        }
    }
}

/// One thread's way to the cluster.
pub(super) struct Gateway {
    cluster: Cluster,
    runtime: Runtime,
    /// The member in use.
    at: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
    token: Option<String>,
    date: Option<Timestamp>,
}

impl Gateway {
    pub(super) fn new(cluster: Cluster) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Io("event loop".into(), error))?;
        Ok(Self { cluster, runtime, at: 0, connection: None, token: None, date: None })
    }

    /// What the clock of the member that answered last said: whole seconds.
    pub(super) const fn date(&self) -> Option<Timestamp> {
        self.date
    }

    /// Turns to the next member.
    pub(super) fn turn(&mut self) {
        self.connection = None;
        self.at = self.at.saturating_add(1).checked_rem(self.cluster.urls.len()).unwrap_or(0);
    }

    /// Asks each member in turn until one answers or `patience` runs out. A request may thus be
    /// made more than once: it must be one that this does not hurt.
    pub(super) fn call(&mut self, path: &str, body: &Value, patience: Duration) -> Result<Value, Trouble> {
        let started = monotonic();
        let body = Bytes::from(body.to_string());
        let mut asked = 0usize;
        loop {
            // A long answer takes its time: a quarter of what there is leaves some for another member.
            let most = patience.checked_div(4).unwrap_or(ANSWER).max(ANSWER);
            let why = match self.once(path, &body, left(started, patience).min(most)) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Refused(why)) => return Err(Trouble::Refused(why)),
                Err(Trouble::Silent(why)) => why,
            };
            self.turn();
            asked = asked.saturating_add(1);
            let is_round = asked.is_multiple_of(self.cluster.urls.len().max(1));
            // No patience makes a certificate another one.
            if left(started, patience) <= PAUSE || (is_round && why.contains(stream::TLS)) {
                return Err(Trouble::Silent(why));
            }
            if is_round {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Asks the member in use once; once more with a new login when the one before has ended.
    fn once(&mut self, path: &str, body: &Bytes, patience: Duration) -> Result<Value, Trouble> {
        let ask = async |gateway: &mut Connecting<'_>| {
            let (status, body) = gateway.post(path, body).await?;
            answer(status, body).await
        };
        match self.with_runtime(patience, ask) {
            Err(Trouble::Refused(why)) if ENDED.iter().any(|ended| why.contains(ended)) => {
                self.token = None;
                self.with_runtime(patience, ask)
            }
            other => other,
        }
    }

    /// Opens a stream of answers, such as a watch; by a new login, since one that has ended shows
    /// there only as an end of the stream.
    pub(super) fn open(&mut self, path: &str, body: &Value) -> Result<Incoming, Trouble> {
        let body = Bytes::from(body.to_string());
        self.token = None;
        self.with_runtime(ANSWER, async |gateway| match gateway.post(path, &body).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(Trouble::Silent(format!("HTTP {status}"))),
        })
    }

    /// The next piece of a stream; nothing when none came within `patience`.
    pub(super) fn next(&mut self, from: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, Trouble> {
        let next = self.runtime.block_on(async { timeout(patience, from.frame()).await });
        match next {
            Err(_) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            Ok(Some(Err(error))) => Err(Trouble::Silent(error.to_string())),
            Ok(None) => Err(Trouble::Silent("the member ended the stream".to_owned())),
        }
    }

    fn with_runtime<T>(
        &mut self,
        patience: Duration,
        work: impl AsyncFnOnce(&mut Connecting<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let Self { cluster, runtime, connection, token, at, date } = self;
        let url = cluster.urls.get(*at).map_or("", String::as_str);
        let mut connecting = Connecting { url, cluster, connection, token, date };
        let done = runtime.block_on(async {
            // Has a time of its own: whoever asks with little would never be done with it.
            timeout(ANSWER, connecting.prepare()).await.map_err(|_| late())??;
            timeout(patience, work(&mut connecting)).await.map_err(|_| late())?
        });
        let why = match done {
            Err(Trouble::Silent(why)) => why,
            done => return done,
        };
        self.connection = None;
        Err(Trouble::Silent(format!("{url}: {why}")))
    }
}

/// The member in use, inside the event loop.
struct Connecting<'a> {
    url: &'a str,
    cluster: &'a Cluster,
    connection: &'a mut Option<SendRequest<Full<Bytes>>>,
    token: &'a mut Option<String>,
    date: &'a mut Option<Timestamp>,
}

impl Connecting<'_> {
    /// Connects, and logs in where there is a login.
    async fn prepare(&mut self) -> Result<(), Trouble> {
        self.connect().await.map_err(Trouble::Silent)?;
        if let (Some(login), None) = (&self.cluster.login, &self.token) {
            let body = BTreeMap::from([("name", &login.name), ("password", &*login.password)]);
            let body = serde_json::to_vec(&body).map_err(|error| Trouble::Silent(io(error)))?;
            // Wiped with its last use; what the connection copies on its way out is not ours.
            let body = Bytes::from_owner(Zeroizing::new(body));
            let (status, body) = self.post("/v3/auth/authenticate", &body).await?;
            let answer = answer(status, body).await?;
            *self.token = at(&answer, "/token").as_str().map(str::to_owned);
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), String> {
        if let Some(kept) = self.connection.as_mut()
            && kept.ready().await.is_ok()
        {
            return Ok(());
        }
        let (tls, host) = match (self.url.split_once("://"), &self.cluster.tls) {
            (Some(("http", host)), _) => (None, host),
            (Some(("https", host)), Some(tls)) => (Some(tls), host),
            (Some(("https", _)), None) => return Err("https needs --etcd-ca".to_owned()),
            _ => return Err("not an http or https URL".to_owned()),
        };
        let connecting = timeout(CONNECT, TcpStream::connect(host)).await;
        let tcp = connecting.map_err(|_| "no connection in time")?.map_err(io)?;
        tcp.set_nodelay(true).map_err(io)?;
        let (sender, connection) = handshake(stream::wrap(tcp, host, tls).await?).await.map_err(io)?;
        tokio::spawn(connection);
        *self.connection = Some(sender);
        Ok(())
    }

    async fn post(&mut self, path: &str, body: &Bytes) -> Result<(StatusCode, Incoming), Trouble> {
        self.connect().await.map_err(Trouble::Silent)?;
        let (_, host) = self.url.split_once("://").unwrap_or_default();
        let mut request = Request::post(path).header(header::HOST, host);
        if let Some(token) = self.token.as_deref() {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Full::new(body.clone())).map_err(|error| Trouble::Silent(io(error)))?;
        let mut sender = self.connection.take().ok_or_else(late)?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| Trouble::Silent(closed(&error, self.date.is_some())))?;
        let (head, body) = answer.into_parts();
        *self.connection = Some(sender);
        *self.date = head.headers.get(header::DATE).and_then(|date| http_date(date.to_str().ok()?));
        Ok((head.status, body))
    }
}

fn late() -> Trouble {
    Trouble::Silent("no answer in time".to_owned())
}

/// Reads an answer to its end. By gRPC's codes: what says that etcd is for now without a leader,
/// overloaded or late is asked of another member; the rest is final.
async fn answer(status: StatusCode, mut body: Incoming) -> Result<Value, Trouble> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Silent(io(error)))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if bytes.len() > ANSWER_BYTES {
            return Err(Trouble::Silent("the answer does not end".to_owned()));
        }
    }
    let answer = serde_json::from_slice::<Value>(&bytes);
    let answer = answer.map_err(|_| Trouble::Silent(format!("HTTP {status}")))?;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let why = at(&answer, "/message").as_str().or(at(&answer, "/error").as_str()).unwrap_or("no reason");
    Err(trouble(at(&answer, "/code").as_u64(), why))
}

fn trouble(code: Option<u64>, why: &str) -> Trouble {
    match code {
        Some(8) if why.contains("space exceeded") => Trouble::Refused(why.to_owned()),
        Some(1 | 2 | 4 | 8 | 14) | None => Trouble::Silent(why.to_owned()),
        Some(_) if why.ends_with("user name is empty") => {
            Trouble::Refused("it asks for a login: --etcd-user, --etcd-password-file".to_owned())
        }
        Some(_) => Trouble::Refused(why.to_owned()),
    }
}

/// With its cause, where a TLS alert stands. Who wants TLS or a certificate may just hang up, and has
/// then never answered.
fn closed(error: &hyper::Error, has_answered: bool) -> String {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    let is_bare = !has_answered && (error.is_incomplete_message() || error.is_canceled());
    format!("{error}{cause}{}", if is_bare { ": is it https, does it ask for a certificate?" } else { "" })
}

pub(super) fn io(error: impl fmt::Display) -> String {
    error.to_string()
}

/// `Sat, 28 Nov 2026 05:31:49 GMT` (RFC 9110, 5.6.7), the one form that a server may write.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.strip_suffix(" GMT")?.split(' ').skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.find(month)?.checked_div(3)?.checked_add(1)?;
    Timestamp::from_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

fn left(started: Instant, patience: Duration) -> Duration {
    patience.saturating_sub(monotonic().saturating_duration_since(started))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that breaks in the handshake is not a certificate that is wrong: it is tried again.
    #[test]
    fn a_handshake_that_breaks_is_tried_again() {
        let test = "a_handshake_that_breaks_is_tried_again";
        let Some(authority) = testkit::authority::Authority::new(test) else { return };
        let tls = Tls::new(&std::fs::read(authority.certificate()).unwrap(), None).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let second = std::thread::spawn(move || {
            drop(listener.accept().unwrap());
            listener.accept().map(drop).unwrap();
        });
        let mut gateway = Gateway::new(Cluster { urls: vec![url], login: None, tls: Some(tls) }).unwrap();
        let called = gateway.call("/", &Value::Null, Duration::from_secs(5));
        assert!(matches!(called, Err(Trouble::Silent(why)) if !why.contains(stream::TLS)));
        second.join().unwrap();
    }

    /// Everything may be read for longer than one answer is waited for otherwise.
    #[test]
    fn a_long_answer_is_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::thread::sleep(ANSWER + Duration::from_secs(1));
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                .unwrap();
            // One try, and no other.
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err());
        });
        let mut gateway = Gateway::new(Cluster { urls: vec![url], login: None, tls: None }).unwrap();
        gateway.call("/", &Value::Null, Duration::from_secs(60)).unwrap();
        asked.join().unwrap();
    }

    #[test]
    fn a_full_database_has_refused() {
        let is_refused = |code, why| matches!(trouble(Some(code), why), Trouble::Refused(_));
        assert!(is_refused(8, "etcdserver: mvcc: database space exceeded"));
        assert!(!is_refused(8, "etcdserver: too many requests"));
        assert!(!is_refused(14, "etcdserver: leader changed"));
        assert!(is_refused(3, "etcdserver: duplicate key given in txn request"));
    }

    #[test]
    fn dates_of_answers_are_read() {
        let read = |text: &str| http_date(text).map(Timestamp::millis);
        assert_eq!(read("Thu, 01 Jan 1970 00:00:01 GMT"), Some(1000));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        for wrong in
            ["", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
