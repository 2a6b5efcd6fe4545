//! A gRPC service with tonic: a layer that says what each method needs; refusals are gRPC statuses.
//!
//! ```text
//! tonic-example --trust trust.json --client-key service.key --state feed --listen 127.0.0.1:8080
//! ```
//!
//! `build.rs` writes server and client from a description in Rust, so that no `protoc` is needed; a
//! service made from a `.proto` file is protected in the same way.

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use tkverify::web::{Asked, Facts};
use tkverify::{ClientKey, Trust, Verifier};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_example::files_server::{Files, FilesServer};
use tonic_example::{File, Name};

/// How long to wait for the first revocation state; without it every request is refused as stale.
const LOADED: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tonic-example: {error}");
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
    let incoming = TcpIncoming::bind(options.get("listen").unwrap_or("127.0.0.1:8080").parse()?)?;
    println!("listening on http://{}", incoming.local_addr()?);
    Server::builder()
        .layer(tkverify::tonic::guard(verifier, needs))
        .add_service(FilesServer::new(Store))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// What each method needs before its message is read. `None`, and nothing is allowed.
fn needs(asked: &Asked<'_>) -> Option<Facts> {
    // Whose files: gRPC has no path for it, so the caller says it beside the call. It may say any: a token
    // of another tenant is refused, and the store reads under the grant's tenant.
    let tenant = std::str::from_utf8(asked.header("tenant")?).ok()?.to_owned();
    match asked.path() {
        "/files.Files/Read" => Some(Facts::new(tenant).action("read")),
        "/files.Files/Delete" => Some(Facts::new(tenant).action("delete").ask_signer()),
        _ => None,
    }
}

/// A method that must decide by what its message holds takes the verifier and asks it there:
/// `verifier.check_facts_async`.
struct Store;

#[tonic::async_trait]
impl Files for Store {
    async fn read(&self, request: Request<Name>) -> Result<Response<File>, Status> {
        let grant = tkverify::tonic::grant(&request)?;
        let text = format!("{} of {}", request.get_ref().name, grant.tenant());
        Ok(Response::new(File { text, by: grant.subject().unwrap_or_default().to_owned() }))
    }

    async fn delete(&self, request: Request<Name>) -> Result<Response<File>, Status> {
        let grant = tkverify::tonic::grant(&request)?;
        Ok(Response::new(File { text: String::new(), by: grant.subject().unwrap_or_default().to_owned() }))
    }
}
