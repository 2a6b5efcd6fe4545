use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use tkcore::{Error, Grant, RequestBuilder, Timestamp, Vocabulary, danger};

use super::{Exit, Failure, Streams, input, json_flag, trust};
use crate::client_key::ClientKey;
use crate::verifier::Verifier;

/// How long a first state may take to load before the check gives up.
const LOAD: Duration = Duration::from_secs(15);

pub(super) fn describe() -> Command {
    Command::new("check")
        .about("Ask the signer and the feed whether a token allows a request, as a service would")
        .arg(input::token_file())
        .arg(trust::arg())
        .arg(path("client-key", "FILE", "This client's key, made by `tkverify keygen`").required(true))
        .arg(path("dir", "DIR", "Take the revocation state from this folder alone"))
        .arg(
            Arg::new("tenant")
                .long("tenant")
                .value_name("NAME")
                .required(true)
                .help("Whose things are touched"),
        )
        .arg(
            Arg::new("action")
                .long("action")
                .value_name("NAME")
                .required(true)
                .action(ArgAction::Append)
                .help("What is done; may be given several times"),
        )
        .arg(Arg::new("audience").long("audience").value_name("NAME").help("The service this stands for"))
        .arg(
            Arg::new("fact")
                .long("fact")
                .value_name("[TYPE:]NAME=VALUE")
                .action(ArgAction::Append)
                .help("A fact of the request; TYPE is text (default), int, time, ip or path"),
        )
        .arg(
            Arg::new("tenant-wide")
                .long("tenant-wide")
                .action(ArgAction::SetTrue)
                .help("Stand for a service that takes tokens for a whole tenant"),
        )
        .arg(json_flag())
        .after_help(
            "Exit code 0: granted; 10 to 14 say why not.\n\n\
             Example:\n  tkverify check --trust trust.json --client-key client.key --tenant acme \\\n    \
             --action read --fact app=17 --fact ip:ip=10.0.0.7 < token.txt",
        )
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(value_parser!(PathBuf)).help(help)
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let trust = trust::read(matches)?;
    let key = matches.get_one::<PathBuf>("client-key").cloned().unwrap_or_default();
    let key = ClientKey::read(&key).map_err(|e| {
        Failure::new(Exit::Config, format!("{}: {e}", key.display()), "make one with `tkverify keygen`")
    })?;
    let text = input::token(matches, streams)?;
    let value = input::header_value(&text);
    let mut builder = Verifier::builder().trust(trust).client_key(key);
    if let Some(dir) = matches.get_one::<PathBuf>("dir") {
        builder = builder.folder(dir).folder_alone();
    }
    if let Some(audience) = matches.get_one::<String>("audience") {
        builder = builder.audience(audience);
    }
    if matches.get_flag("tenant-wide") {
        let vocabulary = danger::admit_tenant_wide(Vocabulary::builder()).build();
        builder = builder.vocabulary(vocabulary.map_err(|e| Failure::new(Exit::Bug, e, "report this"))?);
    }
    let verifier = builder.build().map_err(|e| Failure::new(Exit::Config, e, trust::NEXT))?;
    verifier.wait_until_loaded(LOAD);
    let tenant = matches.get_one::<String>("tenant").cloned().unwrap_or_default();
    let mut request = verifier.request(&tenant);
    for action in matches.get_many::<String>("action").into_iter().flatten() {
        request = request.action(action);
    }
    for fact in matches.get_many::<String>("fact").into_iter().flatten() {
        request = stated(request, fact)?;
    }
    let request =
        request.build().map_err(|e| Failure::new(Exit::Usage, e, "state the request in another way"))?;
    let verdict = verifier.check(value.as_bytes(), &request);
    let health = verifier.health();
    tell(&verdict, matches, streams)?;
    if matches!(verdict, Err(Error::NotKnowable(_))) || verdict.is_err() && !health.is_ready() {
        writeln!(streams.stderr, "tkverify check: {health}")?;
    }
    Ok(verdict.as_ref().map_or_else(exit, |_| Exit::Ok))
}

/// One `[TYPE:]NAME=VALUE`.
fn stated<'r>(request: RequestBuilder<'r>, text: &'r str) -> Result<RequestBuilder<'r>, Failure> {
    let wrong = |what: &str| {
        let what = format!("--fact {}: {what}", text.escape_debug());
        Failure::new(Exit::Usage, what, "write NAME=VALUE, or TYPE:NAME=VALUE")
    };
    let (name, value) = text.split_once('=').ok_or_else(|| wrong("no `=`"))?;
    let (kind, name) = name.split_once(':').unwrap_or(("text", name));
    Ok(match kind {
        "text" => request.text(name, value),
        "int" => request.int(name, value.parse().map_err(|_| wrong("not an integer"))?),
        "time" => request.time(name, Timestamp::from_rfc3339(value).map_err(|e| wrong(&e.to_string()))?),
        "ip" => request.ip(name, value.parse().map_err(|_| wrong("not an IP address"))?),
        "path" => request.path(name, value),
        _ => return Err(wrong("the type must be text, int, time, ip or path")),
    })
}

fn tell(
    verdict: &Result<Grant, Error>,
    matches: &ArgMatches,
    streams: &mut Streams<'_>,
) -> std::io::Result<()> {
    if matches.get_flag("json") {
        let value = match verdict {
            Ok(grant) => json!({
                "granted": true,
                "lineage": grant.lineage().to_string(),
                "tenant": grant.tenant(),
                "subject": grant.subject(),
                "key": grant.key().to_string(),
                "expires": grant.expiry().map(|at| at.to_string()),
                "caveats": grant.caveats(),
            }),
            Err(e) => json!({
                "granted": false,
                "code": e.code(),
                "owner": format!("{:?}", e.owner()).to_lowercase(),
                "reason": e.to_string(),
            }),
        };
        return writeln!(streams.stdout, "{value}");
    }
    match verdict {
        Ok(grant) => {
            let subject = grant.subject().map(|name| format!(" for {name}")).unwrap_or_default();
            writeln!(
                streams.stdout,
                "granted: lineage {}, tenant {}{subject}",
                grant.lineage(),
                grant.tenant()
            )
        }
        Err(e) => writeln!(streams.stdout, "refused: {e}"),
    }
}

/// The exit code that says whose fault it is and about what.
fn exit(error: &Error) -> Exit {
    match error {
        Error::Malformed(_) | Error::TooMuchWork => Exit::Malformed,
        Error::NotAuthentic(_) | Error::Discharge(_) => Exit::NotAuthentic,
        Error::Refused(_) => Exit::Refused,
        Error::Revoked(_) => Exit::Revoked,
        Error::NotKnowable(_) => Exit::NotKnowable,
        // Also a kind that a later version adds: no success.
        _ => Exit::Bug,
    }
}
