use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use rustix::fs::{FlockOperation, flock};
use tkcore::Json;
use tkcore::protocol::{ClientKey, MintPower, Narrowing, Permit, Role, StaticKeys};
use zeroize::Zeroizing;

use super::control::{self, Speaker};
use super::local;
use super::{Exit, Failure, Streams, reach, statics, values};
use crate::clock::SystemClock;
use crate::secret::Secret;
use crate::signer::{Signer, Trust};
use crate::store::StoreError;

const EXAMPLE: &str = "\
Example:
  head -c 32 /dev/urandom > secret && chmod 0400 secret
  tksign init --dir state --secret-file secret --root-key-out root.key --rpc-url http://10.0.0.5:7300 \\
    --feed-url http://10.0.0.5:7301

Carry root.key away and keep it offline: it signs key lists, and a running signer never needs it.
Give the trust file that is printed (also state/trust.json) to every service; nothing in it is secret. Without
--rpc-url and --feed-url it names no addresses: the one of tksign serve --trust-out FILE does.";

pub(super) fn describe() -> Command {
    reach::secret_args(
        Command::new("init").about("Make a new signer: store, keys, key list, operator").after_help(EXAMPLE),
    )
    .arg(values::dir_arg())
    .arg(values::path_arg(
        "root-key-out",
        "FILE",
        "Where to write the root private key [default: DIR/root.key]",
    ))
    .arg(values::many_arg(
        "rpc-url",
        "URL",
        "Where services reach the signer, for the trust file; repeat for more",
    ))
    .arg(values::many_arg(
        "feed-url",
        "URL",
        "Where the feed is served, for the trust file; repeat for more",
    ))
}

/// Is there while `init` works, so that what a crash leaves is known for what it is: nobody has
/// got a key of it, and the next `init` begins anew.
const UNFINISHED: &str = "init.part";

/// Everything else that `init` makes in the state folder.
const MADE: [&str; 8] = [
    control::STORE_FILE,
    "tksign.db-wal",
    "tksign.db-shm",
    Speaker::Operator.file(),
    Speaker::Mint.file(),
    Speaker::Revoke.file(),
    control::SIGNER_KEY,
    control::TRUST_FILE,
];

/// Whether `init` was cut off in this folder.
pub(super) fn is_unfinished(folder: &Path) -> bool {
    folder.join(UNFINISHED).exists()
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let folder = values::dir(matches);
    let secret = reach::secret(matches)?;
    let root = values::path(matches, "root-key-out").unwrap_or_else(|| folder.join("root.key"));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| unwritable(&folder, &error))?;
    // To the end of this function: what another one is making is not what a crash left.
    let _held = hold(&folder)?;
    // The root key comes to its place last of all, when everything that it is for is there.
    let mut part = root.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    if is_unfinished(&folder) {
        writeln!(streams.stderr, "an init that was cut off is removed, and done anew")?;
        clean(&folder, &part)?;
    } else if folder.join(control::STORE_FILE).exists() {
        if !part.exists() || root.exists() {
            return Err(Failure::new(
                Exit::Store,
                format!("there is a store in {} already", folder.display()),
                "use the store that is there, or name another --dir",
            ));
        }
        writeln!(streams.stderr, "an init that was cut off at its last step is finished")?;
        return finish(&folder, &part, &root, streams);
    }
    // Another signer's root key, perhaps.
    if root.exists() {
        return Err(unwritable(&root, &io::ErrorKind::AlreadyExists.into()));
    }
    let mark = folder.join(UNFINISHED);
    fresh(&mark, 0o600)?;
    // Opened before any key is made, so that none is lost to a full disk or a wrong path. One that is
    // there may be an `init`'s in another folder.
    let kept = synced(&folder).and_then(|()| fresh(&part, 0o600));
    let kept = kept.inspect_err(|_| drop(remove(&mark)))?;
    let made = make(matches, &folder, &secret, kept);
    // From here on it counts.
    let done = made.and_then(|()| remove(&mark));
    if let Err(failure) = done {
        let _ = clean(&folder, &part);
        return Err(failure);
    }
    synced(&folder)?;
    finish(&folder, &part, &root, streams)
}

/// The folder, locked against another `init`.
fn hold(folder: &Path) -> Result<File, Failure> {
    let file = File::open(folder).map_err(|error| unwritable(folder, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(local::failure(&StoreError::Held(folder.to_owned()).into()))
        }
        Err(error) => Err(unwritable(folder, &error.into())),
    }
}

/// Makes everything but the root key's place.
fn make(matches: &ArgMatches, folder: &Path, secret: &Secret, mut kept: File) -> Result<(), Failure> {
    let operator = key_file(folder, Speaker::Operator)?;
    let mint = key_file(folder, Speaker::Mint)?;
    let revoke = key_file(folder, Speaker::Revoke)?;
    let local = [
        (operator, values::name("command line: operator")?, Role::Operator),
        (mint, values::name("command line: mint")?, Role::Mint(everything())),
        (revoke, values::name("command line: revoke")?, Role::Revoke),
    ];
    let keep = |seed: &[u8; 32]| write_hex(&mut kept, seed);
    let trust = Signer::init(folder, secret, &local, &SystemClock, keep);
    let trust = trust.map_err(|error| local::failure(&error))?;
    new_file(&folder.join(control::SIGNER_KEY), 0o644, &values::to_hex(&trust.static_key))?;
    let list = |name| values::many(matches, name).collect::<Vec<_>>();
    let text = trust_json(&trust, &list("rpc-url"), list("feed-url")).to_string();
    new_file(&folder.join(control::TRUST_FILE), 0o644, &text)?;
    synced(folder)
}

/// Puts the root key into its place, and shows what services must be given.
fn finish(folder: &Path, part: &Path, root: &Path, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    fs::rename(part, root).map_err(|error| unwritable(root, &error))?;
    synced(root.parent().filter(|at| !at.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let trust = folder.join(control::TRUST_FILE);
    let text = fs::read_to_string(&trust).map_err(|error| unwritable(&trust, &error))?;
    write!(streams.stdout, "{text}")?;
    writeln!(
        streams.stderr,
        "made a signer in {}\nthe root key is in {}: carry it away and keep it offline",
        folder.display(),
        root.display()
    )?;
    if ["signers", "feeds"].iter().any(|list| text.contains(&format!("\"{list}\":[]"))) {
        let next = "the trust file lacks addresses: give services the one of tksign serve --trust-out FILE";
        writeln!(streams.stderr, "{next}")?;
    }
    Ok(Exit::Ok)
}

/// Removes what was made, the mark last.
fn clean(folder: &Path, part: &Path) -> Result<(), Failure> {
    MADE.iter().try_for_each(|name| remove(&folder.join(name)))?;
    remove(part)?;
    synced(folder)?;
    remove(&folder.join(UNFINISHED))
}

/// A new client key for the command line, in a new file; what an earlier try left is replaced.
fn key_file(folder: &Path, speaker: Speaker) -> Result<ClientKey, Failure> {
    let (secret, public) = control::generate();
    let path = folder.join(speaker.file());
    remove(&path)?;
    new_file(&path, 0o600, &Zeroizing::new(values::to_hex(secret.as_slice())))?;
    Ok(public)
}

/// What the command line may mint: anything, each dangerous thing with its own flag.
fn everything() -> MintPower {
    let (unrestricted, never_expires) = (Permit::Given, Permit::Given);
    MintPower { narrowing: Narrowing::default(), unrestricted, never_expires }
}

/// What every service must be given: whom to believe, and where to ask.
fn trust_json(trust: &Trust, rpc: &[&str], feeds: Vec<&str>) -> Json {
    let keys = StaticKeys { current: trust.static_key, before: None };
    Json::object([
        ("feed", trust.feed.to_string().into()),
        ("threshold", u64::from(trust.threshold).into()),
        ("root_keys", trust.root_keys.iter().map(|key| values::to_hex(key)).collect()),
        ("signers", statics::signers(rpc, &keys)),
        ("feeds", feeds.into_iter().collect()),
    ])
}

/// A new file; never one that is there, nor through a link.
fn fresh(path: &Path, mode: u32) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.map_err(|error| unwritable(path, &error))
}

/// A new file with one line.
fn new_file(path: &Path, mode: u32, line: &str) -> Result<(), Failure> {
    let mut file = fresh(path, mode)?;
    writeln!(file, "{line}").and_then(|()| file.sync_all()).map_err(|error| unwritable(path, &error))
}

/// What was made and removed in a folder outlives a power loss.
fn synced(folder: &Path) -> Result<(), Failure> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| unwritable(folder, &error))
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
