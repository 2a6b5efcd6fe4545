use clap::{ArgMatches, Command};
use tkcore::protocol::{Bytes, Expiry, Mint, MintCaveat, Permit, SecretKey, Text};
use tkcore::{AuthorityId, AuthorityPublic, CaveatKey, KeyClass, SealTo, TokenBuf, seal_ticket};

use super::control::Speaker;
use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};
use crate::random;

const EXAMPLE: &str = "\
Example:
  tksign mint --tenant acme --subject user:17 --expires 8h --caveat 'action in read,list'
  tksign mint --tenant acme --expires 8h --caveat 'action = read' \\
    --third-party https://login.example/v1/discharge 5f0a… 77c1… 'subject = user:17'

A third party must agree before the token counts: where to ask, its id, its public key, and what it
must find true, if anything. Whoever holds the token gets its discharge there.

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
            .arg(values::many_arg("caveat", "TEXT", "A caveat the token starts with; repeat for more"))
            .arg(
                values::many_arg(
                    "third-party",
                    "URL",
                    "Somebody who must agree, by id and public key in hexadecimal; repeat for more",
                )
                .value_names(["URL", "AUTHORITY", "KEY", "CAVEAT"])
                .num_args(3..),
            )
            .arg(values::flag("unrestricted", "Mean it: no caveat restricts it"))
            .arg(values::flag("never-expires", "Mean it: --expires never"))
            .arg(values::request_id_arg()),
    )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let permit = |name| if values::set(matches, name) { Permit::Given } else { Permit::Withheld };
    let first = values::many(matches, "caveat")
        .map(|caveat| Ok(MintCaveat::FirstParty(Bytes(caveat.as_bytes().to_vec()))));
    let others = matches.get_occurrences::<String>("third-party").into_iter().flatten();
    let others = others.map(|values| third_party(&values.map(String::as_str).collect::<Vec<_>>()));
    let params = Mint {
        tenant: values::name(values::need(matches, "tenant")?)?,
        audience: values::maybe_name(matches, "audience")?,
        class: if values::set(matches, "delegable") { KeyClass::Delegable } else { KeyClass::Ordinary },
        subject: values::maybe_name(matches, "subject")?,
        label: values::maybe_name(matches, "label")?,
        expiry: values::expiry(values::need(matches, "expires")?)?,
        caveats: first.chain(others).collect::<Result<_, _>>()?,
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
    let token = TokenBuf::from_v2(answer.token.expose().to_vec()).map_err(Failure::bug)?;
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

/// A caveat that a third party discharges. The key of the discharge's chain goes sealed to the third
/// party and sealed into the token; nobody keeps it.
fn third_party(values: &[&str]) -> Result<MintCaveat, Failure> {
    let wrong = |what: &str| Failure::usage(format!("--third-party {}: {what}", values.join(" ")));
    let [url, authority, key, caveats @ ..] = values else { return Err(wrong("URL AUTHORITY KEY")) };
    let authority = values::id(authority, "authority id", AuthorityId::from_hex)?;
    let public = values::hex(key).map(AuthorityPublic::from_bytes);
    let public = public.ok_or_else(|| wrong("a public key has 64 hexadecimal digits"))?;
    let (key, ephemeral) = (random::secret(), random::secret());
    let to = SealTo::Public { key: &public, ephemeral: &ephemeral };
    let ticket = seal_ticket(authority, &to, &CaveatKey::from_bytes(*key), caveats);
    Ok(MintCaveat::ThirdParty {
        location: Text::new(url).ok_or_else(|| wrong("the URL is too long"))?,
        ticket: Bytes(ticket.map_err(|error| wrong(&error.to_string()))?),
        key: SecretKey::new(*key),
    })
}
