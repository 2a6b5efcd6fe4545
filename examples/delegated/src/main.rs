//! A service that goes on when the signer is gone for good: it holds the keys of its own audience.
//!
//! ```text
//! tksign keys create --dir state --tenant acme --audience builds --delegable
//! tksign clients add --dir state --name builds --role keys --audience builds --key "$(tkverify keygen --out builds.key)"
//! (umask 077; head -c 32 /dev/urandom > builds.secret)
//! delegated-example --trust trust.json --client-key builds.key --state feed --listen 127.0.0.1:8080 \
//!   --keys builds.keys --secret builds.secret &
//! tksign mint --dir state --tenant acme --audience builds --delegable --subject ci:7 --expires 1d \
//!   --caveat 'action in download,upload' > build-token
//! curl -H "Authorization: Bearer $(cat build-token)" 127.0.0.1:8080/acme/artifacts/app
//! ```
//!
//! The price: whoever breaks into this service can mint tokens for it (and for no other service:
//! the signer refuses to vouch for them elsewhere). Without `--keys` the keys are in memory alone, and
//! a restart needs the signer once; with it they lie in that file, sealed under 32 bytes or more of
//! `--secret`, a file of mode 0600 that is kept elsewhere.

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use tiny_http::{Method, Request, Response, Server};
use tkcore::{Error, Grant, Malformed};
use tkverify::{ClientKey, KeyFile, Trust, Verifier};

/// The audience that tokens for this service name.
const AUDIENCE: &str = "builds";

/// How long artifacts are handed out by a revocation state that nobody renews. Who is gone cannot
/// revoke, so an old state is wrong only if somebody hides a newer one. As long as the longest
/// token lives: after that none is left to decide about. Uploads stay refused meanwhile.
const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

const THREADS: usize = 16;
/// How many of them may ask at once about keys that are not delegated, and wait for such an ask.
const ASKS: (usize, usize) = (8, 4);
const LOADED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("delegated-example: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(1, &["trust", "client-key", "state", "listen", "keys", "secret"])?;
    let mut builder = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .audience(AUDIENCE)
        .delegated_keys()
        .asks(ASKS.0, ASKS.1)
        .grace("download", GRACE);
    if let Some(file) = options.get("keys") {
        builder =
            builder.delegated_keys_in(KeyFile::with_secret_file(file, options.need("secret")?.as_ref())?);
    }
    let verifier = builder.build()?;
    verifier.wait_until_loaded(LOADED);
    let server = Server::http(options.get("listen").unwrap_or("127.0.0.1:8080"))
        .map_err(|error| -> Box<dyn StdError> { error })?;
    println!("listening on http://{}", server.server_addr());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Ok(request) = server.recv() {
                    let (status, body) = answer(&verifier, &request);
                    let _ = request.respond(Response::from_string(body).with_status_code(status));
                }
            });
        }
    });
    Ok(())
}

fn answer(verifier: &Verifier, request: &Request) -> (u16, String) {
    let action = match request.method() {
        Method::Get => "download",
        Method::Put => "upload",
        _ => return (405, "GET or PUT\n".to_owned()),
    };
    match request.url().split('/').collect::<Vec<_>>()[..] {
        ["", "healthz"] => {
            let health = verifier.health();
            // The reasons name addresses of signers and mirrors: for the log, not for whoever asks.
            if !health.reasons.is_empty() {
                eprintln!("health: {health}");
            }
            (200, format!("{}\n", health.summary()))
        }
        ["", tenant, "artifacts", name] => match allowed(verifier, request, tenant, action, name) {
            Ok(grant) => (200, format!("{action} {name}: {}\n", grant.subject().unwrap_or("somebody"))),
            Err(error) => {
                eprintln!("refused: {}: {error}", error.code());
                (error.http_status(), format!("{}: {}\n", error.code(), error.for_peer()))
            }
        },
        _ => (404, "nothing here\n".to_owned()),
    }
}

fn allowed(
    verifier: &Verifier,
    request: &Request,
    tenant: &str,
    action: &str,
    artifact: &str,
) -> Result<Grant, Error> {
    let asked = verifier.request(tenant).action(action).text("artifact", artifact).build();
    let asked = asked.map_err(|_| Malformed::Shape("the address names no tenant or artifact"))?;
    let headers = request.headers().iter().filter(|header| header.field.equiv("Authorization"));
    verifier.check_headers(headers.map(|header| header.value.as_bytes()), &asked)
}
