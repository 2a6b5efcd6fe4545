//! A worker that makes no connection for the revocation state: cron brings a folder, and any
//! number of workers on the machine read it.
//!
//! ```text
//! * * * * *  tkverify refresh --once --trust trust.json --dir /var/cache/tk --max-age 600
//!
//! cron-example --trust trust.json --client-key worker.key --state /var/cache/tk < jobs
//! ```
//!
//! A job is a line `TENANT ACTION QUEUE TOKEN`; the worker prints a verdict a job. It never writes
//! the folder and needs no right to. It asks the signer once for each lineage it has not seen.

use std::error::Error as StdError;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use tkcore::{Error, Grant, Malformed};
use tkverify::{ClientKey, Trust, Verifier};

/// How long to wait for the folder's first reading.
const LOADED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cron-example: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn StdError>> {
    let options = Options::read(1, &["trust", "client-key", "state"])?;
    let verifier = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .folder_alone()
        .build()?;
    let health = verifier.wait_until_loaded(LOADED);
    eprintln!("the folder's state is {health}");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let verdict = match line.split(' ').collect::<Vec<_>>()[..] {
            [tenant, action, queue, token] => allowed(&verifier, tenant, action, queue, token),
            _ => Err(Malformed::Shape("a job is TENANT ACTION QUEUE TOKEN").into()),
        };
        match verdict {
            Ok(grant) => println!("done: for {}", grant.subject().unwrap_or("somebody")),
            // For a job there is no peer: what is said here goes to a log, and never holds the token.
            Err(error) => println!("refused: {}: {error}", error.code()),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn allowed(
    verifier: &Verifier,
    tenant: &str,
    action: &str,
    queue: &str,
    token: &str,
) -> Result<Grant, Error> {
    let request = verifier.request(tenant).action(action).text("queue", queue).build();
    let request = request.map_err(|_| Malformed::Shape("the job names no tenant, action or queue"))?;
    verifier.check(format!("Bearer {token}"), &request)
}
