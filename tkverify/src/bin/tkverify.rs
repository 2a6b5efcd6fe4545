//! The `tkverify` command: a thin shell over [`tkverify::cli::run`].

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use tkverify::cli::{Colours, Streams, Watched, run};

fn main() -> ExitCode {
    let watched = if io::stderr().is_terminal() { Watched::Yes } else { Watched::No };
    // https://no-color.org: set to anything, it means none.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = if io::stdout().is_terminal() && !plain { Colours::Shown } else { Colours::None };
    let mut streams = Streams {
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr(),
        watched,
        colours,
    };
    run(std::env::args_os(), &mut streams).into()
}
