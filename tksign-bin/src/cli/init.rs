use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use tkcore::protocol::{ClientKey, MintPower, Narrowing, Permit, Role};
use zeroize::Zeroizing;

use super::control::{self, Speaker};
use super::local;
use super::reach;
use super::{Exit, Failure, Streams, values};
use crate::clock::SystemClock;
use crate::signer::{Signer, Trust};

const EXAMPLE: &str = "\
Example:
  head -c 32 /dev/urandom > secret && chmod 0400 secret
  tksign init --dir state --secret-file secret --root-key-out root.key --rpc-url http://10.0.0.5:7300 \\
    --feed-url http://10.0.0.5:7301

Carry root.key away and keep it offline: it signs key lists, and a running signer never needs it.
Give the trust file that is printed (also state/trust.json) to every service; nothing in it is secret.";

pub(super) fn describe() -> Command {
    reach::secret_args(
        Command::new("init").about("Make a new signer: store, keys, key list, operator").after_help(EXAMPLE),
    )
    .arg(values::dir_arg())
    .arg(
        Arg::new("root-key-out")
            .long("root-key-out")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Where to write the root private key [default: DIR/root.key]"),
    )
    .arg(urls("rpc-url", "Where services reach the signer, for the trust file; repeat for more"))
    .arg(urls("feed-url", "Where the feed is served, for the trust file; repeat for more"))
}

fn urls(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("URL").action(ArgAction::Append).help(help)
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let folder = values::dir(matches);
    let secret = reach::secret(matches)?;
    let root_out = matches.get_one::<PathBuf>("root-key-out").cloned();
    let root_out = root_out.unwrap_or_else(|| folder.join("root.key"));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| unwritable(&folder, &error))?;
    let store = folder.join(control::STORE_FILE);
    if store.exists() {
        return Err(Failure::new(
            Exit::Store,
            format!("there is a store in {} already", folder.display()),
            "use the store that is there, or name another --dir",
        ));
    }
    // All files are opened before anything is made, so that no key is lost to a full disk or a
    // wrong path. What an earlier try left without a store is of no use and replaced, except a
    // root key, which may be another signer's.
    let mut root = fresh(&root_out, 0o600)?;
    let operator = key_file(&folder, Speaker::Operator)?;
    let mint = key_file(&folder, Speaker::Mint)?;
    let revoke = key_file(&folder, Speaker::Revoke)?;
    let trust = match Signer::init_keeping(
        &folder,
        &secret,
        &[
            (operator, values::name("command line: operator")?, Role::Operator),
            (mint, values::name("command line: mint")?, Role::Mint(everything())),
            (revoke, values::name("command line: revoke")?, Role::Revoke),
        ],
        &SystemClock,
        |seed| write_hex(&mut root, seed),
    ) {
        Ok(trust) => trust,
        Err(error) => {
            // Only what this run has made, and it is empty or useless.
            for path in [
                &root_out,
                &folder.join("operator.key"),
                &folder.join("mint.key"),
                &folder.join("revoke.key"),
                &store,
            ] {
                let _ = fs::remove_file(path);
            }
            return Err(local::failure(&error));
        }
    };
    let signer_path = folder.join(control::SIGNER_KEY);
    remove(&signer_path)?;
    write_hex(&mut fresh(&signer_path, 0o644)?, &trust.static_key)
        .map_err(|error| unwritable(&signer_path, &error))?;
    let list =
        |name| matches.get_many::<String>(name).unwrap_or_default().map(String::as_str).collect::<Vec<_>>();
    let text = trust_json(&trust, &list("rpc-url"), &list("feed-url"));
    let trust_path = folder.join(control::TRUST_FILE);
    remove(&trust_path)?;
    let written = writeln!(fresh(&trust_path, 0o644)?, "{text}");
    written.map_err(|error| unwritable(&trust_path, &error))?;
    writeln!(streams.stdout, "{text}")?;
    writeln!(
        streams.stderr,
        "made a signer in {}\nthe root key is in {}: carry it away and keep it offline",
        folder.display(),
        root_out.display()
    )?;
    Ok(Exit::Ok)
}

/// A new client key for the command line, in a new file; what an earlier try left is replaced.
fn key_file(folder: &Path, speaker: Speaker) -> Result<ClientKey, Failure> {
    let (secret, public) = control::generate().ok_or_else(|| bug("no key can be made"))?;
    let path = folder.join(speaker.file());
    remove(&path)?;
    write_hex(&mut fresh(&path, 0o600)?, secret.as_slice()).map_err(|error| unwritable(&path, &error))?;
    Ok(public)
}

/// What the command line may mint: anything, each dangerous thing with its own flag.
fn everything() -> MintPower {
    let (unrestricted, never_expires) = (Permit::Given, Permit::Given);
    MintPower { narrowing: Narrowing::default(), unrestricted, never_expires }
}

/// What every service must be given: whom to believe, and where to ask.
fn trust_json(trust: &Trust, rpc: &[&str], feeds: &[&str]) -> serde_json::Value {
    let key = values::to_hex(&trust.static_key);
    json!({
        "feed": trust.feed.to_string(),
        "threshold": trust.threshold,
        "root_keys": trust.root_keys.iter().map(|key| values::to_hex(key)).collect::<Vec<_>>(),
        "signers": rpc.iter().map(|url| json!({"url": url, "key": key})).collect::<Vec<_>>(),
        "feeds": feeds,
    })
}

/// A new file; never one that is there, nor through a link.
fn fresh(path: &Path, mode: u32) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| unwritable(path, &error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_hex(file: &mut File, key: &[u8]) -> io::Result<()> {
    let text = Zeroizing::new(values::to_hex(key));
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::AlreadyExists => "move the file that is there, or name another",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a folder that this user can write, with --dir"
        }
        _ => "name another folder with --dir",
    };
    Failure::new(Exit::Local, format!("{}: {error}", path.display()), next)
}

fn bug(what: &'static str) -> Failure {
    Failure::new(Exit::Bug, what, "report this with the version of tksign")
}
