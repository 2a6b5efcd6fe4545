//! The same service with actix-web: a middleware that says what each request needs, an extractor
//! that hands the grant to the handler.
//!
//! ```text
//! actix-example --trust trust.json --client-key service.key --state feed --listen 127.0.0.1:8080
//! ```

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::web::{self, Data, Json, Path};
use actix_web::{App, HttpResponse, HttpServer};
use options::Options;
use serde_json::{Value, json};
use tkverify::actix::{Granted, Guard};
use tkverify::web::{Asked, Facts};
use tkverify::{ClientKey, Trust, Verifier};

/// How long to wait for the first revocation state; without it every request is refused as stale.
const LOADED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match actix_web::rt::System::new().block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("actix-example: {error}");
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
    let server = HttpServer::new(move || {
        let projects = web::resource("/{tenant}/projects/{project}")
            .wrap(Guard::new(verifier.clone(), needs))
            .route(web::get().to(read))
            .route(web::delete().to(delete));
        App::new()
            .app_data(Data::new(verifier.clone()))
            .service(projects)
            .route("/healthz", web::get().to(health))
    });
    let server = server.workers(2).bind(options.get("listen").unwrap_or("127.0.0.1:8080"))?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    server.run().await?;
    Ok(())
}

/// The whole protection of this service: what a request asks for, in facts that the service vouches
/// for. `None`, and nothing is allowed.
fn needs(asked: &Asked<'_>) -> Option<Facts> {
    let action = match asked.method() {
        "GET" => "read",
        "DELETE" => "delete",
        _ => return None,
    };
    let (tenant, project) = (asked.param("tenant")?.into_owned(), asked.param("project")?.into_owned());
    let path = format!("/projects/{project}");
    Some(Facts::new(tenant).action(action).text("project", project).path("path", path))
}

async fn read(granted: Granted, path: Path<(String, String)>) -> Json<Value> {
    Json(json!({ "project": path.1, "tenant": granted.0.tenant(), "by": granted.0.subject() }))
}

async fn delete(granted: Granted, path: Path<(String, String)>) -> Json<Value> {
    Json(json!({ "deleted": path.1, "by": granted.0.subject() }))
}

async fn health(verifier: Data<Verifier>) -> HttpResponse {
    let health = verifier.health();
    // The reasons name addresses of signers and mirrors: for the log, not for whoever asks.
    if !health.reasons.is_empty() {
        eprintln!("health: {health}");
    }
    let mut answer = if health.is_ready() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    answer.body(format!("{}\n", health.summary()))
}
