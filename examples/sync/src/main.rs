//! A service on plain threads: no executor, no framework, one blocking call that decides.
//!
//! ```text
//! sync-example --trust trust.json --client-key service.key --state feed --listen 127.0.0.1:8080
//! ```
//!
//! `--when-stale ask` and `--read-grace SECONDS` choose what happens while the revocation state is
//! too old; without them such requests are refused.

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use serde_json::json;
use tiny_http::{Header, Method, Request, Response, Server};
use tkcore::{Error, Grant, Malformed};
use tkverify::{ClientKey, Trust, Verifier, WhenStale};

/// Each may wait for the signer once a lineage; everything known is decided in microseconds.
const THREADS: usize = 16;
/// How many of them may ask at once, and wait for such an ask: four stay for what is known, however
/// many strangers come while the signer hangs.
const ASKS: (usize, usize) = (8, 4);

/// How long to wait for the first revocation state; without it every request is refused as stale.
const LOADED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sync-example: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(1, &["trust", "client-key", "state", "listen", "when-stale", "read-grace"])?;
    let mut builder = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .asks(ASKS.0, ASKS.1);
    match options.get("when-stale") {
        None | Some("refuse") => {}
        Some("ask") => builder = builder.when_stale(WhenStale::Ask),
        Some(other) => return Err(format!("--when-stale is refuse or ask, not {other}").into()),
    }
    if let Some(seconds) = options.get("read-grace") {
        builder = builder.grace("read", Duration::from_secs(seconds.parse()?));
    }
    let verifier = builder.build()?;
    // Better to start a moment later than to refuse the first requests for want of a state.
    verifier.wait_until_loaded(LOADED);
    let server = Server::http(options.get("listen").unwrap_or("127.0.0.1:8080"))
        .map_err(|error| -> Box<dyn StdError> { error })?;
    println!("listening on http://{}", server.server_addr());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Ok(request) = server.recv() {
                    let response = answer(&verifier, &request);
                    // A client that is gone already is no fault of ours.
                    let _ = request.respond(response);
                }
            });
        }
    });
    Ok(())
}

type Answer = Response<std::io::Cursor<Vec<u8>>>;

fn answer(verifier: &Verifier, request: &Request) -> Answer {
    let path = request.url().split('?').next().unwrap_or_default();
    let action = match request.method() {
        Method::Get => "read",
        Method::Delete => "delete",
        _ => return plain(405, json!({ "error": "method" })),
    };
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "healthz"] => {
            let health = verifier.health();
            // The reasons name addresses of signers and mirrors: for the log, not for whoever asks.
            if !health.reasons.is_empty() {
                eprintln!("health: {health}");
            }
            let status = if health.is_ready() { 200 } else { 503 };
            Response::from_string(format!("{}\n", health.summary())).with_status_code(status)
        }
        ["", tenant, "projects", project] => match allowed(verifier, request, tenant, action, project) {
            Ok(grant) => plain(200, json!({ action: project, "tenant": tenant, "by": grant.subject() })),
            Err(error) => refused(&error),
        },
        _ => plain(404, json!({ "error": "nothing here" })),
    }
}

/// The whole protection of this service: what is asked for, in facts that the service vouches for,
/// against what the token gives.
fn allowed(
    verifier: &Verifier,
    request: &Request,
    tenant: &str,
    action: &str,
    project: &str,
) -> Result<Grant, Error> {
    let path = format!("/projects/{project}");
    let asked = verifier.request(tenant).action(action).text("project", project).path("path", &path).build();
    // A name in the address that is no name: nothing under it can be allowed.
    let asked = asked.map_err(|_| Malformed::Shape("the address names no tenant or project"))?;
    let headers = request.headers().iter().filter(|header| header.field.equiv("Authorization"));
    verifier.check_headers(headers.map(|header| header.value.as_bytes()), &asked)
}

/// The log sees everything that is no secret; the peer sees a code and a safe sentence.
fn refused(error: &Error) -> Answer {
    eprintln!("refused: {}: {error}", error.code());
    let status = error.http_status();
    let answer = plain(status, json!({ "error": error.code(), "message": error.for_peer() }));
    // RFC 6750, section 3: without a token the scheme alone, otherwise what was wrong.
    let challenge = match (status, error) {
        (401, Error::Malformed(Malformed::Missing)) => "Bearer",
        (401, _) => "Bearer error=\"invalid_token\"",
        _ => return answer,
    };
    match Header::from_bytes("WWW-Authenticate", challenge) {
        Ok(header) => answer.with_header(header),
        Err(()) => answer,
    }
}

fn plain(status: u16, body: serde_json::Value) -> Answer {
    let answer = Response::from_string(body.to_string()).with_status_code(status);
    match Header::from_bytes("Content-Type", "application/json") {
        Ok(header) => answer.with_header(header),
        Err(()) => answer,
    }
}
