//! The decision for services in any language: a proxy asks this process before it lets a request
//! through, and hands the answer's headers to the service behind.
//!
//! ```text
//! sidecar-example --trust trust.json --client-key sidecar.key --state feed \
//!   --front nginx --listen 127.0.0.1:9090
//! ```
//!
//! `nginx.conf` and `envoy.yaml` beside this file are the other half. With `--front nginx` the
//! request is what nginx says in `X-Original-Method` and `X-Original-URI` (nginx sets both, over
//! whatever a client sent); with `--front envoy` it is the method and the path after `/check`.
//! Listen on loopback only: whoever reaches this port may ask what a token is good for.

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use tiny_http::{Header, Request, Response, Server};
use tkcore::{Error, Grant, Malformed};
use tkverify::{ClientKey, Trust, Verifier};

/// Each may wait for the signer once a lineage; everything known is decided in microseconds.
const THREADS: usize = 16;
/// How many of them may ask at once, and wait for such an ask: four stay for what is known, however
/// many strangers come while the signer hangs.
const ASKS: (usize, usize) = (8, 4);
/// How long to wait for the first revocation state.
const LOADED: Duration = Duration::from_secs(5);
/// The longest path that is looked at; proxies take 8 KiB for the whole request line.
const PATH_BYTES: usize = 4096;

#[derive(Clone, Copy)]
enum Front {
    Nginx,
    Envoy,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidecar-example: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(1, &["trust", "client-key", "state", "front", "listen"])?;
    let front = match options.need("front")? {
        "nginx" => Front::Nginx,
        "envoy" => Front::Envoy,
        other => return Err(format!("--front is nginx or envoy, not {other}").into()),
    };
    let verifier = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .asks(ASKS.0, ASKS.1)
        .build()?;
    verifier.wait_until_loaded(LOADED);
    let server = Server::http(options.get("listen").unwrap_or("127.0.0.1:9090"))
        .map_err(|error| -> Box<dyn StdError> { error })?;
    println!("listening on http://{}", server.server_addr());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Ok(request) = server.recv() {
                    let response = match allowed(&verifier, &request, front) {
                        Ok(grant) => admitted(&grant),
                        Err(error) => refused(&error),
                    };
                    let _ = request.respond(response);
                }
            });
        }
    });
    Ok(())
}

/// What the proxy was asked, as facts: the tenant is the first segment of the path, the action
/// follows from the method, `path` is the rest of it.
fn allowed(verifier: &Verifier, request: &Request, front: Front) -> Result<Grant, Error> {
    let unclear = |what| Error::from(Malformed::Shape(what));
    let method = request.method().to_string();
    let (method, target) = match front {
        Front::Nginx => (one(request, "X-Original-Method")?, one(request, "X-Original-URI")?),
        Front::Envoy => (method.as_str(), request.url().strip_prefix("/check").unwrap_or_default()),
    };
    let action = match method {
        "GET" | "HEAD" => "read",
        "POST" | "PUT" | "PATCH" => "write",
        "DELETE" => "delete",
        _ => return Err(unclear("a method that stands for no action")),
    };
    // Proxy and service must see the same path as this: only what nobody reads in two ways.
    let path = target.split('?').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if path.len() > PATH_BYTES || !path.bytes().all(plain) {
        return Err(unclear("a path of other than letters, digits, `/`, `-`, `.`, `_`, `~`"));
    }
    let (tenant, rest) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .ok_or_else(|| unclear("no tenant in the path"))?;
    let rest = format!("/{rest}");
    let asked = verifier.request(tenant).action(action).path("path", &rest).build();
    let asked = asked.map_err(|_| unclear("a path that names no tenant, or is not in its normal form"))?;
    let headers = request.headers().iter().filter(|header| header.field.equiv("Authorization"));
    verifier.check_headers(headers.map(|header| header.value.as_bytes()), &asked)
}

/// A header that the proxy must have set, once.
fn one<'r>(request: &'r Request, name: &'static str) -> Result<&'r str, Error> {
    let mut values = request.headers().iter().filter(|header| header.field.equiv(name));
    match (values.next(), values.next()) {
        (Some(header), None) => Ok(header.value.as_str()),
        _ => Err(Malformed::Shape("the proxy must say method and address once: see nginx.conf").into()),
    }
}

fn admitted(grant: &Grant) -> Response<std::io::Empty> {
    let lineage = grant.lineage().to_string();
    let said = [("X-Tk-Tenant", grant.tenant()), ("X-Tk-Subject", grant.subject().unwrap_or_default())];
    let said = said.into_iter().chain([("X-Tk-Lineage", lineage.as_str())]);
    said.filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .fold(Response::empty(200), Response::with_header)
}

/// The proxy tells the client the status; the code says more to whoever looks for it.
fn refused(error: &Error) -> Response<std::io::Empty> {
    eprintln!("refused: {}: {error}", error.code());
    let challenge = (error.http_status() == 401).then_some(("WWW-Authenticate", "Bearer"));
    [("X-Tk-Error", error.code())]
        .into_iter()
        .chain(challenge)
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .fold(Response::empty(error.http_status()), Response::with_header)
}
