use clap::{ArgMatches, Command};
use tkcore::protocol::{
    Bytes, KeyCreate, KeyInfo, KeyList, KeyRetire, KeyRotate, KeyState, PublicationDraft, PublicationPrepare,
    PublicationRotate,
};
use tkcore::{KeyClass, KeyId};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, sign, statics, values};

const EXAMPLE: &str = "\
Examples:
  tksign keys create --tenant acme
  tksign keys create --tenant acme --audience billing --delegable
  tksign keys list --tenant acme
  tksign keys rotate 0102030405060708     a new generation mints, the old one goes on verifying
  tksign keys retire 0102030405060708     revokes what is under it and destroys the key
  tksign keys publication prepare --out list.unsigned
  tksign keys publication sign --root-key root.key list.unsigned --out list.signed    (offline)
  tksign keys publication install list.signed
  tksign keys static rotate               a new key for clients to pin, the old one is accepted on
  tksign keys static retire KEY           once every client has the new trust file";

/// Longest key list taken: far above one of 16 keys and 16 signatures.
const KEY_LIST_BYTES: u64 = 32 * 1024;

pub(super) fn describe() -> Command {
    let key = || values::place_arg("key", "KEY", "The key id, in hexadecimal");
    let file = || values::place_arg("file", "FILE", "The signed key list");
    Command::new("keys")
        .about("Key records of tokens, and the keys that sign the feed")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            reach::args(Command::new("create").about("Make the first key of a tenant or audience"))
                .arg(values::text_arg("tenant", "NAME", "Whose tokens it makes").required(true))
                .arg(values::text_arg("audience", "NAME", "Only for this service"))
                .arg(values::flag("delegable", "Services of the audience may hold it; for good"))
                .arg(values::request_id_arg()),
            reach::args(Command::new("list").about("Keys, their state and what still depends on them"))
                .arg(values::text_arg("tenant", "NAME", "Of this tenant only")),
            reach::args(Command::new("rotate").about("Make the next generation"))
                .arg(key())
                .arg(values::request_id_arg()),
            reach::args(Command::new("retire").about("Revoke a key and destroy it"))
                .arg(key())
                .arg(values::request_id_arg()),
            Command::new("publication")
                .about("The keys that sign the feed")
                .subcommand_required(true)
                .subcommands([
                    reach::args(
                        Command::new("prepare").about("Make a new key and the key list to sign offline"),
                    )
                    .arg(
                        values::text_arg("out", "FILE", "Where to write what is to be signed").required(true),
                    )
                    .arg(values::flag("next-epoch", "Drop every earlier key at once and replace the set"))
                    .arg(values::request_id_arg()),
                    sign::describe(),
                    reach::args(Command::new("install").about("Take the signed key list into force"))
                        .arg(file())
                        .arg(values::request_id_arg()),
                ]),
            statics::describe(),
        ])
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    match matches.subcommand() {
        Some(("create", matches)) => {
            let delegable = values::set(matches, "delegable");
            let params = KeyCreate {
                tenant: values::name(values::need(matches, "tenant")?)?,
                audience: values::maybe_name(matches, "audience")?,
                class: if delegable { KeyClass::Delegable } else { KeyClass::Ordinary },
            };
            output::show(matches, streams, facts(&Reach::change(matches, &params)?))?;
        }
        Some(("list", matches)) => {
            let tenant = values::maybe_name(matches, "tenant")?;
            reach::list(matches, streams, |from| KeyList { tenant: tenant.clone(), from }, facts)?;
        }
        Some(("rotate", matches)) => {
            let answer = Reach::change(matches, &KeyRotate { key: key(matches)? })?;
            output::show(matches, streams, facts(&answer))?;
        }
        Some(("retire", matches)) => {
            let answer = Reach::change(matches, &KeyRetire { key: key(matches)? })?;
            output::show(matches, streams, facts(&answer))?;
        }
        Some(("publication", matches)) => publication(matches, streams)?,
        Some(("static", matches)) => statics::run(matches, streams)?,
        _ => return Ok(Exit::Usage),
    }
    Ok(Exit::Ok)
}

fn publication(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("prepare", matches)) => {
            let next = values::set(matches, "next-epoch");
            let draft = if next { PublicationDraft::NextEpoch } else { PublicationDraft::SameEpoch };
            let out = values::need(matches, "out")?;
            let answer = Reach::change(matches, &PublicationPrepare { draft })?;
            std::fs::write(out, &answer.to_sign.0).map_err(|e| {
                Failure::new(Exit::Local, format!("{out}: {e}"), "name a file that can be written")
            })?;
            let facts = output::Facts::default().with("version", answer.version).with_text("to sign", out);
            output::show(matches, streams, facts)?;
        }
        Some(("sign", matches)) => sign::run(matches, streams)?,
        Some(("install", matches)) => {
            use std::io::Read as _;
            let path = values::need(matches, "file")?;
            let unreadable =
                |e| Failure::new(Exit::Local, format!("{path}: {e}"), "name the key list that was signed");
            let mut list = Vec::new();
            let file = std::fs::File::open(path).map_err(unreadable)?;
            file.take(KEY_LIST_BYTES).read_to_end(&mut list).map_err(unreadable)?;
            Reach::change(matches, &PublicationRotate { key_list: Bytes(list) })?;
            writeln!(streams.stderr, "the key list is in force")?;
        }
        _ => return Err(Failure::usage("prepare, sign or install")),
    }
    Ok(())
}

fn key(matches: &ArgMatches) -> Result<KeyId, Failure> {
    values::id(values::need(matches, "key")?, "key id", KeyId::from_hex)
}

fn facts(key: &KeyInfo) -> output::Facts {
    output::Facts::default()
        .with_text("key", key.key)
        .with_text("tenant", &key.tenant)
        .with_maybe("audience", key.audience.as_ref())
        .with(
            "class",
            match key.class {
                KeyClass::Ordinary => "ordinary",
                KeyClass::Delegable => "delegable",
            },
        )
        .with("generation", key.generation)
        .with(
            "state",
            match key.state {
                KeyState::Current => "current",
                KeyState::Verifying => "verifying",
                KeyState::Retired => "retired",
            },
        )
        .with_text("created", key.created)
        .with_time("ended", key.ended)
        .with("live tokens", key.live_tokens)
}
