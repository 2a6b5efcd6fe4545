use std::sync::Arc;

use testkit::etcd::Etcd;
use tkcore::protocol::*;
use tkcore::{KeyClass, Name, Tenant};
use tksign::store::etcd::{Cluster, Etcd as Store, Space};
use tksign::store::{Sqlite, Store as Engine};
use tksign::{Options, Peer, Registry, Secret, Signer, SystemClock};
use tokio::runtime::Runtime;

use crate::scene::Scene;

const OPERATOR: ClientKey = ClientKey::from_bytes([8; 32]);
const MINTER: ClientKey = ClientKey::from_bytes([2; 32]);
const REVOKER: ClientKey = ClientKey::from_bytes([3; 32]);
const VERIFIER: ClientKey = ClientKey::from_bytes([4; 32]);
/// More than a page of the registry's list holds.
const TOKENS: u8 = 150;

/// A signer over one engine, and what it has answered.
struct Life {
    signer: Signer,
    runtime: Runtime,
    ids: u64,
    said: Vec<String>,
}

impl Life {
    fn over(scene: &Scene, store: Box<dyn Engine>) -> Self {
        let secret = Secret::new(std::fs::read(scene.path("secret")).unwrap()).unwrap();
        let options = Options { registry: Registry::Named, ..Options::default() };
        let signer = Signer::start(store, &secret, options, Arc::new(SystemClock)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { signer, runtime, ids: 0, said: Vec::new() }
    }

    fn call<C: Call>(&mut self, who: ClientKey, call: &C) -> Result<C::Answer, RpcError> {
        self.ids += 1;
        self.again(who, self.ids, call)
    }

    fn again<C: Call>(&self, who: ClientKey, id: u64, call: &C) -> Result<C::Answer, RpcError> {
        let id = RequestId::from_bytes(core::array::from_fn(|at| id.to_be_bytes()[at % 8]));
        let request = call.request(id, None).unwrap();
        let answer = self.runtime.block_on(self.signer.service.handle(who, Peer::Control, &request));
        C::read_answer(&answer).unwrap()
    }

    fn say(&mut self, what: impl std::fmt::Debug) {
        self.said.push(format!("{what:?}"));
    }

    fn mint(&mut self, subject: u8) -> MintAnswer {
        let call = Mint {
            tenant: Tenant::new("acme").unwrap(),
            audience: None,
            class: KeyClass::Ordinary,
            subject: Some(Name::new(&format!("user:{}", subject % 7)).unwrap()),
            label: Some(Name::new(&format!("label-{subject:03}")).unwrap()),
            expiry: Expiry::After(3600),
            caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read".to_vec()))],
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
        };
        self.call(MINTER, &call).unwrap()
    }

    fn verdict(&mut self, token: &MintAnswer) {
        let call = Verify { root: SecretBytes::from(token.token.expose()), discharges: vec![] };
        let verdict = self.call(VERIFIER, &call).map(|_| "live").map_err(|error| error.code);
        self.say(verdict);
    }

    fn revoke(&mut self, target: RevokeTarget) {
        let call = Revoke { target, reason: Text::default() };
        let answer = self.call(REVOKER, &call).map(|answer| answer.effect).map_err(|error| error.code);
        // The same request again has the same answer, whatever is so by now.
        let again = self.again(REVOKER, self.ids, &call).map(|answer| answer.effect).map_err(|e| e.code);
        self.say((answer, again));
    }

    /// Everything that lists say, page by page.
    fn lists(&mut self) {
        let (mut labels, mut from) = (Vec::new(), Cursor::default());
        loop {
            let asked =
                TokenList { tenant: Some(Name::new("acme").unwrap()), subject: None, parent: None, from };
            let page = self.call(OPERATOR, &asked).unwrap();
            labels.extend(page.items.iter().map(|token| format!("{:?} {:?}", token.label, token.subject)));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        labels.sort();
        self.say(labels);
        let clients = self.call(OPERATOR, &ClientList { from: Cursor::default() }).unwrap();
        let clients: Vec<_> = clients.items.iter().map(|client| (client.key, client.state)).collect();
        self.say(clients);
        let keys = self.call(OPERATOR, &KeyList { tenant: None, from: Cursor::default() }).unwrap();
        let mut keys: Vec<_> =
            keys.items.iter().map(|key| (key.generation, key.state, key.live_tokens)).collect();
        // Listed by their ids, which are random.
        keys.sort_by_key(|(generation, ..)| *generation);
        self.say(keys);
        let status = self.call(OPERATOR, &Status {}).unwrap();
        self.say((status.revocations, status.tokens, status.keys, status.clients));
    }
}

/// What clients see of a signer, whatever it keeps its records in; and what is there after a restart.
fn lived(scene: &Scene, open: &dyn Fn() -> Box<dyn Engine>) -> Vec<String> {
    let mut life = Life::over(scene, open());
    let full = MintPower {
        narrowing: Narrowing::default(),
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    };
    let roles = [(MINTER, Role::Mint(full)), (REVOKER, Role::Revoke), (VERIFIER, Role::Verify(None))];
    for (key, role) in roles {
        let name = Name::new(role.name()).unwrap();
        life.call(OPERATOR, &ClientAdd { key, name, role, expiry: None }).unwrap();
    }
    let before = life.call(OPERATOR, &Status {}).unwrap();
    let tokens: Vec<_> = (0..TOKENS).map(|n| life.mint(n)).collect();
    for _ in 0..2 {
        life.revoke(RevokeTarget::Token(tokens[0].lineage));
    }
    let acme = Name::new("acme").unwrap();
    let user = Name::new("user:1").unwrap();
    life.revoke(RevokeTarget::Subject(acme.clone(), user, Floor::Now));
    for at in [0, 1, 2, 8] {
        life.verdict(&tokens[at]);
    }
    life.lists();
    life.call(OPERATOR, &ClientRemove { key: REVOKER }).unwrap();
    life.revoke(RevokeTarget::Tenant(acme, Floor::Now));
    let key = life.call(OPERATOR, &KeyList { tenant: None, from: Cursor::default() }).unwrap().items[0].key;
    life.call(OPERATOR, &KeyRotate { key }).unwrap();
    let minted = life.mint(200);
    life.verdict(&minted);
    let after = life.call(OPERATOR, &Status {}).unwrap();
    life.say(after.audit_lines - before.audit_lines);
    life.lists();
    let (lists, first) = (life.said.split_off(life.said.len() - 4), life.said);
    life.runtime.block_on(life.signer.service.stop());
    drop((life.signer, life.runtime));
    let mut life = Life::over(scene, open());
    // Requests of before are known after: their ids are used up.
    life.ids = 1 << 32;
    life.lists();
    assert_eq!(life.said, lists, "after a restart");
    for token in [&tokens[0], &tokens[1], &tokens[2], &minted] {
        life.verdict(token);
    }
    life.runtime.block_on(life.signer.service.stop());
    [first, life.said].concat()
}

/// One script over both engines: revocations that are done once, floors, verdicts, lists with pages,
/// the registry, clients, keys, the audit's length.
#[test]
fn a_signer_lives_alike_over_both_engines() {
    let Some(etcd) = Etcd::start("a_signer_lives_alike_over_both_engines", 1) else { return };
    let scene = Scene::new(etcd);
    let key = "08".repeat(32);
    scene.must("one", "clients add", &["--key", &key, "--name", "op", "--role", "operator"]);
    scene.join("embedded");
    scene.migrated();
    let cluster = Cluster { urls: scene.etcd.urls(), login: None, tls: None };
    let folder = scene.dir.join("embedded");
    let embedded = lived(&scene, &|| Box::new(Sqlite::open(&folder).unwrap()));
    let shared =
        lived(&scene, &|| Box::new(Store::open(&cluster, Space::new("tksign", "one").unwrap()).unwrap()));
    for (at, (one, other)) in embedded.iter().zip(&shared).enumerate() {
        assert_eq!(one, other, "answer {at}");
    }
    assert_eq!(embedded.len(), shared.len());
}
