//! How long it takes until a signer is back. `TKSIGN_TIMES=1000000 TK_WRITE_TABLES=1 cargo test --release -p
//! tksign-bin --test recovery times -- --nocapture` measures what `docs/durability.md` says; a run of the
//! tests does the same with few revocations, and compares no time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::table::time;
use tkcore::protocol::{Call as _, ClientAdd, ClientKey, RequestId, Revoke, RevokeTarget, Role, Text};
use tkcore::{LineageId, Name, Timestamp};
use tksign::{Options, Peer, Secret, Signer, SystemClock};

use crate::litestream::{Bucket, Replica};
use crate::scene::Scene;

/// Revokes this many lineages through the service itself, in this process, many at a time.
fn fill(scene: &Scene, count: usize) {
    let secret = Secret::new(std::fs::read(scene.signer.secret()).unwrap()).unwrap();
    let state = scene.signer.dir().join("state");
    let revoker = ClientKey::from_bytes([77; 32]);
    let operator = std::fs::read_to_string(state.join("operator.key")).unwrap();
    let operator = public(operator.trim());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let signer =
            Signer::open_guarded(&state, None, &secret, Options::default(), Arc::new(SystemClock)).unwrap();
        let add =
            ClientAdd { key: revoker, name: Name::new("fill").unwrap(), role: Role::Revoke, expiry: None };
        let request = add.request(RequestId::from_bytes([1; 16]), None).unwrap();
        let answer = signer.service.handle(operator, Peer::Control, &request).await;
        ClientAdd::read_answer(&answer).unwrap().unwrap();
        let now = Timestamp::from_millis(1_790_000_000_000).unwrap();
        for group in 0..count.div_ceil(256) {
            let mut all = tokio::task::JoinSet::new();
            for n in group * 256..count.min((group + 1) * 256) {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&(n as u64).to_be_bytes());
                let mut nonce = [0; 10];
                nonce[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                let target = RevokeTarget::Token(LineageId::new(nonce, now));
                let revoke = Revoke { target, reason: Text::default() };
                let request = revoke.request(RequestId::from_bytes(id), None).unwrap();
                let service = signer.service.clone();
                all.spawn(async move {
                    let answer = service.handle(revoker, Peer::Control, &request).await;
                    Revoke::read_answer(&answer).unwrap().unwrap();
                });
            }
            all.join_all().await;
        }
        signer.service.stop().await;
    });
}

/// The public half of a client key file, as the signer lists it.
fn public(secret: &str) -> ClientKey {
    use snow::resolvers::{CryptoResolver as _, DefaultResolver};
    let bytes: Vec<u8> =
        (0..32).map(|n| u8::from_str_radix(&secret[2 * n..2 * n + 2], 16).unwrap()).collect();
    let mut exchange = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519).unwrap();
    exchange.set(&bytes);
    ClientKey::from_bytes(exchange.pubkey().try_into().unwrap())
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let done = work();
    (started.elapsed(), done)
}

#[test]
fn times_until_a_signer_is_back() {
    let count = std::env::var("TKSIGN_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    scene.signer.stop();
    fill(&scene, count);
    let (cold, ()) = timed(|| scene.signer.serve());
    let how = format!("{count} revocations, to the line that says ready, the first head signed");
    time("cold start", cold, &how);
    let status = &scene.json("status", &[])[0];
    assert_eq!(status["revocations"].as_u64().unwrap(), count as u64);
    assert_eq!(status["mode"], "serving");

    let copy = scene.path("backup.db");
    let (took, _) = timed(|| scene.signer.must("backup", &[&copy]));
    time("backup while serving", took, &format!("{count} revocations, checked"));
    let test = "times_until_a_signer_is_back";
    let Some(folder) = Replica::folder(test, &scene, "1") else { return };
    let Some(bucket) = Bucket::start(test) else { return };
    let Some(remote) = Replica::bucket(test, &scene, &bucket, "1") else { return };
    for (replica, name) in [(folder, "restore from a folder"), (remote, "restore from a bucket on loopback")]
    {
        let copying = replica.start();
        scene.signer.stop();
        crate::litestream::waits_for_socket(&mut scene, &replica);
        let lineage = scene.mint("acme", "waits");
        // Not yet remote-durable: asked again, for a minute at least.
        scene.signer.must("revoke token", &[&lineage]);
        scene.signer.stop();
        drop(copying);
        let to = scene.path("restored.db");
        let (took, ()) = timed(|| replica.restore(&to, &["-integrity-check", "none"]));
        time(name, took, &format!("{count} revocations, by Litestream"));
        std::fs::remove_file(&to).unwrap();
        let _ = std::fs::remove_dir_all(format!("{}/.tksign.db-litestream", scene.signer.state()));
        scene.signer.with(Vec::new());
        scene.signer.serve();
    }
    // The copy takes the place of the database: compare, unite, sign, start.
    let feed = scene.path("feed");
    scene.refreshed(&feed);
    scene.signer.stop();
    scene.restore(&copy);
    let (took, merged) = timed(|| scene.merge(Some(&feed), &[]));
    assert_eq!(merged.code, Some(0), "{}", merged.stderr);
    time("restore-check --merge, both halves", took, &format!("{count} revocations on both sides"));
    let (took, ()) = timed(|| scene.signer.serve());
    time("start after a merge", took, &format!("{count} revocations"));
}
