//! The `tkverify` command: a thin shell over [`tkverify::cli::run`].

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use tkverify::cli::{Streams, Watched, run};

fn main() -> ExitCode {
    let watched = if io::stderr().is_terminal() { Watched::Yes } else { Watched::No };
    let mut streams = Streams {
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr(),
        watched,
    };
    run(std::env::args_os(), &mut streams).into()
}
