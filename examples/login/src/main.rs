//! ```text
//! login-example keygen KEYFILE
//! login-example serve KEYFILE ACCOUNTS 127.0.0.1:8081
//! ```
//!
//! `keygen` writes the authority's id and secret key (mode 0600) and prints the id and the public
//! key, which is all that a holder needs to add a caveat for this service; or an issuer, with
//! `tksign mint … --third-party https://HOST/v1/discharge AUTHORITY KEY 'subject = ann'`. `serve` belongs behind
//! a proxy that speaks https: clients contact nothing else, loopback excepted.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use login_example::{Accounts, router};
use tkcore::{AuthorityId, AuthorityKeys, AuthoritySecret};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["keygen", file] => keygen(file),
        ["serve", file, accounts, address] => serve(file, accounts, address),
        _ => Err("usage: login-example keygen KEYFILE | serve KEYFILE ACCOUNTS ADDRESS".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("login-example: {error}");
            ExitCode::FAILURE
        }
    }
}

fn keygen(file: &str) -> Result<(), Box<dyn Error>> {
    let (mut id, mut secret) = ([0; 16], [0; 32]);
    getrandom::fill(&mut id).map_err(|_| "the system has no randomness")?;
    getrandom::fill(&mut secret).map_err(|_| "the system has no randomness")?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(out, "{}\n{}", AuthorityId::from_bytes(id), hex(&secret))?;
    let public = AuthoritySecret::from_bytes(secret).public();
    println!("authority {}\npublic key {}", AuthorityId::from_bytes(id), hex(public.as_bytes()));
    Ok(())
}

fn serve(file: &str, accounts: &str, address: &str) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    let mut lines = text.lines();
    let id = lines.next().and_then(AuthorityId::from_hex).ok_or("the first line is no authority id")?;
    let secret = lines.next().and_then(options::hex).ok_or("the second line is no secret key")?;
    let keys = AuthorityKeys::new(id).with_secret(AuthoritySecret::from_bytes(secret));
    let accounts = Accounts::read(&std::fs::read_to_string(accounts)?)
        .ok_or_else(|| format!("{accounts}: a line is no account"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        axum::serve(listener, router(keys, accounts)).await?;
        Ok(())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
