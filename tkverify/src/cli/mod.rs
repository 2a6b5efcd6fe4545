//! The `tkverify` command. A command is one file and one line in `COMMANDS`.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

mod attenuate;
mod caveat;
mod check;
mod exit;
mod explain;
mod input;
mod inspect;
mod keygen;
#[cfg(test)]
mod killed;
mod refresh;
mod request;
mod trust;

pub use exit::Exit;

/// Where a command reads and writes. The thin `main` gives it the process's own.
pub struct Streams<'a> {
    /// Tokens are read from here when no file is named.
    pub stdin: &'a mut dyn Read,
    /// What was asked for, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// Errors with a next step, warnings, progress.
    pub stderr: &'a mut dyn Write,
    /// Whether somebody watches `stderr`: progress is shown to people alone.
    pub watched: Watched,
    /// Whether `stdout` shows colours.
    pub colours: Colours,
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streams({:?})", self.watched)
    }
}

/// Whether `stderr` is a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// A person is there.
    Yes,
    /// A log, a pipe, cron.
    No,
}

/// Whether `stdout` is a terminal whose person wants colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// A terminal, and `NO_COLOR` is not set.
    Shown,
    /// Text alone.
    None,
}

/// What a piece of text is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Name,
    Good,
    Warning,
    Bad,
}

impl Colours {
    /// The text, painted if colours are shown. `text` holds no escape sequences of its own.
    fn paint(self, paint: Paint, text: &str) -> String {
        let code = match (self, paint) {
            (Self::None, _) => return text.to_owned(),
            (Self::Shown, Paint::Name) => "36",
            (Self::Shown, Paint::Good) => "32",
            (Self::Shown, Paint::Warning) => "33",
            (Self::Shown, Paint::Bad) => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// One command.
struct Entry {
    name: &'static str,
    describe: fn() -> Command,
    run: fn(&ArgMatches, &mut Streams<'_>) -> Result<Exit, Failure>,
}

const COMMANDS: &[Entry] = &[
    Entry { name: "attenuate", describe: attenuate::describe, run: attenuate::run },
    Entry { name: "caveat", describe: caveat::describe, run: caveat::run },
    Entry { name: "check", describe: check::describe, run: check::run },
    Entry { name: "explain", describe: explain::describe, run: explain::run },
    Entry { name: "inspect", describe: inspect::describe, run: inspect::run },
    Entry { name: "keygen", describe: keygen::describe, run: keygen::run },
    Entry { name: "refresh", describe: refresh::describe, run: refresh::run },
];

/// Why a command failed, for a person: what, and what to do next.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    what: String,
    next: &'static str,
}

impl Failure {
    fn new(exit: Exit, what: impl fmt::Display, next: &'static str) -> Self {
        Self { exit, what: what.to_string(), next }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            // Whoever reads the output has seen enough, as with `| head`: nothing to say, and no success,
            // which `check` would mean as a grant.
            return Self::new(Exit::Local, "", "");
        }
        Self::new(Exit::Local, e, "check the disk and what the output is connected to")
    }
}

/// Runs one command line, the program's name first.
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
        Err(failure) if failure.what.is_empty() => failure.exit,
        Err(failure) => {
            let _ = writeln!(streams.stderr, "tkverify {name}: {}\nnext: {}", failure.what, failure.next);
            failure.exit
        }
    }
}

/// What the command line takes: for its manual pages and completions.
#[must_use]
pub fn command() -> Command {
    Command::new("tkverify")
        .about("Look at tokens, narrow them, check them, and keep a revocation feed fresh")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(Arg::new("version").long("version").action(ArgAction::Version).help("Print the version"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(exit::TABLE)
        .subcommands(COMMANDS.iter().map(|entry| (entry.describe)()))
}

/// `--json`: the same facts for programs.
fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object instead of text")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that has gone away.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_told_nothing() {
        let mut stderr = Vec::new();
        let mut streams = Streams {
            stdin: &mut std::io::empty(),
            stdout: &mut Gone,
            stderr: &mut stderr,
            watched: Watched::No,
            colours: Colours::None,
        };
        assert_eq!(run(["tkverify", "caveat", "action = read"], &mut streams), Exit::Local);
        assert!(stderr.is_empty());
    }

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        command().debug_assert();
        for entry in COMMANDS {
            let mut described = (entry.describe)();
            assert_eq!(described.get_name(), entry.name);
            let help = described.render_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", entry.name);
            assert!(help.contains(&format!("tkverify {}", entry.name)), "{}", entry.name);
        }
    }
}
