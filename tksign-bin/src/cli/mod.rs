//! The `tksign` command. A command is one file and one line in `COMMANDS`.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

mod audit;
mod backup;
mod clients;
mod control;
mod doctor;
#[cfg(feature = "etcd")]
mod etcd;
mod exit;
mod follow;
mod init;
mod keys;
mod local;
mod mint;
mod output;
mod publish;
mod reach;
mod restore;
mod revoke;
mod rewrap;
mod serve;
mod sign;
mod statics;
mod status;
mod tokens;
mod values;

pub use exit::Exit;

/// Where a command reads and writes. The thin `main` gives it the process's own.
pub struct Streams<'a> {
    /// Tokens are read from here when no file is named.
    pub stdin: &'a mut dyn Read,
    /// What was asked for, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// Errors with a next step, and warnings.
    pub stderr: &'a mut dyn Write,
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

/// One command.
struct Entry {
    name: &'static str,
    describe: fn() -> Command,
    run: fn(&ArgMatches, &mut Streams<'_>) -> Result<Exit, Failure>,
}

const COMMANDS: &[Entry] = &[
    Entry { name: "init", describe: init::describe, run: init::run },
    Entry { name: "serve", describe: serve::describe, run: serve::run },
    Entry { name: "mint", describe: mint::describe, run: mint::run },
    Entry { name: "revoke", describe: revoke::describe, run: revoke::run },
    Entry { name: "keys", describe: keys::describe, run: keys::run },
    Entry { name: "clients", describe: clients::describe, run: clients::run },
    Entry { name: "tokens", describe: tokens::describe, run: tokens::run },
    Entry { name: "status", describe: status::describe, run: status::run },
    Entry { name: "audit", describe: audit::describe, run: audit::run },
    Entry { name: "publish", describe: publish::describe, run: publish::run },
    Entry { name: "rewrap", describe: rewrap::describe, run: rewrap::run },
    Entry { name: "backup", describe: backup::describe, run: backup::run },
    Entry { name: "restore-check", describe: restore::describe, run: restore::run },
    #[cfg(feature = "etcd")]
    Entry { name: "migrate", describe: etcd::migrate::describe, run: etcd::migrate::run },
    Entry { name: "doctor", describe: doctor::describe, run: doctor::run },
];

/// Why a command failed, for a person: what, and what to do next.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    what: String,
    next: String,
}

impl Failure {
    fn new(exit: Exit, what: impl fmt::Display, next: impl Into<String>) -> Self {
        Self { exit, what: what.to_string(), next: next.into() }
    }

    /// What cannot be, unless this program is wrong.
    fn bug(what: impl fmt::Display) -> Self {
        Self::new(Exit::Bug, what, "report this with the version of tksign")
    }

    /// A value of the command line that clap took and we cannot use.
    fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what, "see --help")
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::new(Exit::Local, e, "check the disk and what the output is connected to")
    }
}

/// Runs one command line, the program's name first. `serve` returns when the server has
/// stopped.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>, streams: &mut Streams<'_>) -> Exit {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => {
            let text = e.render();
            let (to, exit): (&mut dyn Write, Exit) =
                if e.use_stderr() { (streams.stderr, Exit::Usage) } else { (streams.stdout, Exit::Ok) };
            // Nobody is left to tell when this fails.
            let _ = write!(to, "{text}");
            return exit;
        }
    };
    let Some((name, matches)) = matches.subcommand() else { return Exit::Usage };
    let Some(entry) = COMMANDS.iter().find(|entry| entry.name == name) else { return Exit::Usage };
    match (entry.run)(matches, streams) {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(streams.stderr, "tksign {name}: {}\nnext: {}", failure.what, failure.next);
            failure.exit
        }
    }
}

/// What the command line takes: for its manual pages and completions.
#[must_use]
pub fn command() -> Command {
    Command::new("tksign")
        .about("The signer: alone holds the root keys; mints, verifies, revokes, publishes")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(Arg::new("version").long("version").action(ArgAction::Version).help("Print the version"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(exit::TABLE)
        .subcommands(COMMANDS.iter().map(|entry| (entry.describe)()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        command().debug_assert();
        for entry in COMMANDS {
            let mut described = (entry.describe)();
            assert_eq!(described.get_name(), entry.name);
            let help = described.render_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", entry.name);
            assert!(help.contains(&format!("tksign {}", entry.name)), "{}", entry.name);
        }
    }

    #[test]
    fn wrong_usage_is_told_on_the_error_stream() {
        for args in [&["tksign"][..], &["tksign", "nothing"], &["tksign", "mint", "--nothing"]] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut streams = Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err };
            assert_eq!(run(args, &mut streams), Exit::Usage, "{args:?}");
            assert!(out.is_empty() && !err.is_empty());
        }
    }
}
