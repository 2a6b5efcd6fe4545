use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use tkcore::{Advice, Malformed, TextKind, TokenBuf, Vocabulary, advise, attenuate};

use super::{Exit, Failure, Streams, input, json_flag};
use crate::clock::{Clock as _, SystemClock};

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
            "Warns of a caveat that changes nothing, and refuses one that could never be cleared.\n\
             Reads one token, writes the narrower one. Nobody is asked, and nobody can take a caveat off\n\
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
    warn(&token, &caveats, matches.get_flag("force"), streams)?;
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

/// Looks at each new caveat beside those before it: warns of one that changes nothing, and
/// refuses one that this version could never clear.
fn warn(token: &TokenBuf, new: &[&str], force: bool, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let token = token.as_token();
    let untrusted = token.describe_untrusted();
    let expiry = untrusted.identifier().and_then(|identifier| identifier.expiry);
    let mut caveats: Vec<&[u8]> =
        untrusted.caveats().filter(|caveat| !caveat.third_party).map(|caveat| caveat.id).collect();
    let (vocabulary, now) = (Vocabulary::native(), SystemClock::new().read().wall);
    for caveat in new {
        let shown = caveat.escape_debug();
        match advise(caveats.clone(), expiry, caveat, &vocabulary, Some(now)) {
            Advice::Restricts => {}
            Advice::ChangesNothing => writeln!(
                streams.stderr,
                "tkverify attenuate: `{shown}` changes nothing: the token asks for that already"
            )?,
            Advice::NeverClears(why) if force => {
                writeln!(streams.stderr, "tkverify attenuate: `{shown}` will never be cleared here: {why}")?;
            }
            Advice::NeverClears(why) => {
                let what = format!("`{shown}` would never be cleared: {why}");
                let next = "correct it, or use --force for a kind of your own";
                return Err(Failure::new(Exit::Usage, what, next));
            }
        }
        caveats.push(caveat.as_bytes());
    }
    Ok(())
}
