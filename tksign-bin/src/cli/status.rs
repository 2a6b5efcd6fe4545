use clap::{ArgMatches, Command};
use tkcore::protocol::{Mode, Status, StatusAnswer};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};

const EXAMPLE: &str = "\
Example:
  tksign status --dir /var/lib/tksign --json

Exit code 25 when something wants attention.";

pub(super) fn describe() -> Command {
    reach::args(Command::new("status").about("How the signer is").after_help(EXAMPLE))
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let mut reach = Reach::open(matches)?;
    let running = matches!(reach, Reach::Running(_));
    let status = reach.call(&Status {})?;
    let sound = status.notice.as_str().is_empty();
    output::show(matches, streams, facts(&status, running))?;
    Ok(if sound { Exit::Ok } else { Exit::Unsound })
}

fn facts(status: &StatusAnswer, running: bool) -> output::Facts {
    let mode = match status.mode {
        Mode::Serving => "serving",
        Mode::ReadOnly => "read-only",
        Mode::Stopping => "stopping",
    };
    output::Facts::default()
        .with_text("version", &status.version)
        .with("running", running)
        .with("mode", mode)
        .with_text("feed", status.feed)
        .with_text("signer key", values::to_hex(&status.static_key))
        .with_maybe("signer key before", status.static_before.map(|key| values::to_hex(&key)))
        .with_text("started", status.started)
        .with_text("clock", status.now)
        .with_text("position", format_args!("{}.{}", status.position.epoch, status.position.sequence))
        .with_text("head issued", status.head_issued)
        .with_text("head valid until", status.head_valid_until)
        .with("key list", status.key_list)
        .with_text("publication key until", status.publication_until)
        .with("keys", status.keys)
        .with("clients", status.clients)
        .with("tokens", status.tokens)
        .with("revocations", status.revocations)
        .with("audit lines", status.audit_lines)
        .with_text("audit hash", values::to_hex(&status.audit_hash))
        .with("schema", status.schema)
        .with_text("secret", values::to_hex(&status.secret))
        .with_text("sandbox", &status.sandbox)
        .with_text("notice", &status.notice)
}
