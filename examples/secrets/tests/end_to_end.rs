//! Signer, permission service, store and worker as processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use harness::{
    Service, client, flood_while_the_signer_hangs, mint, narrowed, revoke, signer, text, tkverify, until,
};
use testkit::process::run;
use tkverify::discharge::{Authority, DischargeClient, Wallet};
use tkverify::{Clock as _, SystemClock};

const PROGRAM: &str = env!("CARGO_BIN_EXE_secrets-example");

#[test]
fn the_fleets_token_opens_a_tenants_secrets_only_beside_proof_of_permission_on_that_tenant() {
    let signer = signer();
    for tenant in ["other", "fleet"] {
        signer.must("keys create", &["--tenant", tenant]);
    }
    let at = |name: &str| text(&signer.dir().join(name)).to_owned();
    let made = tkverify(&["keygen", "--authority", "--out", &at("keys")], "").stdout;
    let word = |prefix| made.lines().find_map(|line| line.strip_prefix(prefix)).unwrap().trim().to_owned();
    let (authority, public) = (word("authority "), word("public key "));
    let _ = signer.dir().write("secrets", 0o600, "acme db hunter2\nother db hunter3\n");
    let trust = signer.trust();
    let start = |role: &str, name: &str, more: [&str; 2]| {
        let key = client(&signer, &format!("{role}.key"), "verify", &[]);
        let state = at(&format!("{role}-{name}"));
        let base = [role, "--trust", text(&trust), "--client-key", text(&key), "--state", &state];
        Service::start(PROGRAM, &[&base[..], &more].concat())
    };
    let permissions = start("permissions", "state", ["--keys", &at("keys")]);
    let store = start("store", "state", ["--secrets", &at("secrets")]);

    let fleet =
        signer.must("mint", &["--tenant", "fleet", "--expires", "30d", "--caveat", "action = read-secret"]);
    let lock = ["lock", "--authority", &authority, "--authority-key", &public];
    let locked = run(PROGRAM, lock, fleet.as_bytes());
    assert_eq!(locked.code, Some(0), "{}", locked.stderr);
    let fleet = locked.stdout;

    // Alone it opens nothing.
    let alone = store.until(401, "/acme/db", fleet.trim());
    assert!(alone.body.starts_with("discharge-missing"), "{alone:?}");

    let fetch = |user: &str, tenant: &str| {
        let user = signer.dir().write("user.token", 0o600, user);
        let (vouching, store) =
            (format!("http://{}", permissions.address), format!("http://{}", store.address));
        let to_whom = ["--authority", &authority, "--permissions", &vouching, "--store", &store];
        let what = ["--tenant", tenant, "--secret", "db", "--user-token", text(&user)];
        run(PROGRAM, ["fetch"].into_iter().chain(to_whom).chain(what), fleet.as_bytes())
    };
    let user = mint(&signer, &["action in read,read-secret"]);
    let opened = until("the secret", || {
        let done = fetch(&user, "acme");
        if done.code == Some(0) { Ok(done.stdout) } else { Err(done.stderr) }
    });
    assert_eq!(opened, "hunter2\n");
    // The word for one tenant opens no other one's secrets, whoever holds it.
    let (_, token) = tkcore::TokenBuf::from_text(fleet.trim()).unwrap();
    let vouching = Authority::new(&format!("http://{}/v1/discharge/acme", permissions.address)).unwrap();
    let vouching = vouching.with_credential(format!("Bearer {user}"));
    let id = tkcore::AuthorityId::from_hex(&authority).unwrap();
    let mut wallet = Wallet::new(token);
    wallet.refresh(&DischargeClient::new().with_authority(id, vouching)).unwrap();
    let header = wallet.authorization(SystemClock::new().read().wall).unwrap();
    let both = header.strip_prefix("Bearer ").unwrap();
    assert_eq!(store.get("/acme/db", both).status, 200);
    flood_while_the_signer_hangs(
        &signer,
        |stranger| store.get("/acme/db", stranger),
        || assert_eq!(store.get("/acme/db", both).status, 200),
    );
    let other = store.get("/other/db", both);
    assert!(other.status == 403 && other.body.contains("tenant-of-secret = acme"), "{other:?}");
    // No permission on the other tenant, none without the action, none once it was revoked.
    assert_eq!(fetch(&user, "other").code, Some(1));
    assert_eq!(fetch(&narrowed(&user, &["action = read"]), "acme").code, Some(1));
    revoke(&signer, &user);
    until("the revocation", || if fetch(&user, "acme").code == Some(1) { Ok(()) } else { Err("") });
}
