//! Several signer addresses with pinned keys: whatever those in front do, the call is answered by
//! the one that answers, within the one deadline, and what it asks for is done once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use testkit::disk::{Disk, Rule};
use testkit::http::{Reply, Request, Server};
use testkit::signer::{Running, With};
use tkcore::protocol::{Bytes, Code, Expiry, Mint, MintCaveat, Permit};
use tkcore::{KeyClass, Name, Presented, Token};
use tkverify::remote::{Trouble, request_id};
use tkverify::{ClientKey, Remote, RemoteError, SignerAddress};
use zeroize::Zeroizing;

/// An address that hangs takes half of it. Behind one, an answer still has 20 s, for what takes an idle
/// machine some milliseconds; so no test puts two in front of the one that answers.
const DEADLINE: Duration = Duration::from_secs(40);

/// A real signer, and a client of it that may mint and one that may verify.
struct Scene {
    signer: Running,
    address: SignerAddress,
}

impl Scene {
    fn new() -> Self {
        let signer = Running::start();
        signer.must("keys create", &["--tenant", "acme"]);
        let trust = tkverify::Trust::from_file(&signer.trust()).unwrap();
        let address = trust.signers.first().unwrap().clone();
        Self { signer, address }
    }

    fn remote(&self, role: &str, urls: &[&SignerAddress]) -> Remote {
        let key = ClientKey::generate().unwrap();
        let public = tkcore::protocol::ClientKey::from_bytes(*key.public()).to_string();
        self.signer.must("clients add", &["--key", &public, "--name", role, "--role", role]);
        let addresses: Vec<_> = urls.iter().map(|address| (*address).clone()).collect();
        Remote::new(&addresses, key).unwrap().with_deadline(DEADLINE)
    }

    /// Another address under the signer's pinned key.
    fn at(&self, url: String) -> SignerAddress {
        SignerAddress { url, key: self.address.key }
    }

    fn tokens(&self) -> usize {
        self.signer.must("tokens list", &["--json"]).lines().count()
    }

    /// What the signer answers to a request that came elsewhere.
    fn forward(rpc: &str, request: &Request) -> Vec<u8> {
        let mut stream = TcpStream::connect(rpc).unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            request.path,
            request.body.len()
        );
        stream.write_all(&[head.as_bytes(), &request.body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
}

fn mint_params() -> Mint {
    Mint {
        tenant: Name::new("acme").unwrap(),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(Name::new("user:17").unwrap()),
        label: None,
        expiry: Expiry::After(3600),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

/// An address where an answer begins and never ends, a byte now and then.
fn trickle() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".bytes();
                for byte in head.chain(std::iter::repeat_n(0, 1000)) {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    format!("http://{address}")
}

/// An address where nobody listens.
fn nobody() -> String {
    format!("http://127.0.0.1:{}", testkit::free_port())
}

/// PR-70: one that refuses connections, one that accepts and never answers, one that answers a byte
/// at a time, one that has another key: in front of one that answers.
#[test]
fn whatever_is_in_front_the_call_is_answered_within_its_deadline() {
    let scene = Scene::new();
    let silent = Server::start(|_| Reply::Silence);
    let [gone, silent, slow] = [nobody(), silent.url(), trickle()].map(|url| scene.at(url));
    let other = SignerAddress {
        key: *ClientKey::from_private(Zeroizing::new([7; 32])).unwrap().public(),
        ..scene.address.clone()
    };
    let minted = scene.remote("mint", &[&scene.address]).mint(&mint_params(), request_id().unwrap()).unwrap();
    let token = || Presented::new(Token::parse(minted.token.expose()).unwrap(), &[]).unwrap();
    let fronts: [&[&SignerAddress]; 6] =
        [&[&gone, &silent, &other], &[&gone, &slow, &other], &[&gone], &[&silent], &[&slow], &[&other]];
    let nobody_answers = scene.remote("verify", &[&gone, &other, &silent, &slow]).with_deadline(DEADLINE / 2);
    // Side by side, since most of it is waiting.
    let error = thread::scope(|scope| {
        for front in fronts {
            let remote = scene.remote("verify", &[front, &[&scene.address]].concat());
            let token = token();
            scope.spawn(move || {
                remote.verify(&token).unwrap_or_else(|error| panic!("{front:?}: {error}"));
                // The next one goes where the last was answered.
                remote.verify(&token).unwrap();
            });
        }
        // Without the one that answers the end is told with what each did.
        nobody_answers.verify(&token()).unwrap_err()
    });
    let (RemoteError::Deadline(told) | RemoteError::Unreachable(told)) = &error else { panic!("{error}") };
    let trouble = |address: &SignerAddress| {
        told.iter().find(|(url, _)| *url == address.url).map(|(_, trouble)| trouble)
    };
    assert!(matches!(trouble(&gone), Some(Trouble::Connection(_))), "{error}");
    assert_eq!([trouble(&silent), trouble(&slow)], [Some(&Trouble::Timeout); 2], "{error}");
    assert_eq!(trouble(&other), Some(&Trouble::Handshake), "{error}");
}

/// PR-70: many calls at once do not wait one after the other for an address that hangs.
#[test]
fn calls_that_begin_together_are_all_answered_although_the_first_address_hangs() {
    let scene = Scene::new();
    let silent = Server::start(|_| Reply::Silence);
    let silent = scene.at(silent.url());
    let minted = scene.remote("mint", &[&scene.address]).mint(&mint_params(), request_id().unwrap()).unwrap();
    let remote = scene.remote("verify", &[&silent, &scene.address]);
    let together = Barrier::new(16);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let token = Presented::new(Token::parse(minted.token.expose()).unwrap(), &[]).unwrap();
                together.wait();
                remote.verify(&token).unwrap();
            });
        }
    });
}

/// PR-32, PR-70: an address that has it done and says nothing: the next one gives the same answer.
#[test]
fn what_was_done_without_an_answer_is_not_done_again_elsewhere() {
    let scene = Scene::new();
    let rpc = scene.signer.rpc().to_owned();
    let mute = Server::start(move |request| {
        let answer = Scene::forward(&rpc, request);
        if request.path == "/v1/rpc" { Reply::Silence } else { Reply::Raw(answer) }
    });
    let mute = scene.at(mute.url());
    let before = scene.tokens();
    let minter = scene.remote("mint", &[&mute, &scene.address]);
    let id = request_id().unwrap();
    let first = minter.mint(&mint_params(), id).unwrap();
    assert_eq!(scene.tokens(), before + 1);
    assert_eq!(minter.mint(&mint_params(), id).unwrap().lineage, first.lineage);
}

/// PR-70: a signer whose store fails is not the last word while another one has a store that works.
#[test]
fn a_store_that_fails_is_asked_for_elsewhere() {
    let mut broken = Scene::new();
    let whole = Scene::new();
    let key = || ClientKey::from_private(Zeroizing::new([9; 32])).unwrap();
    let public = tkcore::protocol::ClientKey::from_bytes(*key().public()).to_string();
    for scene in [&broken, &whole] {
        scene.signer.must("clients add", &["--key", &public, "--name", "mint", "--role", "mint"]);
    }
    broken.signer.stop();
    let disk = Disk::new(&broken.signer.dir().join("state"), broken.signer.dir().path());
    broken
        .signer
        .set_with(With { arguments: vec!["--no-sandbox".to_owned()], environment: disk.environment() });
    broken.signer.serve();
    disk.rule(Rule::WritesFail);
    let of = |addresses: &[&SignerAddress]| {
        let addresses: Vec<_> = addresses.iter().map(|address| (*address).clone()).collect();
        Remote::new(&addresses, key()).unwrap().with_deadline(DEADLINE)
    };
    let told = of(&[&broken.address]).mint(&mint_params(), request_id().unwrap()).unwrap_err();
    assert!(matches!(&told, RemoteError::Refused(error) if error.code == Code::StoreFailed), "{told}");
    of(&[&broken.address, &whole.address]).mint(&mint_params(), request_id().unwrap()).unwrap();
    assert_eq!(whole.tokens(), 1);
}
