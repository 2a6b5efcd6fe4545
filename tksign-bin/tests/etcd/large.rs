use std::sync::Arc;
use std::time::Duration;

use testkit::etcd::Etcd;
use tkcore::protocol::*;
use tkcore::revocation::{ExpiryDay, Head, Revocation, RevocationSet};
use tkcore::{FeedDigest, KeyClass, LineageId, Name, Timestamp};
use tksign::store::Store as _;
use tksign::store::etcd::{Cluster, Etcd as Store, Space};
use tksign::{Options, Peer, Registry, Secret, Signer, SystemClock};
use tokio::runtime::Runtime;

use crate::scene::{Scene, awaited};

/// More than one transaction of etcd holds. `TK_REVOCATIONS=50000` takes more of them.
const MANY: u64 = 8_000;
/// How long one step may take: an end for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// A client of the role that a test needs.
const CLIENT: ClientKey = ClientKey::from_bytes([7; 32]);

fn lineage(n: u64) -> LineageId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    LineageId::new(random, Timestamp::from_millis(1).unwrap())
}

fn id(n: u64) -> RequestId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    RequestId::from_bytes(id)
}

fn signer(scene: &Scene, store: Store) -> Signer {
    let secret = Secret::new(std::fs::read(scene.path("secret")).unwrap()).unwrap();
    let options = Options { registry: Registry::Named, ..Options::default() };
    Signer::start(Box::new(store), &secret, options, Arc::new(SystemClock)).unwrap()
}

/// Waits until this is what is published, and gives the number of steps that it took.
fn published(runtime: &Runtime, signer: &Signer, all: FeedDigest) -> u64 {
    let mut heads = signer.feed.head();
    runtime.block_on(async {
        loop {
            let head = signer.feed.get("head").map(|head| Head::parse_unverified(&head.bytes).unwrap());
            if let Some(head) = head.filter(|head| head.state == all) {
                return head.position.sequence;
            }
            tokio::time::timeout(PATIENCE, heads.changed()).await.expect("the next head").unwrap();
        }
    })
}

/// Nobody publishes while they are revoked, so that all of them wait for one step.
#[test]
fn more_revocations_than_a_transaction_holds_are_published() {
    let test = "more_revocations_than_a_transaction_holds_are_published";
    let Some(etcd) = Etcd::start(test, 1) else { return };
    let scene = Scene::new(etcd);
    let key = "07".repeat(32);
    scene.must("one", "clients add", &["--key", &key, "--name", "revoker", "--role", "revoke"]);
    scene.migrated();
    let cluster = Cluster { urls: scene.etcd.urls(), login: None, tls: None };
    let open = |name: &str| Store::open(&cluster, Space::new("tksign", name).unwrap()).unwrap();
    // It has the turn to publish and does not use it.
    let mut idle = open("idle");
    idle.on_news(Box::new(|| ()));
    awaited(|| {
        idle.begin().unwrap();
        idle.term()
    })
    .expect("the turn");
    let signer = signer(&scene, open("one"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let many = std::env::var("TK_REVOCATIONS").map_or(MANY, |text| text.parse().unwrap());
    let revoke = |n: u64| {
        let call = Revoke { target: RevokeTarget::Token(lineage(n)), reason: Text::default() };
        let (service, request) = (signer.service.clone(), call.request(id(n), None).unwrap());
        async move {
            let answer = service.handle(CLIENT, Peer::Control, &request).await;
            Revoke::read_answer(&answer).unwrap().unwrap();
        }
    };
    runtime.block_on(async {
        for from in (0..many).step_by(2000) {
            let each: Vec<_> = (from..from + 2000).map(|n| tokio::spawn(revoke(n))).collect();
            for one in each {
                one.await.unwrap();
            }
        }
    });
    assert!(signer.feed.get("head").is_none(), "nobody has published");
    drop(idle);
    let rows = (0..many).map(|n| (Revocation::Token { lineage: lineage(n) }, ExpiryDay::UNKNOWN));
    let all = RevocationSet::build(rows).unwrap().digest();
    let steps = published(&runtime, &signer, all);
    println!("{many} revocations in {steps} steps");
    runtime.block_on(signer.service.stop());
    // A signer that starts anew finds all of them in one state.
    let started = self::signer(&scene, open("two"));
    published(&runtime, &started, all);
    runtime.block_on(started.service.stop());
}

/// Refused as a whole, with the way round, and everything is as it was.
#[test]
fn a_rewrap_of_more_than_a_transaction_holds_is_refused_before_it_begins() {
    let test = "a_rewrap_of_more_than_a_transaction_holds_is_refused_before_it_begins";
    let Some(etcd) = Etcd::start(test, 1) else { return };
    let scene = Scene::new(etcd);
    let add = |key: u8, role: &str| {
        let key = format!("{key:02x}").repeat(32);
        scene.must("one", "clients add", &["--key", &key, "--name", role, "--role", role]);
    };
    add(7, "mint");
    add(8, "operator");
    scene.migrated();
    let cluster = Cluster { urls: scene.etcd.urls(), login: None, tls: None };
    let store = Store::open(&cluster, Space::new("tksign", "one").unwrap()).unwrap();
    let signer = signer(&scene, store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mint = |n: u64| {
        let call = Mint {
            tenant: Name::new("acme").unwrap(),
            audience: None,
            class: KeyClass::Ordinary,
            subject: Some(Name::new(&format!("user:{n}")).unwrap()),
            label: Some(
                Name::new(&"a long label ".repeat(9)).unwrap_or_else(|_| Name::new("label").unwrap()),
            ),
            expiry: Expiry::After(3600),
            caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read".to_vec()))],
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
        };
        let (service, request) = (signer.service.clone(), call.request(id(n), None).unwrap());
        async move { Mint::read_answer(&service.handle(CLIENT, Peer::Control, &request).await).unwrap().unwrap() }
    };
    runtime.block_on(async {
        for from in (0..6000).step_by(1000) {
            let each: Vec<_> = (from..from + 1000).map(|n| tokio::spawn(mint(n))).collect();
            for one in each {
                one.await.unwrap();
            }
        }
    });
    let operator = ClientKey::from_bytes([8; 32]);
    let new: Vec<u8> = (0..32u8).map(|at| at.wrapping_mul(29) ^ 0x35).collect();
    let call = Rewrap { secret: SecretBytes::from(&new[..]) };
    let request = call.request(id(u64::MAX), None).unwrap();
    let answer = runtime.block_on(signer.service.handle(operator, Peer::Control, &request));
    let refused = Rewrap::read_answer(&answer).unwrap().unwrap_err();
    assert_eq!(refused.code, Code::RequestTooLarge, "{refused}");
    assert!(refused.to_string().contains("tksign migrate"), "{refused}");
    runtime.block_on(mint(9999));
    runtime.block_on(signer.service.stop());
}
