//! The signer: a thin shell over [`tksign::run`].

use std::io;
use std::process::ExitCode;

use tksign::{Streams, run};

fn main() -> ExitCode {
    let mut streams =
        Streams { stdin: &mut io::stdin().lock(), stdout: &mut io::stdout(), stderr: &mut io::stderr() };
    run(std::env::args_os(), &mut streams).into()
}
