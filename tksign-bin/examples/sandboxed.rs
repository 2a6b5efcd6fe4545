//! The signer's sandbox around one act of somebody else's, for the tests: `sandboxed ACT [ARGUMENT]`
//! denies itself what `tksign serve` denies itself, then tries the act and says what came of it.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use tksign::host::{Calls, Files, Sandbox, harden};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let act = words.next().unwrap_or_default();
    let argument = words.next().unwrap_or_default();
    let own: Vec<PathBuf> = std::env::var_os("OWN").into_iter().map(PathBuf::from).collect();
    let calls = Calls { unix: act == "unix-allowed", tcp: act == "tcp-allowed" };
    let sandbox = Sandbox { files: Files { own, ..Files::default() }, calls };
    let report = harden();
    // Asking is not among the calls of a server.
    let dumpable = rustix::process::dumpable_behavior();
    let report = report.and(sandbox.files()).and(sandbox.calls());
    println!("{report}");
    let done = match act.as_str() {
        "read" => std::fs::read(&argument).map(|_| "read".to_owned()),
        "write" => std::fs::write(&argument, "x").map(|()| "written".to_owned()),
        "exec" => Command::new(&argument).status().map(|status| status.to_string()),
        "unix" | "unix-allowed" => UnixStream::connect(&argument).map(|_| "connected".to_owned()),
        "tcp" | "tcp-allowed" => TcpStream::connect(&argument).map(|_| "connected".to_owned()),
        "listen" => TcpListener::bind(&argument).map(|_| "listening".to_owned()),
        "thread" => Ok(std::thread::spawn(|| "a thread ran".to_owned()).join().unwrap_or_default()),
        "dumpable" => dumpable.map(|found| format!("{found:?}")).map_err(Into::into),
        _ => Ok("nothing was asked".to_owned()),
    };
    match done {
        Ok(what) => {
            println!("done: {what}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused: {error}");
            ExitCode::FAILURE
        }
    }
}
