//! The whole idea in one command: a signer that alone holds the keys, a service that decides in
//! process, a token that its holder narrows, a revocation that takes effect, and a signer that
//! can be away without the service noticing. Everything is real: two processes, sockets, files.

use std::process::ExitCode;
use std::time::Duration;

use quickstart::{Operator, Story, Surprise, eventually, shown, text, tkverify};
use tkcore::revocation::Rule;
use tkcore::{Error, Grant, TokenBuf, attenuate};
use tkverify::{ClientKey, Freshness, Trust, Verifier};

/// How long a revocation may take to reach the service.
const PROMISE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if let Some(exit) = quickstart::as_signer() {
        return exit;
    }
    match story() {
        Ok(()) => {
            println!("quickstart: ok");
            ExitCode::SUCCESS
        }
        Err(surprise) => {
            eprintln!("quickstart: {surprise}");
            ExitCode::FAILURE
        }
    }
}

fn story() -> Result<(), Surprise> {
    let mut story = Story::begin();

    let operator = Operator::init()?;
    story.tell("a new signer: SQLite store, records sealed under a random secret");
    let mut signer = operator.serve(None)?;
    story.tell(format!(
        "tksign serves as process {} on {}, the feed on {}",
        signer.id(),
        signer.rpc,
        signer.public
    ));
    operator.tksign("keys create", &["--tenant", "acme"])?;
    story.tell("a key for the tenant acme; it never leaves the signer");

    // The service makes a key pair; the operator allows its public half to ask for verification.
    let key_file = operator.elsewhere("service.key");
    let public = tkverify(&["keygen", "--out", text(&key_file)])?;
    operator.tksign("clients add", &["--key", public.trim(), "--name", "projects", "--role", "verify"])?;
    let trust = Trust::from_file(&operator.trust_file())?;
    let service = Verifier::builder()
        .trust(trust.clone())
        .client_key(ClientKey::read(&key_file)?)
        .folder(operator.elsewhere("feed"))
        .build()?;
    eventually(&service, "the service has the revocation state", || fresh(&service))?;
    story.tell("a service may ask for verification, and has the revocation state");

    let minted = operator.tksign(
        "mint",
        &["--tenant", "acme", "--subject", "user:17", "--expires", "8h", "--caveat", "action in read,write"],
    )?;
    let (_, token) = TokenBuf::from_text(&minted)?;
    let shown_token = token.as_token().describe_untrusted();
    let lineage = shown_token.identifier().ok_or("no identifier of ours")?.lineage;
    story.tell(format!("a token for user:17 is minted: lineage {lineage}"));

    let grant = ask(&service, &minted, "write", "7")?;
    story.tell(format!(
        "the service asks the signer once, and grants write on project 7 to {}",
        subject(&grant)
    ));
    ask(&service, &minted, "read", "8")?;
    story.tell("the same lineage again: decided in the service's own process");

    // Any holder can narrow a token, without any key and without asking anybody.
    let narrow = attenuate(&token.as_token(), &["project = 7", "action = read"])?.to_text();
    ask(&service, narrow.as_str(), "read", "7")?;
    story.tell("the holder narrows it offline to reading project 7; that is granted");
    match ask(&service, narrow.as_str(), "write", "7") {
        Err(Error::Refused(reason)) => story.tell(format!("writing with it is refused: {reason}")),
        other => return Err(unexpected("a wider request", &other)),
    }

    // A second service that never calls the feed: a timer brings it a folder.
    let copy = operator.elsewhere("copied-feed");
    let refresh = ["refresh", "--once", "--trust", text(&operator.trust_file()), "--dir", text(&copy)]
        .map(str::to_owned);
    let refresh = || tkverify(&refresh.each_ref().map(String::as_str));
    refresh()?;
    let second = Verifier::builder()
        .trust(trust)
        .client_key(ClientKey::read(&key_file)?)
        .folder(&copy)
        .folder_alone()
        .build()?;
    eventually(&second, "the second service has the folder's state", || fresh(&second))?;
    ask(&second, narrow.as_str(), "read", "7")?;
    story.tell(
        "tkverify refresh copies the feed into a folder; a second service lives on that alone, and grants",
    );

    signer.stop()?;
    story.tell("the signer is stopped");
    ask(&service, narrow.as_str(), "read", "7")?;
    story.tell("the known lineage is decided all the same");
    let signer = operator.serve(Some(&signer))?;
    let renewed = service.feed().renewals();
    story.tell(format!("the signer is started again, as process {}", signer.id()));
    eventually(&service, "the service follows the feed again", || Ok(service.feed().renewals() > renewed))?;
    story.tell("the service has found it again by itself");

    operator.tksign("revoke token", &[&lineage.to_string(), "--reason", "quickstart"])?;
    story.tell("the lineage is revoked: acknowledged means durable");
    let took =
        eventually(&service, "the revocation reaches the service", || revoked(&service, narrow.as_str()))?;
    if took > PROMISE {
        return Err(format!("the revocation took {}", shown(took)).into());
    }
    story.tell("the service refuses it, narrowed or not");
    refresh()?;
    eventually(&second, "the revocation reaches the second service", || revoked(&second, narrow.as_str()))?;
    story.tell("tkverify refresh again: the second service refuses it too");
    println!("everything took {}", story.total());
    Ok(())
}

/// What the service does for a request: states what it knows, and lets the token restrict.
fn ask(service: &Verifier, token: &str, action: &str, project: &str) -> Result<Grant, Error> {
    let path = format!("/projects/{project}");
    let request = service.request("acme").action(action).text("project", project).path("path", &path).build();
    let request = request.map_err(|_| tkcore::Bug("a request of constants is right"))?;
    service.check(format!("Bearer {token}"), &request)
}

fn fresh(service: &Verifier) -> Result<bool, Surprise> {
    Ok(service.health().freshness == Freshness::Fresh)
}

/// Whether it is refused because the lineage was revoked; anything but that or a grant is a surprise.
fn revoked(service: &Verifier, token: &str) -> Result<bool, Surprise> {
    match ask(service, token, "read", "7") {
        Ok(_) => Ok(false),
        Err(Error::Revoked(Rule::Token)) => Ok(true),
        other => Err(unexpected("a revoked token", &other)),
    }
}

fn subject(grant: &Grant) -> &str {
    grant.subject().unwrap_or("nobody")
}

fn unexpected(what: &str, verdict: &Result<Grant, Error>) -> Surprise {
    match verdict {
        Ok(_) => format!("{what} was granted").into(),
        Err(error) => format!("{what}: {error}").into(),
    }
}
