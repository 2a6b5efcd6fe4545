use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use tkcore::{Caveat, Malformed, TextKind, TokenBuf, attenuate};

use super::{Exit, Failure, Streams, input, json_flag};

pub(super) fn describe() -> Command {
    Command::new("attenuate")
        .about("Narrow a token: append caveats to it, offline")
        .arg(input::token_file())
        .arg(
            Arg::new("caveat")
                .long("caveat")
                .short('c')
                .value_name("CAVEAT")
                .required(true)
                .action(ArgAction::Append)
                .help("A caveat to append; may be given several times"),
        )
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("Append even what this version could never clear"),
        )
        .arg(json_flag())
        .after_help(
            "Reads one token, writes the narrower one. Nobody is asked, and nobody can take a caveat off\n\
             again. The narrower token can be revoked alone.\n\n\
             Example:\n  tkverify attenuate -c 'action in read' -c 'time < 2026-12-01T00:00:00Z' < token.txt",
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let text = input::token(matches, streams)?;
    let bare = input::without_scheme(&text);
    let malformed = |e: Malformed| Failure::new(Exit::Malformed, e, "give one whole token");
    if bare.contains(',') {
        let next = "narrow the token alone, then get or bind its discharges anew";
        return Err(Failure::new(Exit::Malformed, "discharges are bound to the token as it is", next));
    }
    let (kind, token) = TokenBuf::from_text(bare).map_err(malformed)?;
    let caveats: Vec<&str> =
        matches.get_many::<String>("caveat").into_iter().flatten().map(String::as_str).collect();
    for caveat in &caveats {
        if let Err(e) = Caveat::parse(caveat)
            && !matches.get_flag("force")
        {
            let what = format!("`{}` would never be cleared: {e}", caveat.escape_debug());
            return Err(Failure::new(Exit::Usage, what, "correct it, or use --force for a kind of your own"));
        }
    }
    for caveat in repeated(&token, &caveats) {
        writeln!(streams.stderr, "tkverify attenuate: the token has `{}` already", caveat.escape_debug())?;
    }
    let narrowed = attenuate(&token.as_token(), &caveats)
        .map_err(|e| Failure::new(Exit::Malformed, e, "use fewer or shorter caveats"))?;
    let text = match kind {
        TextKind::Root => narrowed.to_text(),
        TextKind::Discharge => narrowed.to_discharge_text(),
    };
    if matches.get_flag("json") {
        writeln!(streams.stdout, "{}", json!({"token": text.as_str()}))?;
    } else {
        writeln!(streams.stdout, "{}", text.as_str())?;
    }
    Ok(Exit::Ok)
}

/// New caveats that stand in the token word for word: they change nothing.
fn repeated<'c>(token: &TokenBuf, caveats: &[&'c str]) -> Vec<&'c str> {
    let token = token.as_token();
    let has = |text: &str| {
        token.describe_untrusted().caveats().any(|old| !old.third_party && old.id == text.as_bytes())
    };
    caveats.iter().copied().filter(|text| has(text)).collect()
}
