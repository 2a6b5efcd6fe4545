//! A secret store in front of which a whole fleet stands with one token: it opens a tenant's
//! secrets only beside a discharge that proves permission on that very tenant.
//!
//! ```text
//! secrets-example lock --authority ID --authority-key HEX < minted > fleet.token
//! secrets-example permissions --trust trust.json --client-key permissions.key --state permissions-feed \
//!   --keys vouching.key --listen 127.0.0.1:8009
//! secrets-example store --trust trust.json --client-key store.key --state store-feed \
//!   --secrets tenants-secrets --listen 127.0.0.1:8010
//! secrets-example fetch --authority ID --permissions http://127.0.0.1:8009 --user-token user.token \
//!   --store http://127.0.0.1:8010 --tenant acme --secret db < fleet.token
//! ```
//!
//! A worker that is broken into holds a token that opens nothing, and the discharges of the tenants
//! whose users it works for just now. `vouching.key` is what `tkverify keygen --authority` wrote. Every
//! command, from the keys on: `examples/README.md`.

use std::error::Error as StdError;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use tiny_http::{Request as Asked, Response, Server};
use tkcore::{
    AuthorityId, AuthorityPublic, Budget, CaveatKey, Error, Request, SealTo, TokenBuf, Vocabulary,
    attenuate_third_party, seal_ticket,
};
use tkverify::discharge::{Authority, AuthorityKey, Desk, DeskError, DischargeClient, Reply, Wallet};
use tkverify::{ClientKey, Clock as _, SystemClock, Trust, Verifier};

/// How long a permission counts once it was proved.
const LIFETIME: Duration = Duration::from_secs(120);
const BODY: u64 = 8 * 1024; // a ticket of at most 4 KiB in base64, in JSON

type Outcome = Result<(), Box<dyn StdError>>;

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("lock") => lock(),
        Some("permissions") => permissions(),
        Some("store") => store(),
        Some("fetch") => fetch(),
        _ => Err("usage: secrets-example lock|permissions|store|fetch …".into()),
    };
    if let Err(error) = done {
        eprintln!("secrets-example: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Whoever hands the token out adds the caveat; it takes the authority's public key and nothing else.
fn lock() -> Outcome {
    let options = Options::read(2, &["authority", "authority-key"])?;
    let (mut key, mut ephemeral, mut nonce) = ([0; 32], [0; 32], [0; 24]);
    for bytes in [&mut key[..], &mut ephemeral, &mut nonce] {
        getrandom::fill(bytes).map_err(|_| "the system has no randomness")?;
    }
    let (key, public) =
        (CaveatKey::from_bytes(key), AuthorityPublic::from_bytes(options.hex("authority-key")?));
    let to = SealTo::Public { key: &public, ephemeral: &ephemeral };
    let ticket = seal_ticket(AuthorityId::from_bytes(options.hex("authority")?), &to, &key, &[])?;
    let (_, token) = TokenBuf::from_text(&options::input()?)?;
    let locked = attenuate_third_party(&token.as_token(), None, &ticket, &key, &nonce)?;
    println!("{}", locked.to_text().as_str());
    Ok(())
}

/// The authority: who shows a token that may read secrets of a tenant gets its word for that tenant.
fn permissions() -> Outcome {
    let options = Options::read(2, &["trust", "client-key", "state", "keys", "listen"])?;
    let desk = Desk::new(AuthorityKey::read(options.need("keys")?.as_ref())?.keys());
    serve(&options, |verifier, asked| {
        let reply = vouch(&desk, verifier, asked).unwrap_or_else(|error| error.reply());
        (reply.status, reply.body)
    })
}

fn vouch(desk: &Desk, verifier: &Verifier, asked: &mut Asked) -> Result<Reply, DeskError> {
    let tenant = asked.url().strip_prefix("/v1/discharge/").unwrap_or_default().to_owned();
    let request = verifier.request(&tenant).action("read-secret").build().map_err(|_| DeskError::Body)?;
    check(verifier, asked, &request).map_err(DeskError::NotCleared)?;
    let mut body = Vec::new();
    asked.as_reader().take(BODY).read_to_end(&mut body).map_err(|_| DeskError::Body)?;
    let ticket = desk.open(&body)?;
    let cleared = ticket.clear(&request, None, &Vocabulary::native(), &mut Budget::default());
    let word = format!("tenant-of-secret = {tenant}"); // a caveat in the store's language
    desk.immediate(&cleared.map_err(DeskError::NotCleared)?, LIFETIME, &[&word])
}

/// The store. It knows nothing of users: the fleet's token with a discharge says all.
fn store() -> Outcome {
    let options = Options::read(2, &["trust", "client-key", "state", "secrets", "listen"])?;
    let secrets = std::fs::read_to_string(options.need("secrets")?)?; // TENANT NAME VALUE
    serve(&options, |verifier, asked| {
        let ["", tenant, name] = asked.url().split('/').collect::<Vec<_>>()[..] else {
            return (404, String::new());
        };
        let asks = verifier.request("fleet").action("read-secret").text("tenant-of-secret", tenant);
        let Ok(request) = asks.build() else { return (404, String::new()) };
        if let Err(error) = check(verifier, asked, &request) {
            return (error.http_status(), format!("{}: {}", error.code(), error.for_peer()));
        }
        let found = secrets.lines().find_map(|line| line.strip_prefix(&format!("{tenant} {name} ")));
        found.map_or((404, String::new()), |value| (200, value.to_owned()))
    })
}

/// A worker: fetches the word for the tenant whose user it serves, then the secret.
fn fetch() -> Outcome {
    let options = Options::read(2, &["authority", "permissions", "user-token", "store", "tenant", "secret"])?;
    let (tenant, user) = (options.need("tenant")?, std::fs::read_to_string(options.need("user-token")?)?);
    let address = format!("{}/v1/discharge/{tenant}", options.need("permissions")?);
    let vouching = Authority::new(&address)?.with_credential(format!("Bearer {}", user.trim()));
    let mut wallet = Wallet::new(TokenBuf::from_text(&options::input()?)?.1);
    let authority = AuthorityId::from_bytes(options.hex("authority")?);
    wallet.refresh(&DischargeClient::new().with_authority(authority, vouching))?;
    let header = wallet.authorization(SystemClock::new().read().wall)?;
    let address = format!("{}/{tenant}/{}", options.need("store")?, options.need("secret")?);
    let mut answer = ureq::get(&address).header("Authorization", &header).call()?;
    println!("{}", answer.body_mut().read_to_string()?);
    Ok(())
}

fn serve(options: &Options, answer: impl Fn(&Verifier, &mut Asked) -> (u16, String) + Sync) -> Outcome {
    let verifier = Verifier::builder()
        .trust(Trust::from_file(options.need("trust")?.as_ref())?)
        .client_key(ClientKey::read(options.need("client-key")?.as_ref())?)
        .folder(options.need("state")?)
        .asks(8, 4) // of 16 threads: strangers never hold all of them while the signer hangs
        .build()?;
    verifier.wait_until_loaded(Duration::from_secs(5));
    let server = Server::http(options.need("listen")?).map_err(|error| -> Box<dyn StdError> { error })?;
    println!("listening on http://{}", server.server_addr());
    let work = || {
        while let Ok(mut asked) = server.recv() {
            let (status, body) = answer(&verifier, &mut asked);
            let _ = asked.respond(Response::from_string(body).with_status_code(status));
        }
    };
    std::thread::scope(|scope| (0..16).for_each(|_| drop(scope.spawn(work))));
    Ok(())
}

fn check(verifier: &Verifier, asked: &Asked, request: &Request<'_>) -> Result<(), Error> {
    let headers = asked.headers().iter().filter(|header| header.field.equiv("Authorization"));
    verifier.check_headers(headers.map(|header| header.value.as_bytes()), request).map(drop)
}
