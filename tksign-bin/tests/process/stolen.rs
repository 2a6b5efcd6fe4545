//! A thief of the disk: the store, its log and every backup of a server that did real work hold
//! no key, no name and no token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use testkit::signer::Running;
use tkcore::KeyClass;
use tkcore::protocol::*;

use super::search::{Chain, random_looking, spellings, stands};
use super::wire::{Key, Line, pinned};
use super::{mint_params, name};

/// Every file of a folder and below, except sockets.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.append(&mut files(&path));
        } else if path.is_file() {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

/// What a thief looks for.
#[derive(Default)]
struct Wanted {
    known: Vec<(String, Vec<u8>)>,
    chains: Vec<Chain>,
    searched: usize,
}

impl Wanted {
    fn text(&mut self, what: &str) {
        self.known.push((what.to_owned(), what.as_bytes().to_vec()));
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        self.known.push((what.to_owned(), bytes.to_vec()));
    }

    /// A token: its text, its signature and the root key it hangs from, which nobody shows us.
    fn token(&mut self, minted: &MintAnswer) {
        let bytes = minted.token.expose();
        self.bytes("a token's signature", &bytes[bytes.len() - 32..]);
        self.bytes("a token", &bytes[bytes.len() - 60..]);
        let text = tkcore::TokenBuf::from_v2(bytes.to_vec()).unwrap().to_text();
        self.bytes("a token's text", &text.as_str().as_bytes()[20..60]);
        self.chains.push(Chain::of(minted));
    }

    #[track_caller]
    fn are_not_in(&mut self, moment: &str, files: &BTreeMap<PathBuf, Vec<u8>>) {
        for (path, bytes) in files {
            let path = path.display();
            for (what, needle) in &self.known {
                for spelled in spellings(needle) {
                    assert!(!stands(bytes, &spelled), "{moment}: {what} stands in {path}");
                }
            }
            for chain in &self.chains {
                assert_eq!(chain.roots_in(bytes), 0, "{moment}: a root key stands in {path}");
            }
            self.searched += bytes.len();
        }
    }
}

/// The keys of this machine's command line are secrets in files, by design: they speak on the
/// control socket only (service::a_key_from_the_state_folder_speaks_on_the_control_socket_only).
fn without_the_command_lines_keys(mut found: BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    for own in ["operator.key", "mint.key", "revoke.key"] {
        let path = found.keys().find(|path| path.ends_with(own)).unwrap().clone();
        found.remove(&path);
    }
    found
}

#[test]
fn the_store_its_log_and_its_backups_hold_no_key_no_name_and_no_token() {
    let mut signer = Running::start();
    let mut wanted = Wanted::default();
    for text in ["tenant-of-the-theft", "billing-of-the-theft", "subject-of-the-theft", "label-of-the-theft"]
    {
        wanted.text(text);
    }
    wanted.text("caveat-of-the-theft");
    wanted.text("client-of-the-theft");
    wanted.bytes("the injected secret", &std::fs::read(signer.secret()).unwrap());
    let offline = std::fs::read_to_string(signer.dir().join("root.key")).unwrap();
    wanted.bytes("the offline root key", offline.trim().as_bytes());
    let decoded: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&offline[2 * at..2 * at + 2], 16).unwrap()).collect();
    wanted.bytes("the offline root key", &decoded);

    // Work of every kind.
    let tenant = "tenant-of-the-theft";
    signer.must("keys create", &["--tenant", tenant]);
    signer.must("keys create", &["--tenant", tenant, "--audience", "billing-of-the-theft", "--delegable"]);
    let [minting, verifying, revoking, operating] =
        ["mint", "verify", "revoke", "operator"].map(|role| Key::allowed(&signer, &[role]));
    let services = Key::allowed(&signer, &["keys", "--audience", "billing-of-the-theft"]);
    // All at once: a session that is not used within 10 s is gone.
    let open = |key| Line::open(&signer, key).unwrap();
    let (mut minter, mut verifier, mut revoker) = (open(&minting), open(&verifying), open(&revoking));
    let (mut keeper, mut operator) = (open(&services), open(&operating));
    for key in [&verifying, &services] {
        wanted.bytes("a client's private key", key.private());
    }
    let asked = || Mint {
        subject: Some(name("subject-of-the-theft")),
        label: Some(name("label-of-the-theft")),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"app = caveat-of-the-theft".to_vec()))],
        ..mint_params(tenant)
    };
    let delegable =
        Mint { audience: Some(name("billing-of-the-theft")), class: KeyClass::Delegable, ..asked() };
    let one = minter.call(&asked()).unwrap();
    let two = minter.call(&delegable).unwrap();
    for minted in [&one, &two] {
        wanted.token(minted);
    }
    let held = keeper.call(&FetchKeys { from: Cursor::default() }).unwrap();
    let [held] = &held.items[..] else { panic!("one delegated key") };
    wanted.bytes("a delegated root key", held.root.expose());
    wanted.bytes("a tenant key", held.rows.expose());
    // The search by what a key can do finds a key that is there.
    let control = [&[0; 40][..], held.root.expose(), &[0; 40]].concat();
    assert_eq!(Chain::of(&two).roots_in(&control), 1);
    verifier.call(&super::verify_params(&one)).unwrap();
    // What an operator writes here stands in the audit log as it was written.
    let reason = Text::new("lost").unwrap();
    let targets = [
        RevokeTarget::Token(two.lineage),
        RevokeTarget::Subject(name(tenant), name("subject-of-the-theft"), Floor::Now),
        RevokeTarget::Presented(two.token.expose().into(), RevokeScope::Branch),
    ];
    for target in targets {
        revoker.call(&Revoke { target, reason: reason.clone() }).unwrap();
    }
    let short = Key::generate();
    let role = Role::Revoke;
    let add = ClientAdd { key: short.public, name: name("client-of-the-theft"), role, expiry: None };
    operator.call(&add).unwrap();

    // While it runs: the files as they are (a copy of the disk), and a backup through SQLite.
    let state = PathBuf::from(signer.state());
    let running = without_the_command_lines_keys(files(&state));
    assert!(running.keys().any(|path| path.to_string_lossy().ends_with("-wal")), "{:?}", running.keys());
    wanted.are_not_in("while it runs", &running);
    let backup = |name: &str| {
        let to = signer.dir().join(name);
        let store = rusqlite::Connection::open(state.join("tksign.db")).unwrap();
        store.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
        BTreeMap::from([(to.clone(), std::fs::read(&to).unwrap())])
    };
    wanted.are_not_in("a backup", &backup("backup.db"));
    // The search would find what does stand in clear.
    let lineage = two.lineage.as_bytes();
    assert!(running.values().any(|bytes| stands(bytes, lineage)), "a revoked lineage is public");

    // After rotation, retirement, removal and a new secret: also what was before.
    let rotated = signer.must("keys list", &["--tenant", tenant, "--json"]);
    for line in rotated.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = row["key"].as_str().unwrap();
        signer.must("keys rotate", &[key]);
        signer.must("keys retire", &[key]);
    }
    // The search may have taken longer than a connection is kept without a request.
    let (mut minter, mut operator) = (open(&minting), open(&operating));
    wanted.token(&minter.call(&asked()).unwrap());
    operator.call(&ClientRemove { key: short.public }).unwrap();
    let next: Vec<u8> = (0..32).map(|at: u8| at.wrapping_mul(73) ^ 0xa7).collect();
    let file = signer.dir().write("next-secret", 0o400, &next);
    wanted.bytes("the next secret", &next);
    signer.must("rewrap", &["--new-secret-file", file.to_str().unwrap()]);
    wanted.are_not_in("after rotation and rewrap", &without_the_command_lines_keys(files(&state)));
    wanted.are_not_in("a later backup", &backup("later.db"));
    // The static key of the handshake, known by its public half.
    let public = pinned(&signer);
    signer.stop();
    let stopped = without_the_command_lines_keys(files(&state));
    wanted.are_not_in("after it has stopped", &stopped);
    let store = rusqlite::Connection::open(state.join("tksign.db")).unwrap();
    store.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM").unwrap();
    drop(store);
    let vacuumed = without_the_command_lines_keys(files(&state));
    wanted.are_not_in("after a vacuum", &vacuumed);
    let database = vacuumed.iter().find(|(path, _)| path.ends_with("tksign.db")).unwrap().1;
    let static_key =
        random_looking(database).into_iter().any(|window| super::wire::public_of(window) == public);
    assert!(!static_key, "the static key stands in the store");
    assert!(wanted.searched > 1_000_000, "{} bytes were searched", wanted.searched);
}
