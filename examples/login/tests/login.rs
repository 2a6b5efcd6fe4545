//! The service and its client over real sockets: a machine, a person, and what must not work.
#![allow(clippy::unwrap_used, reason = "tests fail loudly on their own")]

use harness::{Service, text};
use testkit::TempDir;
use tkcore::plain::Macaroon;
use tkcore::{
    AuthorityId, AuthoritySecret, Budget, CaveatKey, RootKey, SealTo, TokenBuf, attenuate_third_party,
    seal_ticket,
};
use tkverify::discharge::{Authority, DischargeClient, DischargeError, Wallet};
use tkverify::{Clock, SystemClock};

const SECRET: [u8; 32] = [0x52; 32];

fn id() -> AuthorityId {
    AuthorityId::from_bytes([0xa1; 16])
}

/// The service as a process, with files that are removed when it ends.
struct Login {
    service: Service,
    _dir: TempDir,
}

impl Login {
    fn start() -> Self {
        let dir = TempDir::new();
        let key = dir.write("login.key", 0o600, format!("{}\n{}\n", id(), "52".repeat(32)));
        let accounts = "person ann hunter2\nperson bob hunter3\nmachine ci t0ken\n";
        let accounts = dir.write("accounts", 0o600, accounts);
        let args = ["--key", text(&key), "--accounts", text(&accounts)];
        Self { service: Service::start(env!("CARGO_BIN_EXE_login-example"), &args), _dir: dir }
    }

    /// A client of it, with a credential or without.
    fn client(&self, credential: Option<&str>) -> DischargeClient {
        let mut authority = Authority::new(&format!("http://{}/v1/discharge", self.service.address)).unwrap();
        if let Some(value) = credential {
            authority = authority.with_credential(value.to_owned());
        }
        DischargeClient::new().with_authority(id(), authority)
    }
}

fn root_key() -> RootKey {
    RootKey::derive(b"root")
}

/// A token that needs somebody to be logged in.
fn wallet(asks: &str) -> Wallet {
    let macaroon = Macaroon::create(&root_key(), b"a token", None).unwrap();
    let token = TokenBuf::from_v2(macaroon.to_v2().to_vec()).unwrap();
    let (key, public) = (CaveatKey::from_bytes([9; 32]), AuthoritySecret::from_bytes(SECRET).public());
    let to = SealTo::Public { key: &public, ephemeral: &[7; 32] };
    let ticket = seal_ticket(id(), &to, &key, &[asks]).unwrap();
    Wallet::new(attenuate_third_party(&token.as_token(), None, &ticket, &key, &[8; 24]).unwrap())
}

fn holds(wallet: &Wallet) {
    let text = wallet.authorization(SystemClock::new().read().wall).unwrap();
    let tokens: Vec<Macaroon> = text["Bearer ".len()..]
        .split(',')
        .map(|text| {
            Macaroon::from_bytes_lenient(TokenBuf::from_text(text).unwrap().1.as_token().as_v2()).unwrap()
        })
        .collect();
    tokens[0].verify(&root_key(), &tokens[1..], &mut Budget::default()).unwrap();
}

/// Fills in the form as a browser would.
fn log_in(address: &str, name: &str, password: &str) -> (String, u16) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let page = agent.get(address).call().unwrap().body_mut().read_to_string().unwrap();
    let (at, poll) = address.split_once("?id=").unwrap();
    let form = format!("id={poll}&name={name}&password={password}");
    let request = agent.post(at).header("content-type", "application/x-www-form-urlencoded");
    (page, request.send(form).unwrap().status().as_u16())
}

#[test]
fn a_machine_gets_its_discharge_at_once() {
    let login = Login::start();
    let mut held = wallet("subject = ci");
    assert_eq!(held.refresh(&login.client(Some("Bearer t0ken"))).unwrap().fetched, 1);
    holds(&held);
}

#[test]
fn a_machine_gets_none_for_somebody_else() {
    let login = Login::start();
    let refused = wallet("subject = ann").refresh(&login.client(Some("Bearer t0ken"))).unwrap_err();
    assert!(matches!(refused, DischargeError::Refused { .. }), "{refused}");
}

#[test]
fn without_a_credential_and_a_person_it_fails_at_once() {
    let login = Login::start();
    for credential in [None, Some("Bearer wrong")] {
        let error = wallet("subject = ci").refresh(&login.client(credential)).unwrap_err();
        assert_eq!(error, DischargeError::NeedsPerson { authority: id() });
    }
}

#[test]
fn a_person_logs_in_and_the_waiting_program_goes_on() {
    let login = Login::start();
    let client = login.client(None).with_person(|_, address| {
        let (page, wrong) = log_in(address, "ann", "guess");
        assert!(page.contains("<code>subject = ann</code>"), "{page}");
        assert_eq!(wrong, 403);
        assert_eq!(log_in(address, "ann", "hunter2").1, 200);
    });
    let mut held = wallet("subject = ann");
    held.refresh(&client).unwrap();
    holds(&held);
}

#[test]
fn another_person_cannot_discharge_it() {
    let login = Login::start();
    let client = login.client(None).with_person(|_, address| {
        assert_eq!(log_in(address, "bob", "hunter3").1, 403);
    });
    let refused = wallet("subject = ann").refresh(&client).unwrap_err();
    assert!(matches!(refused, DischargeError::Refused { .. }), "{refused}");
}

#[test]
fn what_a_ticket_asks_is_shown_as_text() {
    let login = Login::start();
    let client = login.client(None).with_person(|_, address| {
        let (page, _) = log_in(address, "ann", "hunter2");
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
    });
    assert!(wallet("note = \"<script>\"").refresh(&client).is_err());
}
