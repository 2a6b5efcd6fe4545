//! A decision sees one moment, although only some tables are mirrored and the rest is read later.

use testkit::etcd::Etcd as Members;
use tksign::store::etcd::{Cluster, Etcd, Space};
use tksign::store::{Change, Op, Store as _, StoreError, Table};

#[test]
fn what_is_read_of_a_later_moment_is_decided_again() {
    let Some(members) = Members::start("what_is_read_of_a_later_moment_is_decided_again", 1) else { return };
    let cluster = Cluster { urls: members.urls(), login: None, tls: None };
    let space = |signer: &str| Space::new("moment", signer).unwrap();
    let mut one = Etcd::create(&cluster, space("one")).unwrap();
    let mut two = Etcd::open(&cluster, space("two")).unwrap();
    let row = |table| Op::Create(table, b"row".to_vec(), b"value".to_vec());
    let change = |ops| Change { expects: Vec::new(), ops };
    one.begin().unwrap();
    // As when a revocation and the answer to its request are written at another signer.
    two.begin().unwrap();
    two.apply(&change(vec![row(Table::Revocations), row(Table::Idempotency)])).unwrap();
    two.commit().unwrap();
    assert!(one.get(Table::Idempotency, b"row").unwrap().is_some());
    assert!(one.get(Table::Revocations, b"row").unwrap().is_none(), "the mirror is at an earlier moment");
    assert!(matches!(one.commit(), Err(StoreError::Raced)), "an answer must not be given from both");
    one.begin().unwrap();
    for table in [Table::Idempotency, Table::Revocations] {
        assert!(one.get(table, b"row").unwrap().is_some());
    }
    one.commit().unwrap();
}

/// A new secret is written only while nobody else writes.
#[test]
fn what_another_wrote_meanwhile_is_not_left_under_the_old_secret() {
    let Some(members) = Members::start("what_another_wrote_meanwhile", 1) else { return };
    let cluster = Cluster { urls: members.urls(), login: None, tls: None };
    let space = |signer: &str| Space::new("secret", signer).unwrap();
    let mut one = Etcd::create(&cluster, space("one")).unwrap();
    let mut two = Etcd::open(&cluster, space("two")).unwrap();
    let sealed_anew =
        Change { expects: Vec::new(), ops: vec![Op::Put(Table::Meta, b"check".to_vec(), b"value".to_vec())] };
    let other = |name: &[u8]| Change {
        expects: Vec::new(),
        ops: vec![Op::Create(Table::Tokens, name.to_vec(), b"value".to_vec())],
    };
    one.begin().unwrap();
    one.apply(&sealed_anew).unwrap();
    two.begin().unwrap();
    two.apply(&other(b"a")).unwrap();
    two.commit().unwrap();
    assert!(matches!(one.commit(), Err(StoreError::Raced)));
    one.begin().unwrap();
    one.apply(&sealed_anew).unwrap();
    one.commit().unwrap();
    // Nor does what was decided before come after it.
    one.begin().unwrap();
    one.apply(&other(b"b")).unwrap();
    two.begin().unwrap();
    two.apply(&sealed_anew).unwrap();
    two.commit().unwrap();
    assert!(matches!(one.commit(), Err(StoreError::Raced)));
}
