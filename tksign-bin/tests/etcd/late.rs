//! A copy of a transaction that arrives when nobody waits for it any more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use testkit::etcd::Etcd;
use testkit::http::{Reply, Server};
use testkit::proxy::{Proxy, Way};
use tksign::store::etcd::{Cluster, Etcd as Store, Space};
use tksign::store::{Change, Op, Store as _, StoreError, Table};

use crate::scene::awaited;

/// What the first transaction writes, and how that stands in a request.
const FIRST: (&[u8], &[u8]) = (b"first", b"Zmlyc3Q=");

fn put(value: &[u8]) -> Change {
    Change { ops: vec![Op::Put(Table::Tokens, value.to_vec(), value.to_vec())], ..Change::default() }
}

/// Makes a request of etcd, as a network does that kept it for a while.
fn deliver(address: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /v3/kv/txn HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\ncontent-length: ";
    stream.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A signer gave a transaction up as silent and begins the next one, when a copy of the first
/// arrives after all. What then stands in the signer's row is not taken for the second one's.
#[test]
fn a_late_copy_of_a_transaction_is_not_taken_for_the_next_one() {
    let test = "a_late_copy_of_a_transaction_is_not_taken_for_the_next_one";
    let Some(etcd) = Etcd::start(test, 1) else { return };
    // One way to etcd, and one on which requests stay.
    let way = Proxy::start(&etcd.address(0));
    let kept = Arc::new(Mutex::new(None));
    let lane = {
        let kept = Arc::clone(&kept);
        Server::start(move |request| {
            if !request.body.windows(FIRST.1.len()).any(|part| part == FIRST.1) {
                return Reply::Close;
            }
            *kept.lock().unwrap() = Some(request.body.clone());
            Reply::Silence
        })
    };
    let urls = vec![format!("http://{}", way.address()), lane.url()];
    let cluster = Cluster { urls, login: None, tls: None };
    let mut store = Store::create(&cluster, Space::new("tksign", "one").unwrap()).unwrap();
    let begun = |store: &mut Store, change: &Change| {
        let begin = || {
            store.begin().unwrap();
            store.apply(change).is_ok().then_some(())
        };
        awaited(begin).expect("the cluster is heard of");
    };
    begun(&mut store, &put(FIRST.0));
    way.set(0, Way::Refused);
    let silent = store.commit().unwrap_err();
    assert!(silent.to_string().contains("did not say whether"), "{silent}");
    way.set(0, Way::Open);

    begun(&mut store, &put(b"second"));
    let body = kept.lock().unwrap().take().expect("it was sent");
    let answer = deliver(&etcd.address(0), &body);
    assert!(answer.contains("\"succeeded\":true"), "{answer}");
    assert!(matches!(store.commit(), Err(StoreError::Raced)), "what it did not write counts as done");
    // Decided again it is written.
    let again = || {
        begun(&mut store, &put(b"second"));
        store.commit().ok()
    };
    awaited(again).expect("it is written");
    for value in [FIRST.0, b"second"] {
        let read = awaited(|| store.get(Table::Tokens, value).ok());
        assert_eq!(read.flatten().as_deref(), Some(value));
    }
}
