//! The memory of the running server as its operator can take it, by `gcore` as root: what was
//! retired is not in it, and what ends leaves nothing.
//!
//! The server makes itself impossible to dump for others; root's debugger is let in all the
//! same, so this is the very program that ships, without a switch for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::process::Process;
use testkit::signer::{Running, binary};
use testkit::{TempDir, need, not_run};
use tkcore::KeyClass;
use tkcore::protocol::*;

use super::search::{Chain, stands, written};
use super::unsealed;
use super::wire::{Key, Line};
use super::{mint_params, name};

/// The debugger, if it is here and may look at another process.
fn debugger(test: &str) -> Option<PathBuf> {
    let gdb = need(test, "gdb", "apt-get install gdb")?;
    if !rustix::process::geteuid().is_root() {
        not_run(test, "root's rights are", "run it as root");
        return None;
    }
    Some(gdb)
}

/// Every private page of the process, those excluded from core dumps as well.
fn image(gdb: &Path, dir: &TempDir, signer: &Running) -> Vec<u8> {
    let to = dir.join("core");
    let script = [
        "set pagination off".to_owned(),
        "set dump-excluded-mappings on".to_owned(),
        format!("generate-core-file {}", to.display()),
        "detach".to_owned(),
    ];
    let mut command = Command::new(gdb);
    command.args(["-nx", "-batch", "-p", &signer.id().to_string()]);
    for line in &script {
        command.args(["-ex", line]);
    }
    let done = command.output().unwrap();
    read(&to, &String::from_utf8_lossy(&done.stderr))
}

fn read(core: &Path, said: &str) -> Vec<u8> {
    let bytes = std::fs::read(core).unwrap_or_else(|error| panic!("no image: {error}: {said}"));
    std::fs::remove_file(core).unwrap();
    assert!(bytes.len() > 1 << 20, "an image of {} bytes: {said}", bytes.len());
    written(&bytes)
}

/// The image of a process at the moment of its exit: the debugger holds it there.
fn at_exit(gdb: &Path, dir: &TempDir, attach: &[&str], then: impl FnOnce()) -> Vec<u8> {
    let to = dir.join("last");
    let mut command = Command::new(gdb);
    command.args(["-nx", "-batch"]);
    let start = if attach[0] == "-p" { "continue" } else { "run" };
    for line in [
        "set pagination off",
        "set dump-excluded-mappings on",
        "handle SIGTERM nostop noprint pass",
        "catch syscall exit_group",
        "echo held\\n",
        start,
        &format!("generate-core-file {}", to.display()),
        "kill",
    ] {
        command.args(["-ex", line]);
    }
    command.args(attach);
    let mut debugger = Process::start(&mut command);
    debugger.await_line("hold of the debugger", |line| line.contains("held").then_some(()));
    then();
    debugger.wait();
    read(&to, &debugger.output())
}

/// What the test knows of the signer's secrets.
struct Secrets {
    /// The root key of the delegable record, as its service was given it.
    delegated: Vec<u8>,
    /// A token under the ordinary record, whose root key is known by what it can do.
    ordinary: Chain,
    /// Under a record that lives on.
    other: Chain,
    keys: Vec<String>,
}

impl Secrets {
    fn of(signer: &Running) -> Self {
        let mut keys = Vec::new();
        for more in [&[][..], &["--audience", "billing", "--delegable"]] {
            let made = signer.must("keys create", &[&["--tenant", "acme", "--json"], more].concat());
            let made: serde_json::Value = serde_json::from_str(&made).unwrap();
            keys.push(made["key"].as_str().unwrap().to_owned());
        }
        signer.must("keys create", &["--tenant", "umbrella"]);
        let mut minter = Line::open(signer, &Key::allowed(signer, &["mint"])).unwrap();
        let mut keeper =
            Line::open(signer, &Key::allowed(signer, &["keys", "--audience", "billing"])).unwrap();
        let delegable =
            Mint { audience: Some(name("billing")), class: KeyClass::Delegable, ..mint_params("acme") };
        minter.call(&delegable).unwrap();
        let held = keeper.call(&FetchKeys { from: Cursor::default() }).unwrap();
        Self {
            delegated: held.items[0].root.expose().to_vec(),
            ordinary: Chain::of(&minter.call(&mint_params("acme")).unwrap()),
            other: Chain::of(&minter.call(&mint_params("umbrella")).unwrap()),
            keys,
        }
    }
}

#[test]
fn a_retired_key_is_in_no_memory_image_and_no_key_is_when_it_stops() {
    let Some(gdb) = debugger("a_retired_key_is_in_no_memory_image_and_no_key_is_when_it_stops") else {
        return;
    };
    let (dir, signer) = (TempDir::new(), Running::start());
    let secrets = Secrets::of(&signer);

    let sealed = unsealed::secrets(&signer);
    let before = image(&gdb, &dir, &signer);
    for secret in &sealed {
        // The search finds what is in use; what everything is sealed with is not.
        assert_eq!(stands(&before, &secret.bytes), !secret.is("the injected secret"), "{}", secret.what);
    }
    assert!(stands(&before, &secrets.delegated), "the search finds a key that is in use");
    assert!(secrets.ordinary.roots_in(&before) > 0 && secrets.other.roots_in(&before) > 0);

    for key in &secrets.keys {
        signer.must("keys retire", &[key]);
    }
    let retired = image(&gdb, &dir, &signer);
    assert!(secrets.other.roots_in(&retired) > 0, "the search finds the key that lives on");
    assert_eq!(secrets.ordinary.roots_in(&retired), 0, "a retired key is in memory");
    assert!(!stands(&retired, &secrets.delegated), "a retired key that a service held is in memory");
    for secret in sealed.iter().filter(|secret| secrets.keys.iter().any(|key| secret.is(key))) {
        assert!(!secret.is_left_in(&retired), "{} is in memory", secret.what);
    }

    // SIGTERM, and the image at the last moment of the process.
    let process = signer.id().to_string();
    let last = at_exit(&gdb, &dir, &["-p", &process], || {
        assert!(Command::new("kill").arg(&process).status().unwrap().success());
    });
    for secret in &sealed {
        assert!(!secret.is_left_in(&last), "{} outlives a graceful stop", secret.what);
    }
    assert_eq!(secrets.other.roots_in(&last), 0, "a key outlives a graceful stop");
    assert!(!stands(&last, &secrets.delegated));
}

/// The store is open and every key loaded when the address turns out to be taken.
#[test]
fn no_key_is_in_memory_when_the_start_fails() {
    let Some(gdb) = debugger("no_key_is_in_memory_when_the_start_fails") else { return };
    let (dir, mut signer) = (TempDir::new(), Running::start());
    let (secrets, sealed) = (Secrets::of(&signer), unsealed::secrets(&signer));
    signer.stop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (state, secret) = (signer.state(), signer.secret());
    let program = binary().to_str().unwrap();
    let serve = ["serve", "--dir", &state, "--secret-file", &secret, "--rpc", &address];
    let last = at_exit(&gdb, &dir, &[&["--args", program], &serve[..]].concat(), || {});
    assert_eq!(secrets.other.roots_in(&last) + secrets.ordinary.roots_in(&last), 0);
    assert!(!stands(&last, &secrets.delegated));
    for secret in &sealed {
        assert!(!secret.is_left_in(&last), "{} outlives a failed start", secret.what);
    }
}

/// A token is power: once its answer was given, once more from what is kept, and once it was verified,
/// the server has no copy left of what only its holder may know, however long the answer grew.
#[test]
fn no_answer_leaves_a_token_in_memory() {
    let Some(gdb) = debugger("no_answer_leaves_a_token_in_memory") else { return };
    let (dir, signer) = (TempDir::new(), super::signer());
    let mut minter = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    let key = Key::allowed(&signer, &["verify"]);
    let mut verifier = Line::open(&signer, &key).unwrap();
    let mut tails = Vec::new();
    for lines in [1, 3, 10, 30, 100] {
        let caveat = |n| MintCaveat::FirstParty(Bytes(format!("action in read,list,a{n}").into_bytes()));
        let params = Mint { caveats: (0..lines).map(caveat).collect(), ..mint_params("acme") };
        let payload = params.request(minter.id(), None).unwrap();
        for _ in 0..2 {
            let answer = minter.ask(&payload).unwrap();
            let minted = Mint::read_answer(&answer).unwrap().unwrap();
            tails.push(minted.token.expose().last_chunk::<32>().unwrap().to_vec());
            verifier.call(&super::verify_params(&minted)).unwrap();
        }
    }
    assert_eq!(tails.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    let found = image(&gdb, &dir, &signer);
    assert!(stands(&found, key.public.as_bytes()), "the search finds what is there");
    let left = tails.iter().filter(|tail| stands(&found, tail)).count();
    assert_eq!(left, 0, "of {} answers, so many tokens are in memory", tails.len());
}
