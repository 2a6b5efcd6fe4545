//! A signer in this process, over the real store, with clients of every role.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use testkit::TempDir;
use tkcore::protocol::*;
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft};
use tkcore::revocation::{FeedKey, RootKeys};
use tkcore::{Audience, KeyClass, LineageId, Name, Subject, Tenant, Timestamp};
use tksign::store::StoreError;
use tksign::{Clock, Options, Peer, Secret, Signer, SignerError, SystemClock, Trust};

/// A clock that a test sets.
pub struct Hand(AtomicU64);

impl Hand {
    pub fn at(millis: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(millis)))
    }

    pub fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

pub const NOW: u64 = 1_795_000_000_000;
pub const OPERATOR: ClientKey = ClientKey::from_bytes([1; 32]);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn secret(n: u8) -> Secret {
    Secret::new(secret_bytes(n)).unwrap()
}

pub fn secret_bytes(n: u8) -> Vec<u8> {
    (0..32).map(|i: u8| i.wrapping_mul(7) ^ n).collect()
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub struct World {
    pub dir: TempDir,
    pub clock: Arc<Hand>,
    real: Option<Arc<dyn Clock>>,
    pub signer: Option<Signer>,
    pub trust: Trust,
    pub options: Options,
    ids: AtomicU64,
}

impl World {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let dir = TempDir::new();
        let clock = Hand::at(NOW);
        let trust = Signer::init(dir.path(), &secret(1), &operator(), &*clock, |_| Ok(())).unwrap();
        let ids = AtomicU64::new(1);
        let mut world = Self { dir, clock, real: None, signer: None, trust, options, ids };
        world.open();
        world
    }

    /// Over a store that was made already, by this clock.
    pub fn over(dir: TempDir, trust: Trust, clock: Arc<dyn Clock>) -> Self {
        let (ids, hand) = (AtomicU64::new(1), Hand::at(NOW));
        let options = Options::default();
        let mut world = Self { dir, clock: hand, real: Some(clock), signer: None, trust, options, ids };
        world.open();
        world
    }

    pub fn try_open(&self, key: &Secret) -> Result<Signer, SignerError> {
        let clock = self.real.clone().unwrap_or_else(|| Arc::clone(&self.clock) as Arc<dyn Clock>);
        Signer::open(self.dir.path(), key, self.options.clone(), clock)
    }

    pub fn open(&mut self) {
        self.signer = Some(unheld(|| self.try_open(&secret(1))).unwrap());
    }

    pub fn close(&mut self) {
        let signer = self.signer.take().unwrap();
        run(signer.service.stop());
    }

    pub fn restart(&mut self) {
        self.close();
        self.open();
    }

    pub fn signer(&self) -> &Signer {
        self.signer.as_ref().unwrap()
    }

    pub fn id(&self) -> RequestId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.ids.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        RequestId::from_bytes(id)
    }

    pub fn raw(&self, caller: ClientKey, peer: Peer, request: &[u8]) -> Vec<u8> {
        run(self.signer().service.handle(caller, peer, request)).to_vec()
    }

    pub fn call_as<C: Call>(
        &self,
        caller: ClientKey,
        peer: Peer,
        id: RequestId,
        call: &C,
    ) -> Result<C::Answer, RpcError> {
        let request = call.request(id, None).unwrap();
        C::read_answer(&self.raw(caller, peer, &request)).unwrap()
    }

    pub fn call<C: Call>(&self, caller: ClientKey, call: &C) -> Result<C::Answer, RpcError> {
        self.call_as(caller, Peer::Control, self.id(), call)
    }

    pub fn operate<C: Call>(&self, call: &C) -> C::Answer {
        self.call(OPERATOR, call).unwrap()
    }

    /// Adds a client of this role and gives its key.
    pub fn client(&self, n: u8, role: Role) -> ClientKey {
        let key = ClientKey::from_bytes([n; 32]);
        self.operate(&ClientAdd { key, name: name(&format!("client {n}")), role, expiry: None });
        key
    }

    pub fn minter(&self) -> ClientKey {
        self.client(2, Role::Mint(full_power()))
    }

    pub fn key(&self, tenant: &str, audience: Option<&str>, class: KeyClass) -> KeyInfo {
        self.operate(&KeyCreate { tenant: name(tenant), audience: audience.map(name), class })
    }

    pub fn verify(&self, caller: ClientKey, token: &[u8]) -> Result<VerifyAnswer, RpcError> {
        self.call(caller, &Verify { root: SecretBytes::from(token), discharges: vec![] })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Tries again while the store is held: a test beside this one that starts a process hands it
/// a copy of every open file, the lock included, for the moment between fork and exec.
pub fn unheld<T>(mut open: impl FnMut() -> Result<T, SignerError>) -> Result<T, SignerError> {
    loop {
        match open() {
            Err(SignerError::Store(StoreError::Held(_))) => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// The one client of a new store.
pub fn operator() -> [(ClientKey, Name, Role); 1] {
    [(OPERATOR, name("operator"), Role::Operator)]
}

pub fn full_power() -> MintPower {
    MintPower { narrowing: Narrowing::default(), unrestricted: Permit::Given, never_expires: Permit::Given }
}

pub fn mint(tenant: &str) -> Mint {
    Mint {
        tenant: Tenant::new(tenant).unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(Subject::new("user:1").unwrap()),
        label: Some(name("a label")),
        expiry: Expiry::After(3600),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

pub fn revoke(target: RevokeTarget) -> Revoke {
    Revoke { target, reason: Text::default() }
}

pub fn code<T>(result: Result<T, RpcError>) -> Code {
    match result {
        Ok(_) => panic!("it was allowed"),
        Err(error) => error.code,
    }
}

pub fn audience(text: &str) -> Option<Audience> {
    Some(name(text))
}

pub fn lineage(n: u8) -> LineageId {
    LineageId::new([n; 10], Timestamp::from_millis(NOW).unwrap())
}

pub fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// What a client of this world pins.
pub fn roots(world: &World) -> RootKeys {
    let keys: Vec<FeedKey> =
        world.trust.root_keys.iter().map(|key| FeedKey::from_bytes(key).unwrap()).collect();
    RootKeys::new(world.trust.threshold, &keys).unwrap()
}

/// What the holder of the root key answers.
pub fn sign(world: &World, prepared: &PublicationAnswer) -> Vec<u8> {
    let root = FeedSigningKey::from_seed(&world.trust.root_seed).unwrap();
    let (draft, _) = KeyListDraft::from_bytes(&prepared.to_sign.0).unwrap();
    let signature = draft.sign(&root).unwrap();
    draft.assemble(&[(root.public().id(), signature)], &roots(world)).unwrap()
}

/// The command that turns the mint clock back. It runs by the machine's own.
pub fn turn_back(world: &World) -> testkit::process::Finished {
    let file = world.path().join("secret");
    if !file.exists() {
        world.dir.write("secret", 0o400, secret_bytes(1));
    }
    let (dir, file) = (world.path().to_str().unwrap(), file.to_str().unwrap());
    let args = ["restore-check", "--dir", dir, "--secret-file", file, "--mint-clock-back", "--json"];
    testkit::process::run(testkit::signer::binary(), args, b"")
}
