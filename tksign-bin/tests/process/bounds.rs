//! What bounds one client of a running signer: the narrowing of its role, and its rate.

use std::time::{Duration, Instant};

use testkit::signer::{Running, With};
use tkcore::protocol::*;

use super::wire::{Key, Line};
use super::{mint_params, signer, verify_params};

/// PR-64. The bounds are those of the command line, and what breaks one leaves no token.
#[test]
fn a_narrowed_minter_mints_within_its_bounds_only() {
    let signer = signer();
    for tenant in ["beta", "gamma"] {
        signer.must("keys create", &["--tenant", tenant]);
    }
    let narrowed = [
        &["mint", "--tenant", "acme", "--tenant", "beta", "--max-lifetime", "1h"][..],
        &["--require-caveat", "action in read,list", "--require-caveat", "app = 7", "--allow-never-expires"],
    ];
    let mut minter = Line::open(&signer, &Key::allowed(&signer, &narrowed.concat())).unwrap();
    let caveats = |texts: &[&str]| {
        texts.iter().map(|text| MintCaveat::FirstParty(Bytes(text.as_bytes().to_vec()))).collect()
    };
    let good = |tenant: &str| Mint {
        caveats: caveats(&["app = 7", "time < 2999-01-01T00:00:00Z", "action in read,list"]),
        ..mint_params(tenant)
    };
    for tenant in ["acme", "beta"] {
        minter.call(&good(tenant)).unwrap();
    }
    let never = Mint { expiry: Expiry::Never, never_expires: Permit::Given, ..good("acme") };
    let with = |texts: &[&str]| Mint { caveats: caveats(texts), ..good("acme") };
    let refused = [
        ("another tenant", good("gamma")),
        ("a longer life", Mint { expiry: Expiry::After(3601), ..good("acme") }),
        ("a longer life", never),
        ("a required caveat is missing", with(&["action in read,list"])),
        ("a required caveat is missing", with(&["app = 7", "action in list,read"])),
        ("a required caveat is missing", with(&["app = 7", "action = read"])),
        ("a required caveat is missing", with(&[])),
    ];
    let mut operator = Line::open(&signer, &Key::allowed(&signer, &["operator"])).unwrap();
    let before = operator.call(&Status {}).unwrap().tokens;
    for (bound, mint) in refused {
        let error = minter.call(&mint).unwrap_err();
        assert_eq!((error.code, error.detail.as_str()), (Code::OutsideRole, bound), "{mint:?}");
    }
    assert_eq!(operator.call(&Status {}).unwrap().tokens, before);
    // Nobody else is narrowed.
    let mut other = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    other.call(&mint_params("gamma")).unwrap();
}

/// PR-63. One a second and two at once: the third is told when to come again, and gets its answer
/// then; whoever else asks notices nothing.
#[test]
fn a_client_past_its_rate_is_told_to_wait_and_nobody_else_is() {
    let arguments = ["--client-rate", "1"].map(str::to_owned).to_vec();
    let signer = Running::start_with(With { arguments, ..With::default() });
    signer.must("keys create", &["--tenant", "acme"]);
    let mut minter = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    let verify = verify_params(&minter.call(&mint_params("acme")).unwrap());
    let key = Key::allowed(&signer, &["verify"]);
    let mut lines = [Line::open(&signer, &key).unwrap(), Line::open(&signer, &key).unwrap()];
    let (began, mut asked, mut answered, mut error) = (Instant::now(), 0, 0, None);
    // A client's sessions share its rate. On a slow machine more may be in time, never more than
    // the time that went by allows.
    while asked < 40 || error.is_none() {
        asked += 1;
        assert!(asked < 100_000, "nothing is ever refused");
        match lines[asked % 2].call(&verify) {
            Ok(_) => (answered, error) = (answered + 1, None),
            Err(refused) => error = Some(refused),
        }
    }
    assert!(answered >= 2 && answered <= 3 + began.elapsed().as_secs(), "{answered} of {asked}");
    let error = error.unwrap();
    assert_eq!(error.code, Code::RateLimited);
    let wait = error.retry_after.expect("when to ask again");
    assert!((1..=1001).contains(&wait), "{wait} ms");
    let mut other = Line::open(&signer, &Key::allowed(&signer, &["verify"])).unwrap();
    other.call(&verify).unwrap();
    // What it was told to do.
    std::thread::sleep(Duration::from_millis(wait.into()));
    lines[0].call(&verify).unwrap();
}
