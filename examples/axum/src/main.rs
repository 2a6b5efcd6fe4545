//! A web service with axum: a layer that says what each request needs, an extractor that hands the
//! grant to the handler.
//!
//! ```text
//! axum-example --trust trust.json --client-key service.key --state feed --listen 127.0.0.1:8080
//! ```

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use options::Options;
use serde_json::{Value, json};
use tkverify::axum::{Granted, Guard};
use tkverify::web::{Asked, Facts};
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
    let options = Options::read(1, &["trust", "client-key", "state", "listen"])?;
    let verifier = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .build()?;
    // Better to start a moment later than to refuse the first requests for want of a state.
    verifier.wait_until_loaded(LOADED);
    let listen = options.get("listen").unwrap_or("127.0.0.1:8080");
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, service(verifier)).await?;
    Ok(())
}

fn service(verifier: Verifier) -> Router {
    Router::new()
        .route("/{tenant}/projects/{project}", get(read).delete(delete))
        .route_layer(Guard::new(verifier.clone(), needs)) // stands before the routes above it
        .route("/healthz", get(health))
        .with_state(verifier)
}

/// The whole protection of this service: what a request asks for, in facts that the service vouches
/// for. `None`, and nothing is allowed.
fn needs(asked: &Asked<'_>) -> Option<Facts> {
    let action = match asked.method() {
        "GET" | "HEAD" => "read",
        "DELETE" => "delete",
        _ => return None,
    };
    let (tenant, project) = (asked.param("tenant")?.into_owned(), asked.param("project")?.into_owned());
    let path = format!("/projects/{project}");
    Some(Facts::new(tenant).action(action).text("project", project).path("path", path))
}

async fn read(Granted(grant): Granted, Path((_, project)): Path<(String, String)>) -> Json<Value> {
    Json(json!({ "project": project, "tenant": grant.tenant(), "by": grant.subject() }))
}

async fn delete(Granted(grant): Granted, Path((_, project)): Path<(String, String)>) -> Json<Value> {
    Json(json!({ "deleted": project, "by": grant.subject() }))
}

async fn health(State(verifier): State<Verifier>) -> (StatusCode, String) {
    let health = verifier.health();
    // The reasons name addresses of signers and mirrors: for the log, not for whoever asks.
    if !health.reasons.is_empty() {
        eprintln!("health: {health}");
    }
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", health.summary()))
}
