//! An authentication service: it discharges the caveat "must be logged in here".
//!
//! ```text
//! tkverify keygen --authority --out login.key
//! login-example --key login.key --accounts accounts --listen 127.0.0.1:8081
//! ```
//!
//! The id and the public key that `keygen` prints are all that a holder needs to add a caveat for this
//! service, or an issuer: `tksign mint … --third-party https://HOST/v1/discharge AUTHORITY KEY 'subject = ann'`.
//! A machine that sends its credential gets the discharge at once. Anybody else gets an address to show
//! to a person and one to poll. What the ticket asks for (for example `subject = ann`) is always cleared.
//! Put it behind a proxy that speaks https: clients contact nothing else, loopback excepted.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use options::Options;
use subtle::ConstantTimeEq as _;
use tkcore::{Budget, Bug, ClearedTicket, Error, OpenTicket, Request, Timestamp, Vocabulary};
use tkverify::discharge::{AuthorityKey, Desk, DeskError, PollId, Reply};
use tkverify::{Clock as _, SystemClock};

/// How long a discharge of this service lives.
const LIFETIME: Duration = Duration::from_secs(600);

/// Who can log in: lines `person NAME PASSWORD` and `machine NAME TOKEN` of a file that only this
/// service reads. One for real people would keep password hashes, or ask an identity provider.
struct Accounts(Vec<[String; 3]>);

impl Accounts {
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

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("login-example: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(1, &["key", "accounts", "listen"])?;
    let desk = Desk::new(AuthorityKey::read(options.need("key")?.as_ref())?.keys());
    let text = std::fs::read_to_string(options.need("accounts")?)?;
    let line = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().ok();
    let accounts =
        text.lines().map(line).collect::<Option<_>>().ok_or("a line of --accounts is no account")?;
    let service = Service { desk, accounts: Accounts(accounts), clock: SystemClock::new() };
    let app = Router::new()
        .route("/v1/discharge", post(discharge))
        .route("/v1/poll/{id}", get(poll))
        .route("/login", get(page).post(login))
        .with_state(Arc::new(service));
    let listener = tokio::net::TcpListener::bind(options.get("listen").unwrap_or("127.0.0.1:8081")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// What the ticket asks for must hold for whom we have authenticated.
fn clear(ticket: OpenTicket, subject: &str, now: Timestamp) -> Result<ClearedTicket, Error> {
    let request = Request::builder("login", now).action("discharge").build();
    let request = request.map_err(|_| Bug("the request of this service is wrong"))?;
    ticket.clear(&request, Some(subject), &Vocabulary::native(), &mut Budget::default())
}

async fn discharge(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Reply, DeskError> {
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
}

async fn poll(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Reply, DeskError> {
    let id = PollId::from_text(&id).ok_or(DeskError::Unknown)?;
    Ok(service.desk.poll(&id, service.clock.read().wall))
}

async fn page(State(service): State<Arc<Service>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let id = query.get("id").map_or("", String::as_str);
    let asked = PollId::from_text(id).map(|id| service.desk.describe(&id, service.clock.read().wall));
    let Some(Ok(lines)) = asked else {
        return html(StatusCode::GONE, "Nothing waits here, or no longer. Start again from your program.");
    };
    let lines: String = lines.iter().map(|line| format!("<li><code>{}</code></li>", escaped(line))).collect();
    let page = include_str!("login.html").replace("ID", &escaped(id));
    html(StatusCode::OK, &page.replace("ASKED", &lines))
}

async fn login(State(service): State<Arc<Service>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let (now, name) = (service.clock.read().wall, field("name"));
    if service.accounts.find("person", field("password"), |person| person == name).is_none() {
        return html(StatusCode::FORBIDDEN, "Name and password do not fit. Go back and try again.");
    }
    let Some(id) = PollId::from_text(field("id")) else { return DeskError::Unknown.into_response() };
    match service.desk.decide(&id, now, LIFETIME, &[], |ticket| clear(ticket, name, now)) {
        Ok(()) => html(StatusCode::OK, "You are logged in. Go back to your program."),
        Err(DeskError::NotCleared(_)) => {
            html(StatusCode::FORBIDDEN, "Your program asked for somebody else than you.")
        }
        Err(error) => html(StatusCode::GONE, &escaped(&error.to_string())),
    }
}

fn html(status: StatusCode, body: &str) -> Response {
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, "no-store")];
    let body = format!("<!doctype html><meta charset=utf-8><title>Log in</title>{body}");
    (status, headers, [(header::REFERRER_POLICY, "no-referrer")], Html(body)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
