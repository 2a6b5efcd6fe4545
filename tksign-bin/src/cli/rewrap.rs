use clap::{ArgMatches, Command};
use tkcore::protocol::{Rewrap, SecretBytes};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};
use crate::secret::{Secret, SecretSources};

const EXAMPLE: &str = "\
Example:
  head -c 32 /dev/urandom > new-secret && chmod 0400 new-secret
  tksign rewrap --new-secret-file new-secret

Every record is sealed anew in one transaction; from then on the signer starts with the new secret only.";

pub(super) fn describe() -> Command {
    reach::args(Command::new("rewrap").about("Move every record to a new secret").after_help(EXAMPLE)).arg(
        values::path_arg("new-secret-file", "FILE", "The new secret: a file of mode 0400").required(true),
    )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let file = values::path(matches, "new-secret-file");
    let secret = Secret::load(&SecretSources { file, ..SecretSources::default() })
        .map_err(|error| reach::bad_secret(&error, "make it first: see --help"))?;
    let params = Rewrap { secret: SecretBytes::from(secret.expose()) };
    let answer = Reach::open(matches)?.call(&params)?;
    let facts = output::Facts::default()
        .with_text("secret", values::to_hex(&answer.secret))
        .with("records", answer.records);
    output::show(matches, streams, facts)?;
    Ok(Exit::Ok)
}
