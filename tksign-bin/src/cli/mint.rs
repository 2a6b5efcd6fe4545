use clap::{Arg, ArgAction, ArgMatches, Command};
use tkcore::protocol::{Bytes, Expiry, Mint, MintCaveat, Permit};
use tkcore::{KeyClass, TokenBuf};

use super::control::Speaker;
use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};

const EXAMPLE: &str = "\
Example:
  tksign mint --tenant acme --subject user:17 --expires 8h --caveat 'action in read,list'

The token is the one thing printed on standard output. It is a secret: whoever has it can use it.";

pub(super) fn describe() -> Command {
    reach::args(
        Command::new("mint")
            .about("Make a token")
            .after_help(EXAMPLE)
            .arg(values::text_arg("tenant", "NAME", "Whose power it is").required(true))
            .arg(values::text_arg("audience", "NAME", "Only for this service"))
            .arg(values::flag("delegable", "Under the key that services of the audience may hold"))
            .arg(values::text_arg(
                "subject",
                "NAME",
                "On whose behalf; everything of a subject can be revoked",
            ))
            .arg(values::text_arg("label", "NAME", "For the registry; not in the token"))
            .arg(
                values::text_arg(
                    "expires",
                    "WHEN",
                    "A duration (90s, 15m, 8h, 30d), a time (2026-12-01T00:00:00Z) or never",
                )
                .required(true),
            )
            .arg(
                Arg::new("caveat")
                    .long("caveat")
                    .value_name("TEXT")
                    .action(ArgAction::Append)
                    .help("A caveat the token starts with; repeat for more"),
            )
            .arg(values::flag("unrestricted", "Mean it: no caveat but of time"))
            .arg(values::flag("never-expires", "Mean it: --expires never"))
            .arg(values::request_id_arg()),
    )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let permit = |name| if values::set(matches, name) { Permit::Given } else { Permit::Withheld };
    let caveats = matches.get_many::<String>("caveat").unwrap_or_default();
    let params = Mint {
        tenant: values::name(values::need(matches, "tenant")?)?,
        audience: values::maybe_name(matches, "audience")?,
        class: if values::set(matches, "delegable") { KeyClass::Delegable } else { KeyClass::Ordinary },
        subject: values::maybe_name(matches, "subject")?,
        label: values::maybe_name(matches, "label")?,
        expiry: values::expiry(values::need(matches, "expires")?)?,
        caveats: caveats.map(|caveat| MintCaveat::FirstParty(Bytes(caveat.as_bytes().to_vec()))).collect(),
        unrestricted: permit("unrestricted"),
        never_expires: permit("never-expires"),
    };
    if params.expiry == Expiry::Never && params.never_expires == Permit::Withheld {
        return Err(Failure::new(
            Exit::Refused,
            "a token that never expires must be meant",
            "add --never-expires, or give an end",
        ));
    }
    let id = values::request_id(matches)?;
    let answer = Reach::open_as(matches, Speaker::Mint)?.call_as(&params, id)?;
    let token = TokenBuf::from_v2(answer.token.expose().to_vec())
        .map_err(|error| Failure::new(Exit::Bug, error, "report this with the version of tksign"))?;
    let text = token.to_text();
    if values::set(matches, "json") {
        let facts = output::Facts::default()
            .with("token", text.as_str())
            .with_text("lineage", answer.lineage)
            .with_text("key", answer.key)
            .with_time("expires", answer.expiry);
        output::show(matches, streams, facts)?;
    } else {
        writeln!(streams.stdout, "{}", text.as_str())?;
        let expires = answer.expiry.map_or_else(|| "never".to_owned(), |at| at.to_string());
        writeln!(streams.stderr, "lineage {}  key {}  expires {expires}", answer.lineage, answer.key)?;
    }
    Ok(Exit::Ok)
}
