//! An authentication service: it discharges the caveat "must be logged in here".
//!
//! A machine that sends its credential gets the discharge at once. Anybody else gets an address
//! to show to a person and one to poll. What the ticket asks for (for example `subject = ann`) is
//! cleared in both cases; there is no way to answer without.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use subtle::ConstantTimeEq as _;
use tkcore::{AuthorityKeys, Budget, ClearedTicket, Error, OpenTicket, Request, Timestamp, Vocabulary};
use tkverify::discharge::{Desk, DeskError, PollId, Reply};
use tkverify::{Clock, SystemClock};

/// How long a discharge of this service lives.
const LIFETIME: Duration = Duration::from_secs(600);

/// Who can log in, from a file that only this service reads.
#[derive(Debug, Default)]
pub struct Accounts {
    people: HashMap<String, Secret>,
    machines: Vec<(String, Secret)>,
}

struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    fn is(&self, other: &str) -> bool {
        self.0.ct_eq(other.as_bytes()).into()
    }
}

impl Accounts {
    /// Reads lines `person NAME PASSWORD` and `machine NAME TOKEN`. A service for real people
    /// would keep password hashes, or ask an identity provider.
    ///
    /// # Errors
    /// The number of the first line that is neither.
    pub fn read(text: &str) -> Result<Self, usize> {
        let mut accounts = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] => {}
                ["person", name, password] => {
                    accounts.people.insert(name.to_owned(), Secret(password.into()));
                }
                ["machine", name, token] => {
                    accounts.machines.push((name.to_owned(), Secret(token.into())));
                }
                _ => return Err(number),
            }
        }
        Ok(accounts)
    }

    fn person(&self, name: &str, password: &str) -> bool {
        self.people.get(name).is_some_and(|secret| secret.is(password))
    }

    fn machine(&self, headers: &HeaderMap) -> Option<&str> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let token = value.strip_prefix("Bearer ")?;
        self.machines.iter().find(|(_, secret)| secret.is(token)).map(|(name, _)| name.as_str())
    }
}

struct Service {
    desk: Desk,
    accounts: Accounts,
    clock: SystemClock,
}

impl Service {
    fn now(&self) -> Timestamp {
        self.clock.read().wall
    }
}

/// The service's routes.
pub fn router(keys: AuthorityKeys, accounts: Accounts) -> Router {
    let service = Arc::new(Service { desk: Desk::new(keys), accounts, clock: SystemClock::new() });
    Router::new()
        .route("/v1/discharge", post(discharge))
        .route("/v1/poll/{id}", get(poll))
        .route("/login", get(page).post(login))
        .with_state(service)
}

/// What the ticket asks for must hold for whom we have authenticated.
fn clear(ticket: OpenTicket, subject: &str, now: Timestamp) -> Result<ClearedTicket, Error> {
    let request = Request::builder("login", now).action("discharge").build();
    let request = request.map_err(|_| tkcore::Bug("the request of this service is wrong"))?;
    ticket.clear(&request, Some(subject), &Vocabulary::native(), &mut Budget::default())
}

async fn discharge(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Answer {
    let answer = || -> Result<Reply, DeskError> {
        let now = service.now();
        let ticket = service.desk.open(&body)?;
        if let Some(machine) = service.accounts.machine(&headers) {
            let cleared = clear(ticket, machine, now).map_err(DeskError::NotCleared)?;
            return service.desk.immediate(&cleared, LIFETIME, &[]);
        }
        let poll = |id: &PollId| format!("poll/{}", id.to_text());
        let user = |id: &PollId| format!("/login?id={}", id.to_text());
        service.desk.defer(ticket, now, poll, Some(&user)).map(|(_, reply)| reply)
    };
    Answer(answer().unwrap_or_else(|error| error.reply()))
}

async fn poll(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Answer {
    Answer(match PollId::from_text(&id) {
        Some(id) => service.desk.poll(&id, service.now()),
        None => DeskError::Unknown.reply(),
    })
}

async fn page(State(service): State<Arc<Service>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let text = query.get("id").map_or("", String::as_str);
    let asked = PollId::from_text(text).map(|id| service.desk.describe(&id, service.now()));
    let Some(Ok(lines)) = asked else {
        return said(StatusCode::GONE, "Nothing waits here, or no longer. Start again from your program.");
    };
    let mut list = String::new();
    for line in lines {
        let _ = write!(list, "<li><code>{}</code></li>", escaped(&line));
    }
    html(
        StatusCode::OK,
        &format!(
            "<p>A program asks you to log in. Go on only if you have just started it yourself. \
             It asks us to vouch for:</p><ul>{list}</ul>\
             <form method=post action=/login><input type=hidden name=id value=\"{}\">\
             <label>Name <input name=name autocomplete=username></label> \
             <label>Password <input name=password type=password autocomplete=current-password></label> \
             <button>Log in</button></form>",
            escaped(text)
        ),
    )
}

async fn login(State(service): State<Arc<Service>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let Some(id) = PollId::from_text(field("id")) else {
        return said(StatusCode::GONE, "Nothing waits here, or no longer.");
    };
    if !service.accounts.person(field("name"), field("password")) {
        return said(StatusCode::FORBIDDEN, "Name and password do not fit. Go back and try again.");
    }
    let now = service.now();
    match service.desk.decide(&id, now, LIFETIME, &[], |ticket| clear(ticket, field("name"), now)) {
        Ok(()) => said(StatusCode::OK, "You are logged in. Go back to your program."),
        Err(DeskError::NotCleared(_)) => {
            said(StatusCode::FORBIDDEN, "Your program asked for somebody else than you.")
        }
        Err(error) => said(StatusCode::GONE, &error.to_string()),
    }
}

fn said(status: StatusCode, sentence: &str) -> Response {
    html(status, &format!("<p>{}</p>", escaped(sentence)))
}

fn html(status: StatusCode, body: &str) -> Response {
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    let page = format!("<!doctype html><meta charset=utf-8><title>Log in</title>{body}");
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, Html(page)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A reply of the desk as an HTTP response.
struct Answer(Reply);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (status, headers, self.0.body).into_response();
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
