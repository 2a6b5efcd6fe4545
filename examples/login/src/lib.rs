//! An authentication service: it discharges the caveat "must be logged in here".
//!
//! A machine that sends its credential gets the discharge at once. Anybody else gets an address
//! to show to a person and one to poll. What the ticket asks for (for example `subject = ann`) is
//! cleared in both cases; there is no way to answer without.

use std::collections::HashMap;
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

/// Who can log in: lines `person NAME PASSWORD` and `machine NAME TOKEN` of a file that only this
/// service reads. One for real people would keep password hashes, or ask an identity provider.
pub struct Accounts(Vec<[String; 3]>);

impl Accounts {
    /// Reads the lines; `None` when one is neither.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let line = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().ok();
        text.lines().map(line).collect::<Option<_>>().map(Self)
    }

    /// Whose secret it is, among the names that `named` admits.
    fn find(&self, kind: &str, secret: &str, named: impl Fn(&str) -> bool) -> Option<&str> {
        let is = |[of, name, held]: &&[String; 3]| {
            of == kind && named(name) && held.as_bytes().ct_eq(secret.as_bytes()).into()
        };
        self.0.iter().find(is).map(|[_, name, _]| name.as_str())
    }
}

struct Service {
    desk: Desk,
    accounts: Accounts,
    clock: SystemClock,
}

/// The service's routes.
pub fn router(keys: AuthorityKeys, accounts: Accounts) -> Router {
    Router::new()
        .route("/v1/discharge", post(discharge))
        .route("/v1/poll/{id}", get(poll))
        .route("/login", get(page).post(login))
        .with_state(Arc::new(Service { desk: Desk::new(keys), accounts, clock: SystemClock::new() }))
}

/// What the ticket asks for must hold for whom we have authenticated.
fn clear(ticket: OpenTicket, subject: &str, now: Timestamp) -> Result<ClearedTicket, Error> {
    let request = Request::builder("login", now).action("discharge").build();
    let request = request.map_err(|_| tkcore::Bug("the request of this service is wrong"))?;
    ticket.clear(&request, Some(subject), &Vocabulary::native(), &mut Budget::default())
}

async fn discharge(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = || -> Result<Reply, DeskError> {
        let (now, ticket) = (service.clock.read().wall, service.desk.open(&body)?);
        let credential = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = credential.and_then(|value| value.strip_prefix("Bearer "));
        if let Some(machine) = token.and_then(|token| service.accounts.find("machine", token, |_| true)) {
            let cleared = clear(ticket, machine, now).map_err(DeskError::NotCleared)?;
            return service.desk.immediate(&cleared, LIFETIME, &[]);
        }
        let poll = |id: &PollId| format!("poll/{}", id.to_text());
        let user = |id: &PollId| format!("/login?id={}", id.to_text());
        service.desk.defer(ticket, now, poll, Some(&user)).map(|(_, reply)| reply)
    };
    sent(answer().unwrap_or_else(|error| error.reply()))
}

async fn poll(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Response {
    let id = PollId::from_text(&id).ok_or(DeskError::Unknown);
    sent(id.map_or_else(|error| error.reply(), |id| service.desk.poll(&id, service.clock.read().wall)))
}

async fn page(State(service): State<Arc<Service>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let text = query.get("id").map_or("", String::as_str);
    let asked = PollId::from_text(text).map(|id| service.desk.describe(&id, service.clock.read().wall));
    let Some(Ok(lines)) = asked else {
        return html(StatusCode::GONE, "Nothing waits here, or no longer. Start again from your program.");
    };
    let lines: String = lines.iter().map(|line| format!("<li><code>{}</code></li>", escaped(line))).collect();
    let form = "<form method=post action=/login><label>Name <input name=name></label> \
        <label>Password <input name=password type=password></label> <button>Log in</button>";
    let why = "A program asks you to log in. Go on only if you have just started it yourself. It asks us to";
    let id = escaped(text);
    html(
        StatusCode::OK,
        &format!("{why} vouch for:<ul>{lines}</ul>{form}<input type=hidden name=id value=\"{id}\"></form>"),
    )
}

async fn login(State(service): State<Arc<Service>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let (now, name) = (service.clock.read().wall, field("name"));
    if service.accounts.find("person", field("password"), |person| person == name).is_none() {
        return html(StatusCode::FORBIDDEN, "Name and password do not fit. Go back and try again.");
    }
    let decided = PollId::from_text(field("id")).ok_or(DeskError::Unknown);
    let decided = decided
        .and_then(|id| service.desk.decide(&id, now, LIFETIME, &[], |ticket| clear(ticket, name, now)));
    match decided {
        Ok(()) => html(StatusCode::OK, "You are logged in. Go back to your program."),
        Err(DeskError::NotCleared(_)) => {
            html(StatusCode::FORBIDDEN, "Your program asked for somebody else than you.")
        }
        Err(error) => html(StatusCode::GONE, &escaped(&error.to_string())),
    }
}

fn html(status: StatusCode, body: &str) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, Html(format!("<!doctype html><meta charset=utf-8><title>Log in</title>{body}")))
        .into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A reply of the desk as an HTTP response.
fn sent(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (status, headers, reply.body).into_response();
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
