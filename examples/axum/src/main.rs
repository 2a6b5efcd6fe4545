//! A web service that decides in process whether a token allows a request.
//!
//! ```text
//! axum-example --trust trust.json --client-key service.key --state feed/ --listen 127.0.0.1:8080
//! ```
//!
//! `trust.json` is what `tksign init` wrote, `service.key` is made by `tkverify keygen` and enrolled
//! with `tksign clients add --role verify`, `feed/` is a folder for the revocation state. The
//! service holds no key that could mint anything.

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tkcore::{Bug, Error, Grant, Malformed};
use tkverify::{ClientKey, Trust, Verifier};

/// How long to wait for the first revocation state; without it every request is refused as stale.
const LOADED: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axum-example: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(std::env::args().skip(1))?;
    let verifier = Verifier::builder()
        .trust(Trust::from_file(options.trust.as_ref())?)
        .client_key(ClientKey::read(options.client_key.as_ref())?)
        .folder(options.state)
        .build()?;
    // Better to start a moment later than to refuse the first requests for want of a state.
    verifier.wait_until_loaded(LOADED);
    let listener = tokio::net::TcpListener::bind(&options.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, service(verifier)).await?;
    Ok(())
}

fn service(verifier: Verifier) -> Router {
    Router::new()
        .route("/{tenant}/projects/{project}", get(read).delete(delete))
        .route("/healthz", get(health))
        .with_state(verifier)
}

async fn read(
    State(verifier): State<Verifier>,
    Path((tenant, project)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Refused> {
    let grant = allowed(verifier, headers, tenant, "read", project.clone()).await?;
    Ok(Json(json!({ "project": project, "tenant": grant.tenant(), "by": grant.subject() })))
}

async fn delete(
    State(verifier): State<Verifier>,
    Path((tenant, project)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Refused> {
    let grant = allowed(verifier, headers, tenant, "delete", project.clone()).await?;
    Ok(Json(json!({ "deleted": project, "by": grant.subject() })))
}

async fn health(State(verifier): State<Verifier>) -> Response {
    let health = verifier.health();
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{health}\n")).into_response()
}

/// The whole protection of this service: what is asked for, in facts that the service vouches for,
/// against what the token gives.
async fn allowed(
    verifier: Verifier,
    headers: HeaderMap,
    tenant: String,
    action: &'static str,
    project: String,
) -> Result<Grant, Refused> {
    // Two Authorization headers are refused: a proxy in front may have looked at the other one.
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes().to_vec(),
        (None, _) => return Err(Refused(Malformed::Missing.into())),
        (Some(_), Some(_)) => return Err(Refused(Malformed::Shape("two Authorization headers").into())),
    };
    let decide = move |known_only: bool| {
        let path = format!("/projects/{project}");
        let request = verifier
            .request(&tenant)
            .action(action)
            .text("project", &project)
            .path("path", &path)
            .build()
            // A name in the address that is no name: nothing under it can be allowed.
            .map_err(|_| Error::from(Malformed::Shape("the address names no tenant or project")));
        match request {
            Ok(request) if known_only => verifier.check_known(&value, &request),
            Ok(request) => Some(verifier.check(&value, &request)),
            Err(error) => Some(Err(error)),
        }
    };
    // A known lineage is decided here and now. Only a new one asks the signer, off this thread.
    let verdict = match decide(true) {
        Some(verdict) => verdict,
        None => tokio::task::spawn_blocking(move || decide(false))
            .await
            .ok()
            .flatten()
            .unwrap_or(Err(Bug("the decision did not finish").into())),
    };
    verdict.map_err(|error| {
        // The log sees everything that is no secret; the peer sees a code and a safe sentence.
        eprintln!("refused: {}: {error}", error.code());
        Refused(error)
    })
}

struct Refused(Error);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let body = Json(json!({ "error": error.code(), "message": error.for_peer() }));
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3: without a token the scheme alone, otherwise what was wrong.
            let challenge = match error {
                Error::Malformed(Malformed::Missing) => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

struct Options {
    trust: String,
    client_key: String,
    state: String,
    listen: String,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut trust, mut client_key, mut state) = (None, None, None);
        let mut listen = "127.0.0.1:8080".to_owned();
        while let Some(name) = args.next() {
            let value = args.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--trust" => trust = Some(value),
                "--client-key" => client_key = Some(value),
                "--state" => state = Some(value),
                "--listen" => listen = value,
                unknown => return Err(format!("no option {unknown}")),
            }
        }
        let need = |value: Option<String>, name| value.ok_or(format!("{name} is missing"));
        Ok(Self {
            trust: need(trust, "--trust FILE")?,
            client_key: need(client_key, "--client-key FILE")?,
            state: need(state, "--state DIR")?,
            listen,
        })
    }
}
