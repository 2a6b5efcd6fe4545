use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{Exit, Failure, Streams, json_flag};
use crate::client_key::ClientKey;
use crate::trust::hex;

pub(super) fn describe() -> Command {
    Command::new("keygen")
        .about("Make the key by which the signer will know this service")
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where the private key goes; must not exist yet, gets mode 0600"),
        )
        .arg(json_flag())
        .after_help(
            "Prints the public key, which the signer's operator adds:\n\n\
             Example:\n  tkverify keygen --out /etc/myservice/client.key\n  \
             tksign clients add --key <printed key> --role verify --audience myservice",
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let Some(path) = matches.get_one::<PathBuf>("out") else { return Ok(Exit::Usage) };
    let key = ClientKey::generate()
        .map_err(|e| Failure::new(Exit::Bug, e, "try again; the system's random generator failed"))?;
    key.write(path).map_err(|e| {
        let what = format!("{}: {e}", path.display());
        Failure::new(Exit::Local, what, "name a new file in a folder that you may write")
    })?;
    let public = hex(key.public());
    if matches.get_flag("json") {
        let file = path.display().to_string();
        writeln!(streams.stdout, "{}", serde_json::json!({"public": public, "file": file}))?;
    } else {
        writeln!(streams.stdout, "{public}")?;
    }
    Ok(Exit::Ok)
}
