//! A third party that the command line names: it is asked over HTTP, and without it the token counts
//! for nothing.

use std::sync::Arc;
use std::time::Duration;

use testkit::http::{Reply, Server};
use testkit::signer::{Running, With};
use tkcore::protocol::*;
use tkcore::{AuthorityId, AuthorityKeys, AuthoritySecret, Budget, Request, TokenBuf, Vocabulary};
use tkverify::discharge::{Authority, Desk, DischargeClient, Wallet};
use tkverify::{Clock as _, SystemClock};

use super::signer;
use super::wire::{Key, Line};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers at once for whoever sends the credential of `subject`.
fn login(desk: Arc<Desk>, subject: &'static str) -> Server {
    Server::start(move |request| {
        let now = SystemClock::new().read().wall;
        let reply = desk.open(&request.body).and_then(|ticket| {
            let asked = Request::builder("login", now).action("discharge").build().unwrap();
            let vocabulary = Vocabulary::native();
            let cleared = ticket.clear(&asked, Some(subject), &vocabulary, &mut Budget::default());
            let cleared = cleared.map_err(tkverify::discharge::DeskError::NotCleared)?;
            desk.immediate(&cleared, Duration::from_secs(300), &[])
        });
        reply.map_or_else(|error| Reply::status(error.reply().status), |reply| Reply::ok(reply.body))
    })
}

/// PR-95, and the whole way to a service token by real programs.
#[test]
fn the_command_line_adds_third_party_caveats_and_caps_service_tokens() {
    let id = AuthorityId::from_bytes([0xa1; 16]);
    let arguments = ["--authentication", &id.to_string(), "--exchange-cap", "2m"].map(str::to_owned);
    let signer = Running::start_with(With { arguments: arguments.to_vec(), ..With::default() });
    signer.must("keys create", &["--tenant", "acme"]);
    let secret = || AuthoritySecret::from_bytes([0x52; 32]);
    let desk = Arc::new(Desk::new(AuthorityKeys::new(id).with_secret(secret())));
    let (ann, bob) = (login(Arc::clone(&desk), "ann"), login(desk, "bob"));
    let (authority, key) = (id.to_string(), hex(secret().public().as_bytes()));
    let third = ["--third-party", "https://login.example/v1/discharge", &authority, &key, "subject = ann"];
    let mint = ["--tenant", "acme", "--expires", "1h", "--caveat", "action = read"];
    let text = signer.must("mint", &[&mint[..], &third].concat());
    let (_, token) = TokenBuf::from_text(text.trim_end()).unwrap();
    let mut verifier = Line::open(&signer, &Key::allowed(&signer, &["verify"])).unwrap();
    let bare = Verify { root: SecretBytes::from(token.as_token().as_v2()), discharges: vec![] };
    let refused = verifier.call(&bare).unwrap_err();
    assert_eq!(refused.code, Code::BadDischarge, "{refused}");

    let ask = |server: &Server| {
        let place = Authority::new(&format!("{}/v1/discharge", server.url())).unwrap();
        let mut wallet = Wallet::new(TokenBuf::from_v2(token.as_token().as_v2().to_vec()).unwrap());
        let done = wallet.refresh(&DischargeClient::new().with_authority(id, place));
        done.map(|_| wallet.authorization(SystemClock::new().read().wall).unwrap())
    };
    assert!(ask(&bob).is_err(), "the ticket asks for ann");
    let header = ask(&ann).unwrap();
    let mut tokens = header["Bearer ".len()..].split(',').map(|text| {
        let (_, token) = TokenBuf::from_text(text).unwrap();
        SecretBytes::from(token.as_token().as_v2())
    });
    let whole = Verify { root: tokens.next().unwrap(), discharges: tokens.collect() };
    assert_eq!(whole.discharges.len(), 1);
    assert_eq!(verifier.call(&whole).unwrap().facts.tenant.as_str(), "acme");

    let mut operator = Line::open(&signer, &Key::allowed(&signer, &["operator"])).unwrap();
    let Verify { root, discharges } = whole;
    let workload = vec![Bytes(b"host = worker7".to_vec())];
    let asked = Exchange { root, discharges, workload, expiry: Expiry::Never, label: None };
    let mut second = || operator.call(&Status {}).unwrap().now.seconds();
    let before = second();
    let mut exchanger = Line::open(&signer, &Key::allowed(&signer, &["exchange"])).unwrap();
    let child = exchanger.call(&asked).unwrap();
    let ends = child.expiry.seconds();
    assert!((before + 120..=second() + 120).contains(&ends), "{ends} is not two minutes after {before}");
    // It holds without the login.
    let bare = Verify { root: child.token, discharges: vec![] };
    assert_eq!(verifier.call(&bare).unwrap().facts.tenant.as_str(), "acme");
}

#[test]
fn a_third_party_that_is_none_is_wrong_usage() {
    let (signer, id) = (signer(), "a1".repeat(16));
    let mint = ["--tenant", "acme", "--expires", "1h", "--caveat", "action = read", "--third-party"];
    let key = "77".repeat(32);
    for wrong in [
        &["https://login.example", &id, "77"][..],
        &["https://login.example", "a1", &key],
        &["https://login.example", &id, &"00".repeat(32)],
        &["https://login.example", &id],
    ] {
        let done = signer.run("mint", &[&mint[..], wrong].concat(), b"");
        assert_eq!(done.code, Some(2), "{wrong:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stdout.is_empty());
    }
}
