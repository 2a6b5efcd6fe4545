//! A client in another language, written from docs/spec/protocol.md alone, speaks to the server.

use testkit::process::run;
use testkit::signer::workspace;
use testkit::{TempDir, need};
use tkcore::LineageId;
use tkcore::protocol::MintAnswer;

use super::wire::{Key, Line, pinned};
use super::{mint_params, signer};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// PR-2, PR-3, PR-4, PR-7, PR-10, PR-11, PR-12, PR-40, PR-42, PR-43, PR-58.
#[test]
fn a_second_implementation_of_the_client_verifies_and_is_refused() {
    let test = "a_second_implementation_of_the_client_verifies_and_is_refused";
    let Some(python) = need(test, "python3", "apt-get install python3") else { return };
    let (dir, signer) = (TempDir::new(), signer());
    let mut minter = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    let token: MintAnswer = minter.call(&mint_params("acme")).unwrap();
    let script = workspace().join("vectors/protocol_client.py");
    let (url, pin) = (format!("http://{}", signer.rpc()), hex(&pinned(&signer)));
    let converse = |key: &Key, lines: &str| {
        let file = dir.write("key", 0o600, hex(key.private()));
        let args = [script.to_str().unwrap(), &url, &pin, file.to_str().unwrap()];
        let done = run(&python, args, lines.as_bytes());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        done.stdout.lines().map(line).collect::<Vec<_>>()
    };
    let whole = hex(token.token.expose());
    let mut changed = token.token.expose().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let verifier = Key::allowed(&signer, &["verify"]);
    let lines = format!("verify {whole}\nreplay\nverify {}\nforbidden\nverify {whole}\n", hex(&changed));
    let said = converse(&verifier, &lines);
    let [good, replayed, forged, forbidden, again] = &said[..] else { panic!("{said:?}") };
    assert_eq!(good["tenant"], "acme");
    assert_eq!(good["key"], hex(token.key.as_bytes()));
    assert_eq!(good["branches"].as_array().unwrap().len(), 1);
    assert_eq!((&replayed["status"], &replayed["body"]), (&409.into(), &"0101".into()));
    assert_eq!((&forged["error"], &forged["fault"]), (&"0102".into(), &"token".into()));
    assert_eq!((&forbidden["error"], &forbidden["fault"]), (&"0203".into(), &"caller".into()));
    assert_eq!(again["tenant_row"], good["tenant_row"], "the session went on");

    let lineage: LineageId = token.lineage;
    signer.must("revoke token", &[&lineage.to_string()]);
    let said = converse(&verifier, &format!("verify {whole}\n"));
    assert_eq!((&said[0]["error"], &said[0]["detail"]), (&"0106".into(), &"token".into()));
    let said = converse(&Key::generate(), "");
    assert_eq!((&said[0]["status"], &said[0]["body"]), (&403.into(), &"0102".into()), "a stranger");
}
