//! A graceful stop: no new connection, and an answer to whoever was being served.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use tkcore::protocol::*;

use crate::wire::{Key, Line};
use crate::{mint_params, signer, verify_params};

#[test]
fn a_request_under_way_is_answered_although_the_signer_stops() {
    let mut signer = signer();
    let mut line = Line::open(&signer, &Key::allowed(&signer, &["mint"])).unwrap();
    let verifier = Key::allowed(&signer, &["verify"]);
    let params = mint_params("acme");
    let payload = params.request(line.id(), None).unwrap();
    // The server says `100 Continue` when it waits for the body: the request is under way.
    let rest = line.begin(&payload);
    let sent = Command::new("kill").args(["-TERM", &signer.id().to_string()]).status().unwrap();
    assert!(sent.success());
    while TcpStream::connect(signer.rpc()).is_ok() {
        // The server waits ten seconds for the body, and needs the processor to close its door.
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = line.end(&rest).unwrap().unwrap();
    let minted = Mint::read_answer(&answer).unwrap().unwrap();
    // Then it ends, well, and what it said is so.
    signer.stop();
    signer.serve();
    let mut line = Line::open(&signer, &verifier).unwrap();
    line.call(&verify_params(&minted)).unwrap();
}
