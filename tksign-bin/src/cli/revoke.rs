use clap::{Arg, ArgMatches, Command};
use tkcore::protocol::{
    Counted, KeyFloor, Revoke, RevokeAnswer, RevokeEffect, RevokePreview, RevokePreviewAnswer, RevokeScope,
    RevokeTarget, SecretBytes,
};
use tkcore::{BranchId, KeyId, LineageId};

use super::control::Speaker;
use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};

const EXAMPLE: &str = "\
Examples:
  tksign revoke token 9f3c…          a token and everything attenuated from it, by its lineage
  tksign revoke branch 55aa…         one attenuated descendant and what follows from it
  tksign revoke presented < token    the token on standard input, without knowing its ids
  tksign revoke subject --tenant acme --subject user:17     log out everywhere
  tksign revoke tenant --tenant acme --before 2026-12-01T00:00:00Z
  tksign revoke key 0102030405060708
  tksign revoke everything --before now
  tksign revoke --dry-run tenant --tenant acme              says what would be hit, and changes nothing

There is no way back. Success means that it is durable and reaches the feed at once.";

pub(super) fn describe() -> Command {
    Command::new("revoke")
        .about("Kill tokens")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(values::flag("dry-run", "Say what would be hit, and change nothing").global(true))
        .subcommands([
            rule("token", "A lineage").arg(id_arg("LINEAGE")),
            rule("branch", "One attenuated descendant").arg(id_arg("BRANCH")),
            rule("presented", "The token on standard input or in a file")
                .arg(values::text_arg("token-file", "FILE", "Read the token from here"))
                .arg(values::flag("branch", "Only from its last caveat on; parent and siblings live")),
            rule("subject", "Everything of a subject")
                .arg(tenant())
                .arg(values::text_arg("subject", "NAME", "The subject").required(true))
                .arg(before("now")),
            rule("tenant", "Everything of a tenant").arg(tenant()).arg(before("now")),
            rule("key", "Everything under a key").arg(id_arg("KEY")).arg(values::text_arg(
                "before",
                "WHEN",
                "Only what was minted before now or a time; without it all of it, for good",
            )),
            rule("everything", "Everything there is: the emergency brake").arg(before("now").required(true)),
        ])
}

fn rule(name: &'static str, about: &'static str) -> Command {
    reach::args(Command::new(name).about(about)).arg(values::reason_arg()).arg(values::request_id_arg())
}

fn id_arg(value: &'static str) -> Arg {
    values::place_arg("id", value, "In hexadecimal")
}

fn tenant() -> Arg {
    values::text_arg("tenant", "NAME", "The tenant").required(true)
}

fn before(default: &'static str) -> Arg {
    values::text_arg("before", "WHEN", "What was minted before now or a time").default_value(default)
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let Some((rule, matches)) = matches.subcommand() else { return Ok(Exit::Usage) };
    let target = target(rule, matches, streams)?;
    if values::set(matches, "dry-run") {
        let answer = Reach::open_as(matches, Speaker::Revoke)?.call(&RevokePreview { target })?;
        output::show(matches, streams, preview(&answer))?;
        return Ok(Exit::Ok);
    }
    let params = Revoke { target, reason: values::reason(matches)? };
    let id = values::request_id(matches)?;
    let answer = Reach::open_as(matches, Speaker::Revoke)?.call_as(&params, id)?;
    output::show(matches, streams, facts(&answer))?;
    Ok(Exit::Ok)
}

fn target(rule: &str, matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<RevokeTarget, Failure> {
    let id = || values::need(matches, "id");
    let floor = || values::floor(values::need(matches, "before")?);
    let tenant = || values::name(values::need(matches, "tenant")?);
    Ok(match rule {
        "token" => RevokeTarget::Token(values::id(id()?, "lineage", LineageId::from_hex)?),
        "branch" => RevokeTarget::Branch(values::id(id()?, "branch", BranchId::from_hex)?),
        "key" => {
            let key = values::id(id()?, "key id", KeyId::from_hex)?;
            let all = values::get(matches, "before").is_none();
            RevokeTarget::Key(key, if all { KeyFloor::All } else { KeyFloor::Before(floor()?) })
        }
        "subject" => {
            let subject = values::name(values::need(matches, "subject")?)?;
            RevokeTarget::Subject(tenant()?, subject, floor()?)
        }
        "tenant" => RevokeTarget::Tenant(tenant()?, floor()?),
        "everything" => RevokeTarget::Global(floor()?),
        "presented" => {
            let token = values::read_token(matches, streams)?;
            let branch = values::set(matches, "branch");
            let scope = if branch { RevokeScope::Branch } else { RevokeScope::Lineage };
            RevokeTarget::Presented(SecretBytes::from(token.as_token().as_v2()), scope)
        }
        other => return Err(Failure::usage(format!("no rule \"{other}\""))),
    })
}

fn facts(answer: &RevokeAnswer) -> output::Facts {
    output::Facts::default()
        .with(
            "effect",
            match answer.effect {
                RevokeEffect::New => "revoked",
                RevokeEffect::Already => "was revoked already",
            },
        )
        .with_time("before", answer.before)
        .with_text("in feed after", format_args!("{}.{}", answer.after.epoch, answer.after.sequence))
}

fn preview(answer: &RevokePreviewAnswer) -> output::Facts {
    output::Facts::default()
        .with(
            "effect",
            match answer.effect {
                RevokeEffect::New => "would revoke",
                RevokeEffect::Already => "is revoked already",
            },
        )
        .with_text("rule", answer.rule)
        .with_maybe("row", (!answer.id.0.is_empty()).then(|| crate::codec::hex(&answer.id.0)))
        .with_time("before", answer.before)
        .with_time("floor in force", answer.standing)
        .with_maybe(
            "kept until the end of",
            answer.kept.map(|day| day.to_string().chars().take(10).collect::<String>()),
        )
        .with("live tokens hit", answer.hit)
        .with("of these with a label", answer.labelled)
        .with("of these service tokens", answer.service)
        .with("revoked already", answer.already)
        .with("spared by the floor", answer.spared)
        .with("numbers", if answer.counted == Counted::All { "of all registered tokens" } else { "at least" })
}
