//! `keys static`: the signer's own static key, and what in the state folder names it.

use std::path::Path;

use clap::{ArgMatches, Command};
use tkcore::Json;
use tkcore::protocol::{StaticKeys, StaticRetire, StaticRotate, Status};

use super::control::{SIGNER_KEY, TRUST_FILE};
use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};

pub(super) fn describe() -> Command {
    Command::new("static")
        .about("The signer's own key, which clients pin")
        .subcommand_required(true)
        .subcommands([
            reach::args(
                Command::new("list").about("The key to pin, and the one before while it is accepted"),
            ),
            reach::args(
                Command::new("rotate").about("Make a new one; the one before is accepted until retired"),
            )
            .arg(values::request_id_arg()),
            reach::args(Command::new("retire").about("Accept the one before no more, and destroy it"))
                .arg(values::place_arg("key", "KEY", "Its public half, in hexadecimal"))
                .arg(values::request_id_arg()),
        ])
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().ok_or_else(|| Failure::usage("list, rotate or retire"))?;
    let folder = values::dir(matches);
    let keys = match name {
        "rotate" => Reach::change(matches, &StaticRotate {})?,
        "retire" => {
            let key = values::hex(values::need(matches, "key")?)
                .ok_or_else(|| Failure::usage("a static key has 64 hexadecimal digits"))?;
            Reach::change(matches, &StaticRetire { key })?
        }
        _ => {
            let status = Reach::open(matches)?.call(&Status {})?;
            StaticKeys { current: status.static_key, before: status.static_before }
        }
    };
    // Done again whenever it is asked: a command that was cut off is made good by repeating it.
    if name != "list" {
        follow(&folder, &keys)?;
        let trust = folder.join(TRUST_FILE);
        writeln!(streams.stderr, "{} names the keys in force: bring it to every client", trust.display())?;
    }
    let facts = output::Facts::default()
        .with_text("current", values::to_hex(&keys.current))
        .with_maybe("before", keys.before.map(|key| values::to_hex(&key)));
    output::show(matches, streams, facts)
}

/// What the command line pins, and the trust file: each address with each key in force.
fn follow(folder: &Path, keys: &StaticKeys) -> Result<(), Failure> {
    let path = folder.join(TRUST_FILE);
    if let Ok(text) = std::fs::read_to_string(&path) {
        let wrong =
            || Failure::new(Exit::Local, format!("{} is no trust file", path.display()), "repair the file");
        let trust = Json::read(&text).ok_or_else(wrong)?;
        let mut urls = Vec::new();
        if let Some(Json::Array(listed)) = trust.get("signers") {
            urls.extend(listed.iter().filter_map(|signer| signer.get("url")?.text()));
        }
        // Each stands once for each key that was in force.
        urls.dedup();
        let trust = with(trust.clone(), "signers", signers(&urls, keys)).ok_or_else(wrong)?;
        replace(&path, &format!("{trust}\n"))?;
    }
    replace(&folder.join(SIGNER_KEY), &format!("{}\n", values::to_hex(&keys.current)))
}

/// The members of a trust file that say where which key is: the current one first.
pub(super) fn signers(urls: &[&str], keys: &StaticKeys) -> Json {
    let mut signers = Vec::new();
    for url in urls {
        for key in [Some(keys.current), keys.before].into_iter().flatten() {
            signers.push(Json::object([("url", (*url).into()), ("key", values::to_hex(&key).into())]));
        }
    }
    Json::Array(signers)
}

/// A trust file with another member; `None` when it is none.
pub(super) fn with(trust: Json, name: &str, value: Json) -> Option<Json> {
    let Json::Object(mut members) = trust else { return None };
    members.retain(|(known, _)| known != name);
    members.push((name.to_owned(), value));
    Some(Json::Object(members))
}

/// Writes a file whole or not at all: somebody may be reading it.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let part = path.with_extension("part");
    std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path)).map_err(|error| {
        Failure::new(Exit::Local, format!("{}: {error}", path.display()), "name a file that can be written")
    })
}
