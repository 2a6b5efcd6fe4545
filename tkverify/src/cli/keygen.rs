use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{Exit, Failure, Streams, json_flag};
use crate::client_key::{ClientKey, ClientKeyError};
use crate::discharge::AuthorityKey;
use crate::trust::hex;

pub(super) fn describe() -> Command {
    Command::new("keygen")
        .about("Make the key by which the signer will know this service, or the key of a third party")
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where the private key goes; must not exist yet, gets mode 0600"),
        )
        .arg(
            Arg::new("authority").long("authority").action(ArgAction::SetTrue).help(
                "A third party's key: whoever has its id and public key can ask for its word in a caveat",
            ),
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
    let (authority, public) = if matches.get_flag("authority") {
        let key = AuthorityKey::generate().map_err(no_randomness)?;
        key.write(path).map_err(|e| unwritten(path, &e))?;
        (Some(key.id().to_string()), hex(key.public().as_bytes()))
    } else {
        let key = ClientKey::generate().map_err(no_randomness)?;
        key.write(path).map_err(|e| unwritten(path, &e))?;
        (None, hex(key.public()))
    };
    match (matches.get_flag("json"), authority) {
        (true, authority) => {
            let mut said = json!({"public": public, "file": path.display().to_string()});
            if let (Some(authority), Some(said)) = (authority, said.as_object_mut()) {
                said.insert("authority".to_owned(), authority.into());
            }
            writeln!(streams.stdout, "{said}")?;
        }
        (false, Some(authority)) => writeln!(streams.stdout, "authority  {authority}\npublic key {public}")?,
        (false, None) => writeln!(streams.stdout, "{public}")?,
    }
    Ok(Exit::Ok)
}

fn no_randomness(error: ClientKeyError) -> Failure {
    Failure::new(Exit::Bug, error, "try again; the system's random generator failed")
}

fn unwritten(path: &std::path::Path, error: &ClientKeyError) -> Failure {
    let what = format!("{}: {error}", path.display());
    Failure::new(Exit::Local, what, "name a new file in a folder that you may write")
}
