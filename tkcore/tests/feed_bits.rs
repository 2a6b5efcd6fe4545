//! Every flipped bit of a key list, head, delta or snapshot is refused, except inside a
//! signature under a key id that is not listed.
#![cfg(feature = "publish")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail loudly on their own; a long run says how long it took"
)]

mod feed_support;

use std::time::Duration;

use feed_support::{Client, FEED, Random, START, Signer, at, key};
use tkcore::revocation::feed::{Fetch, Response};
use tkcore::revocation::publish::KeyListDraft;
use tkcore::revocation::{ExpiryDay, FeedPath, KeyList, Revocation, RootKeys, Snapshot};
use tkcore::{BranchId, KeyId, Row};

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
    bytes
}

/// One row of every kind, in two days.
fn rows(random: &mut Random) -> Vec<(Revocation, ExpiryDay)> {
    let day = ExpiryDay::of(Some(at(START + 86_400_000 * 30)));
    vec![
        (Revocation::Token { lineage: random.lineage(START) }, day),
        (Revocation::Token { lineage: random.lineage(START) }, ExpiryDay::UNKNOWN),
        (Revocation::Branch { branch: BranchId::from_bytes(random.bytes()) }, day),
        (Revocation::Key { key: KeyId::from_bytes(random.bytes()), before: None }, day),
        (Revocation::Key { key: KeyId::from_bytes(random.bytes()), before: Some(at(START)) }, day),
        (Revocation::Subject { row: Row::from_bytes(random.bytes()), before: at(START) }, day),
        (Revocation::Tenant { row: Row::from_bytes(random.bytes()), before: at(START) }, day),
        (Revocation::Global { before: at(START - 1_000_000) }, ExpiryDay::UNKNOWN),
    ]
}

// RV-13, RV-40
#[test]
fn every_bit_of_a_key_list() {
    let signer = Signer::new(START);
    let roots = [key(1), key(2)];
    let pinned = RootKeys::new(1, &[roots[0].public(), roots[1].public()]).unwrap();
    let stranger = key(9);
    let signers = [&roots[0], &roots[1], &stranger];
    let bytes = KeyListDraft::sign_all(&signer.list, &signers, &pinned).unwrap();
    assert!(KeyList::verify(&bytes, FEED, &pinned).is_ok());
    let mut ids = signers.map(|key| key.public().id());
    ids.sort_unstable();
    let place = ids.iter().position(|id| *id == stranger.public().id()).unwrap();
    let start = bytes.len() - 64 * (3 - place);
    let mut accepted = 0;
    for bit in 0..bytes.len() * 8 {
        let is_free = (start..start + 64).contains(&(bit / 8));
        let verdict = KeyList::verify(&flipped(&bytes, bit), FEED, &pinned);
        assert_eq!(verdict.is_ok(), is_free, "bit {bit}: {verdict:?}");
        accepted += usize::from(is_free);
    }
    assert_eq!(accepted, 512);
    for len in 0..bytes.len() {
        assert!(KeyList::verify(&bytes[..len], FEED, &pinned).is_err());
    }
}

// RV-13, RV-41, RV-42
#[test]
fn every_bit_of_a_head() {
    let mut random = Random(1);
    let mut signer = Signer::new(START);
    let stranger = key(9);
    signer.revoke(&rows(&mut random), None);
    let head = signer.head_of(&signer.publisher, START);
    let bytes = head.sign(&[&signer.keys[0], &stranger]).unwrap();
    signer.put(FeedPath::Head, bytes.clone());
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    let is_stranger_first = stranger.public().id() < signer.keys[0].public().id();
    let start = bytes.len() - if is_stranger_first { 128 } else { 64 };
    for bit in 0..bytes.len() * 8 {
        let is_free = (start..start + 64).contains(&(bit / 8));
        client.events.clear();
        client.offer(&flipped(&bytes, bit), &mut |_: &Fetch| Response::NotFound);
        assert_eq!(client.refusals().is_empty(), is_free, "bit {bit}");
        assert_eq!(client.machine.position(), Some(signer.publisher.position()));
    }
}

// RV-30, RV-31, RV-44
#[test]
fn every_bit_of_a_delta() {
    let mut random = Random(2);
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    signer.revoke(&rows(&mut random), None);
    signer.publish_head(START + 1);
    let bytes = signer.steps[&(1, 1)].clone();
    for bit in 0..bytes.len() * 8 {
        client.poll(&mut |fetch| match fetch.path {
            FeedPath::Delta { .. } => Response::Body(flipped(&bytes, bit)),
            FeedPath::Snapshot { .. } => Response::NotFound,
            path => signer.get(path),
        });
        assert_eq!(client.machine.position().unwrap().sequence, 0, "bit {bit}");
        client.pass(Duration::from_millis(1));
    }
    client.sync(&signer);
    assert_eq!(client.machine.position().unwrap().sequence, 1);
}

// RV-32
#[test]
fn bits_of_a_merged_delta() {
    let mut random = Random(3);
    let mut signer = Signer::new(START);
    let mut client = Client::of(&signer, START);
    client.sync(&signer);
    // The snapshot must be the dearer way, or no delta is asked for.
    let many: Vec<_> = (0..2000).flat_map(|_| rows(&mut random)).collect();
    signer.revoke(&many, None);
    for _ in 2..=32 {
        signer.revoke(&rows(&mut random)[..1], None);
    }
    let first: Vec<_> = signer.files.keys().filter(|name| name.contains("delta16")).cloned().collect();
    assert_eq!(first, ["1/delta16/0", "1/delta16/1"]);
    signer.publish_base();
    signer.publish_head(START + 1);
    client.sync(&signer);
    for _ in 0..16 {
        signer.revoke(&rows(&mut random)[..1], None);
    }
    signer.publish_head(START + 2);
    let bytes = signer.files["1/delta16/2"].clone();
    for bit in (0..bytes.len() * 8).step_by(7) {
        client.poll(&mut |fetch| match fetch.path {
            FeedPath::Delta { .. } => Response::Body(flipped(&bytes, bit)),
            FeedPath::Snapshot { .. } => Response::NotFound,
            path => signer.get(path),
        });
        assert_eq!(client.machine.position().unwrap().sequence, 32, "bit {bit}");
        client.pass(Duration::from_millis(1));
    }
    client.sync(&signer);
    assert_eq!(client.machine.position().unwrap().sequence, 48);
}

// RV-21, RV-22, RV-23, RV-24
#[test]
fn every_bit_and_every_cut_of_a_snapshot() {
    let mut random = Random(4);
    let mut signer = Signer::new(START);
    let mut many = rows(&mut random);
    for _ in 0..40 {
        many.extend_from_slice(&rows(&mut random)[..1]);
    }
    signer.revoke(&many, None);
    let snapshot = signer.publisher.snapshot();
    let bytes = snapshot.to_bytes();
    assert_eq!(bytes.len() as u64, snapshot.length());
    let read = Snapshot::parse(bytes.clone()).unwrap();
    assert_eq!(
        (read.digest, read.chain, read.position),
        (snapshot.digest, snapshot.chain, snapshot.position)
    );
    assert_eq!(read.set.digest(), snapshot.set.digest());
    for bit in 0..bytes.len() * 8 {
        if let Ok(read) = Snapshot::parse(flipped(&bytes, bit)) {
            assert_ne!(read.digest, snapshot.digest, "bit {bit}");
        }
    }
    for len in 0..bytes.len() {
        assert!(Snapshot::parse(bytes[..len].to_vec()).is_err(), "{len}");
    }
    let mut long = bytes;
    long.push(0);
    assert!(Snapshot::parse(long).is_err());
}
