use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use tkcore::{AuthorityId, Party, Ticket, TokenBuf};
use zeroize::Zeroizing;

use super::error::DischargeError;
use super::flow::{Came, Flow, Step};
use super::message::{self, BODY_BYTES};
use super::origin::{Address, AddressError, Origin};
use crate::clock::{Clock, SystemClock};
use crate::https;

/// Whether a person is there to log in somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum People {
    /// Nobody: in CI, in a job, in a service. An authority that wants a person is an error at
    /// once; nothing is opened, nothing waits.
    #[default]
    Never,
    /// The address is shown by the function given to [`DischargeClient::with_person`].
    Ask,
}

/// An authority that this client may ask.
#[derive(Debug)]
pub struct Authority {
    address: Address,
    user_origins: Vec<Origin>,
    credential: Option<Credential>,
}

struct Credential(Zeroizing<String>);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Authority {
    /// The address that takes tickets: `https`, or `http` on loopback.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new(url: &str) -> Result<Self, AddressError> {
        Ok(Self { address: Address::parse(url)?, user_origins: Vec::new(), credential: None })
    }

    /// Sends this `Authorization` value to this authority's origin, and to no other.
    #[must_use]
    pub fn with_credential(mut self, authorization: String) -> Self {
        self.credential = Some(Credential(Zeroizing::new(authorization)));
        self
    }

    /// Allows one more origin to which this authority may send a person, such as a login page on
    /// another host.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn with_user_origin(mut self, url: &str) -> Result<Self, AddressError> {
        self.user_origins.push(Address::parse(url)?.origin().clone());
        Ok(self)
    }
}

/// How the client waits between two polls. [`std::thread::sleep`], except in tests.
pub trait Pause: Send + Sync {
    /// Returns after `duration`.
    fn pause(&self, duration: Duration);
}

struct Sleep;

impl Pause for Sleep {
    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

type Show = dyn Fn(AuthorityId, &str) + Send + Sync;

/// Gets discharges from authorities over HTTP (docs/spec/third-party.md, TP-60 and following).
///
/// Contacts only the addresses it was configured with and what those name within their own
/// origin. Blocking; share it between threads.
pub struct DischargeClient {
    agent: ureq::Agent,
    https: https::Fault,
    authorities: BTreeMap<AuthorityId, Authority>,
    people: People,
    show: Box<Show>,
    patience: Duration,
    clock: Arc<dyn Clock>,
    pause: Box<dyn Pause>,
}

/// How long an authority is asked when no person is involved.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a person may take.
const PATIENCE_WITH_PERSON: Duration = Duration::from_secs(600);

impl DischargeClient {
    /// A client that knows no authority yet and waits for no person.
    #[must_use]
    pub fn new() -> Self {
        let (config, https) = https::rooted(ureq::Agent::config_builder());
        let config = config
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("tkverify/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(20)))
            .max_response_header_size(16 * 1024)
            .build();
        Self {
            agent: config.new_agent(),
            https,
            authorities: BTreeMap::new(),
            people: People::Never,
            show: Box::new(|_, _| ()),
            patience: PATIENCE,
            clock: Arc::new(SystemClock::new()),
            pause: Box::new(Sleep),
        }
    }

    /// Adds an authority to ask, or replaces it.
    #[must_use]
    pub fn with_authority(mut self, id: AuthorityId, authority: Authority) -> Self {
        self.authorities.insert(id, authority);
        self
    }

    /// Lets a person take part: `show` is called with the authority and the address to visit,
    /// whose origin has been checked. Waits up to 10 minutes.
    #[must_use]
    pub fn with_person(mut self, show: impl Fn(AuthorityId, &str) + Send + Sync + 'static) -> Self {
        self.people = People::Ask;
        self.show = Box::new(show);
        self.patience = PATIENCE_WITH_PERSON;
        self
    }

    /// How long to wait in all for one discharge.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Another clock and another way to wait, for tests.
    #[must_use]
    pub fn with_time(mut self, clock: Arc<dyn Clock>, pause: impl Pause + 'static) -> Self {
        self.clock = clock;
        self.pause = Box::new(pause);
        self
    }

    pub(crate) fn now(&self) -> tkcore::Timestamp {
        self.clock.read().wall
    }

    /// Gets the discharge of one ticket, unbound.
    ///
    /// # Errors
    /// [`DischargeError`]. `location` only serves to say in an error where the party is said to be.
    pub fn discharge(&self, ticket: &[u8], location: Option<&str>) -> Result<TokenBuf, DischargeError> {
        let unknown = || DischargeError::UnknownParty(Party::of(ticket, location.map(str::as_bytes)));
        let id = Ticket::parse(ticket).map_err(|_| unknown())?.authority();
        let authority = self.authorities.get(&id).ok_or_else(unknown)?;
        if let (Some(why), true) = (&self.https, authority.address.is_secure()) {
            return Err(DischargeError::Unreachable(why.clone()));
        }
        let start = self.clock.read();
        let mut flow =
            Flow::new(id, &authority.address, &authority.user_origins, self.people, self.patience, ticket);
        let body = message::ticket_body(&message::encode(ticket));
        loop {
            let sent = match flow.next()? {
                Step::Done(token) => return Ok(token),
                Step::Wait(pause) => {
                    self.pause.pause(pause);
                    continue;
                }
                Step::Show(address) => {
                    (self.show)(id, &address.to_string());
                    continue;
                }
                Step::Post(address) => self.send(authority, &address, Some(&body)),
                Step::Poll(address) => self.send(authority, &address, None),
            };
            let reading = self.clock.read();
            let elapsed = reading.since(&start);
            let random = random();
            match sent {
                Ok(answer) => flow.came(Ok(&Came {
                    status: answer.status,
                    retry_after: answer.retry_after,
                    body: &answer.body,
                    elapsed,
                    now: reading.wall,
                    random,
                }))?,
                Err(Sending::Bad(what)) => return Err(DischargeError::BadAnswer(what)),
                Err(Sending::Failed(why)) => flow.came(Err((why, elapsed, random)))?,
            }
        }
    }

    fn send(&self, authority: &Authority, to: &Address, body: Option<&str>) -> Result<Answer, Sending> {
        let credential = authority.credential.as_ref().filter(|_| to.origin() == authority.address.origin());
        let authorization = credential.map(|credential| credential.0.as_str());
        let sent = match body {
            Some(body) => {
                let mut request = self.agent.post(to.to_string()).header("content-type", "application/json");
                if let Some(value) = authorization {
                    request = request.header("authorization", value);
                }
                request.header("accept-encoding", "identity").send(body)
            }
            None => {
                let mut request = self.agent.get(to.to_string());
                if let Some(value) = authorization {
                    request = request.header("authorization", value);
                }
                request.header("accept-encoding", "identity").call()
            }
        };
        let mut response = sent.map_err(|error| Sending::Failed(failure(&error)))?;
        let status = response.status().as_u16();
        let headers = response.headers();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(Sending::Bad("it has a content encoding"));
        }
        let retry_after =
            header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let most = u64::try_from(BODY_BYTES).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        // One byte past the limit is enough to know that it is too long.
        let mut reader = response.body_mut().as_reader().take(most.saturating_add(1));
        reader.read_to_end(&mut bytes).map_err(|_| Sending::Failed("the answer was cut off".to_owned()))?;
        if bytes.len() > BODY_BYTES {
            return Err(Sending::Bad("it is too long"));
        }
        Ok(Answer { status, retry_after, body: bytes })
    }
}

impl Default for DischargeClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DischargeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DischargeClient")
            .field("authorities", &self.authorities)
            .field("people", &self.people)
            .finish_non_exhaustive()
    }
}

struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

enum Sending {
    /// No answer; another try may help.
    Failed(String),
    /// An answer that no further try makes better.
    Bad(&'static str),
}

fn failure(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it took too long".to_owned(),
        // What TLS has against a server stands in its own words.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => error.to_string(),
        ureq::Error::Io(error) => error.kind().to_string(),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        other => other.to_string(),
    }
}

/// For the jitter alone; zero when the system has no randomness, which only makes waits shorter.
fn random() -> u16 {
    let mut bytes = [0; 2];
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u16::from_be_bytes(bytes)
}
