use clap::{ArgMatches, Command};
use tkcore::LineageId;
use tkcore::protocol::{TokenInfo, TokenList, TokenShow};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};

const EXAMPLE: &str = "\
Examples:
  tksign tokens list --tenant acme --subject user:17
  tksign tokens list --parent 9f3c…      service tokens made from a token
  tksign tokens show 9f3c…";

pub(super) fn describe() -> Command {
    Command::new("tokens")
        .about("Which tokens exist, whose, until when, revoked by what")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            reach::args(Command::new("list").about("Registered tokens"))
                .arg(values::text_arg("tenant", "NAME", "Of this tenant"))
                .arg(values::text_arg("subject", "NAME", "Of this subject").requires("tenant"))
                .arg(values::text_arg("parent", "LINEAGE", "Made from this token")),
            reach::args(Command::new("show").about("One token")).arg(values::place_arg(
                "lineage",
                "LINEAGE",
                "In hexadecimal",
            )),
        ])
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    match matches.subcommand() {
        Some(("list", matches)) => {
            let tenant = values::maybe_name(matches, "tenant")?;
            let subject = values::maybe_name(matches, "subject")?;
            let parent = values::get(matches, "parent");
            let parent = parent.map(|text| values::id(text, "lineage", LineageId::from_hex)).transpose()?;
            let params = |from| TokenList { tenant: tenant.clone(), subject: subject.clone(), parent, from };
            reach::list(matches, streams, params, facts)?;
        }
        Some(("show", matches)) => {
            let lineage = values::id(values::need(matches, "lineage")?, "lineage", LineageId::from_hex)?;
            let answer = Reach::open(matches)?.call(&TokenShow { lineage })?;
            output::show(matches, streams, facts(&answer))?;
        }
        _ => return Ok(Exit::Usage),
    }
    Ok(Exit::Ok)
}

fn facts(token: &TokenInfo) -> output::Facts {
    output::Facts::default()
        .with_text("lineage", token.lineage)
        .with_text("tenant", &token.tenant)
        .with_maybe("subject", token.subject.as_ref())
        .with_maybe("label", token.label.as_ref())
        .with_text("key", token.key)
        .with_time("minted", token.lineage.minted())
        .with_time("expires", token.expiry)
        .with_maybe("parent", token.parent)
        .with_maybe("revoked by", token.revoked)
        .with_time("last seen", token.last_seen)
}
