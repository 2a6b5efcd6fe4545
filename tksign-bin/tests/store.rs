//! What every store must do, and what the SQLite one does besides.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use testkit::TempDir;
use tksign::store::{Change, Expect, Op, Order, Refusal, Row, Scan, Sqlite, Store, StoreError, Table};

/// The conformance suite: `make` gives an empty store, `reopen` the same one after a restart.
fn conforms(make: impl Fn() -> Box<dyn Store>, reopen: impl Fn(Box<dyn Store>) -> Box<dyn Store>) {
    a_change_is_whole_or_not_at_all(&mut *make());
    create_never_overwrites(&mut *make());
    expectations_are_compared(&mut *make());
    an_open_group_sees_itself(&mut *make());
    tables_are_apart(&mut *make());
    scans_agree_with_a_sorted_map(&mut *make());
    pages_of_a_large_table(&mut *make());
    a_change_of_thousands_of_rows(&mut *make());
    let mut store = make();
    committed_rows_survive_and_open_groups_do_not(&mut *store);
    let store = reopen(store);
    assert_eq!(store.get(Table::Keys, b"kept").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.get(Table::Keys, b"open").unwrap(), None);
    store.check().unwrap();
}

fn put(key: &[u8], value: &[u8]) -> Op {
    Op::Put(Table::Keys, key.to_vec(), value.to_vec())
}

fn create(key: &[u8], value: &[u8]) -> Op {
    Op::Create(Table::Keys, key.to_vec(), value.to_vec())
}

fn change(ops: Vec<Op>) -> Change {
    Change { expects: Vec::new(), ops }
}

fn value(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    store.get(Table::Keys, key).unwrap()
}

fn a_change_is_whole_or_not_at_all(store: &mut dyn Store) {
    store.begin().unwrap();
    store.apply(&change(vec![create(b"a", b"1")])).unwrap();
    let torn = change(vec![put(b"b", b"1"), create(b"a", b"2"), put(b"c", b"1")]);
    assert!(matches!(store.apply(&torn), Err(Refusal::Conflict)));
    store.apply(&change(vec![put(b"d", b"1")])).unwrap();
    store.commit().unwrap();
    assert_eq!(value(store, b"a").as_deref(), Some(&b"1"[..]));
    assert_eq!((value(store, b"b"), value(store, b"c")), (None, None));
    assert!(value(store, b"d").is_some(), "a conflict must not end the group");
}

fn create_never_overwrites(store: &mut dyn Store) {
    store.begin().unwrap();
    store.apply(&change(vec![create(b"a", b"1")])).unwrap();
    store.commit().unwrap();
    store.begin().unwrap();
    assert!(matches!(store.apply(&change(vec![create(b"a", b"2")])), Err(Refusal::Conflict)));
    store.apply(&change(vec![put(b"a", b"3"), Op::Delete(Table::Keys, b"none".to_vec())])).unwrap();
    store.apply(&change(vec![Op::Delete(Table::Keys, b"a".to_vec()), create(b"a", b"4")])).unwrap();
    store.commit().unwrap();
    assert_eq!(value(store, b"a").as_deref(), Some(&b"4"[..]));
}

fn expectations_are_compared(store: &mut dyn Store) {
    store.begin().unwrap();
    store.apply(&change(vec![create(b"head", b"1")])).unwrap();
    let expect = |value: Option<&[u8]>| {
        vec![Expect { table: Table::Keys, key: b"head".to_vec(), value: value.map(<[u8]>::to_vec) }]
    };
    for wrong in [None, Some(&b""[..]), Some(b"2"), Some(b"11")] {
        let change = Change { expects: expect(wrong), ops: vec![put(b"head", b"9")] };
        assert!(matches!(store.apply(&change), Err(Refusal::Conflict)), "{wrong:?}");
    }
    store.apply(&Change { expects: expect(Some(b"1")), ops: vec![put(b"head", b"2")] }).unwrap();
    assert!(store.apply(&Change { expects: expect(Some(b"1")), ops: vec![put(b"head", b"3")] }).is_err());
    store.commit().unwrap();
    assert_eq!(value(store, b"head").as_deref(), Some(&b"2"[..]));
}

fn an_open_group_sees_itself(store: &mut dyn Store) {
    store.begin().unwrap();
    store.apply(&change(vec![create(b"a1", b"1"), create(b"a2", b"2")])).unwrap();
    assert!(value(store, b"a1").is_some());
    assert_eq!(store.count(Table::Keys, b"a").unwrap(), 2);
    let page = Scan { table: Table::Keys, prefix: b"a", after: None, order: Order::Forward, limit: 9 };
    assert_eq!(store.scan(page).unwrap().len(), 2);
    store.begin().unwrap();
    assert_eq!(value(store, b"a1"), None, "a new group gives the open one up");
    store.commit().unwrap();
}

fn tables_are_apart(store: &mut dyn Store) {
    store.begin().unwrap();
    let ops = Table::ALL.map(|table| Op::Create(table, b"k".to_vec(), table.name().into())).to_vec();
    store.apply(&change(ops)).unwrap();
    store.commit().unwrap();
    for table in Table::ALL {
        assert_eq!(store.get(table, b"k").unwrap().as_deref(), Some(table.name().as_bytes()));
        assert_eq!(store.count(table, b"").unwrap(), 1);
    }
}

fn scans_agree_with_a_sorted_map(store: &mut dyn Store) {
    // A cluster mirrors one of these tables and asks for the other.
    for table in [Table::Keys, Table::Tokens] {
        scans_of(store, table);
    }
}

fn scans_of(store: &mut dyn Store, table: Table) {
    let mut model = BTreeMap::new();
    let alphabet = [0u8, 1, 0x7f, 0x80, 0xfe, 0xff];
    for a in alphabet {
        for b in alphabet {
            model.insert(vec![a, b], vec![b, a]);
        }
        model.insert(vec![a], vec![]);
    }
    store.begin().unwrap();
    let ops = model.iter().map(|(key, value)| Op::Create(table, key.clone(), value.clone())).collect();
    store.apply(&change(ops)).unwrap();
    scans_are(store, table, &model);
    store.commit().unwrap();
    scans_are(store, table, &model);
    // Half of it in an open group: written, changed and removed.
    store.begin().unwrap();
    let ops = alphabet.iter().flat_map(|a| {
        model.insert(vec![*a, 3], vec![9]);
        model.insert(vec![*a, 1], vec![8]);
        model.remove(&[*a, 0x80][..]);
        [
            Op::Put(table, vec![*a, 3], vec![9]),
            Op::Put(table, vec![*a, 1], vec![8]),
            Op::Delete(table, vec![*a, 0x80]),
        ]
    });
    store.apply(&change(ops.collect())).unwrap();
    scans_are(store, table, &model);
    store.commit().unwrap();
    scans_are(store, table, &model);
}

fn scans_are(store: &dyn Store, table: Table, model: &BTreeMap<Vec<u8>, Vec<u8>>) {
    for prefix in [&[][..], &[0], &[0x80], &[0xff], &[0xff, 0xff], &[3]] {
        let all: Vec<Row> = model
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(store.count(table, prefix).unwrap(), all.len() as u64);
        for order in [Order::Forward, Order::Backward] {
            let mut expected = all.clone();
            if order == Order::Backward {
                expected.reverse();
            }
            let mut got: Vec<Row> = Vec::new();
            loop {
                let after = got.last().map(|(key, _)| key.clone());
                let scan = Scan { table, prefix, after: after.as_deref(), order, limit: 4 };
                let page = store.scan(scan).unwrap();
                assert!(page.len() <= 4);
                if page.is_empty() {
                    break;
                }
                got.extend(page);
            }
            assert_eq!(got, expected, "{prefix:?} {order:?}");
        }
    }
}

fn pages_of_a_large_table(store: &mut dyn Store) {
    for table in [Table::Revocations, Table::Index] {
        for part in 0..5u32 {
            store.begin().unwrap();
            let rows = part * 1000..(part + 1) * 1000;
            let ops = rows.map(|n| Op::Put(table, n.to_be_bytes().to_vec(), vec![7; 40]));
            store.apply(&change(ops.collect())).unwrap();
            store.commit().unwrap();
        }
        assert_eq!(store.count(table, b"").unwrap(), 5000);
        let all = Scan { table, prefix: b"", after: None, order: Order::Forward, limit: usize::MAX };
        let rows = store.scan(all).unwrap();
        assert_eq!(rows.len(), 5000);
        assert!(
            rows.iter()
                .map(|(key, _)| key)
                .eq((0..5000u32).map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>().iter())
        );
    }
}

/// As the revocation of a branch with many service tokens: more than one transaction of a cluster
/// compares or holds.
fn a_change_of_thousands_of_rows(store: &mut dyn Store) {
    store.begin().unwrap();
    let row = |n: u32| Op::Create(Table::Revocations, n.to_be_bytes().to_vec(), vec![7; 40]);
    store.apply(&change((0..4096).map(row).chain([create(b"a", b"1")]).collect())).unwrap();
    assert_eq!(store.count(Table::Revocations, b"").unwrap(), 4096);
    store.commit().unwrap();
    assert_eq!(store.count(Table::Revocations, b"").unwrap(), 4096);
    assert_eq!(value(store, b"a").as_deref(), Some(&b"1"[..]));
    store.begin().unwrap();
    assert!(matches!(store.apply(&change(vec![row(4000)])), Err(Refusal::Conflict)));
    store.commit().unwrap();
}

fn committed_rows_survive_and_open_groups_do_not(store: &mut dyn Store) {
    store.begin().unwrap();
    store.apply(&change(vec![create(b"kept", b"1")])).unwrap();
    store.commit().unwrap();
    store.begin().unwrap();
    store.apply(&change(vec![create(b"open", b"1")])).unwrap();
}

/// Tries again while it is held: a test beside this one that starts a process hands it a copy of
/// every open file, the lock included, for the moment between fork and exec.
fn open(folder: &std::path::Path) -> Result<Sqlite, StoreError> {
    loop {
        match Sqlite::open(folder) {
            Err(StoreError::Held(_)) => std::thread::yield_now(),
            other => return other,
        }
    }
}

#[test]
fn sqlite_conforms() {
    let dirs = std::cell::RefCell::new(Vec::new());
    conforms(
        || {
            let dir = TempDir::new();
            let store = Box::new(Sqlite::create(dir.path()).unwrap());
            dirs.borrow_mut().push(dir);
            store
        },
        |store| {
            drop(store);
            Box::new(open(dirs.borrow().last().unwrap().path()).unwrap())
        },
    );
}

#[test]
fn only_one_process_may_hold_it() {
    let dir = TempDir::new();
    let store = Sqlite::create(dir.path()).unwrap();
    assert!(matches!(Sqlite::open(dir.path()), Err(StoreError::Held(_))));
    drop(store);
    open(dir.path()).unwrap();
}

#[test]
fn init_never_touches_an_existing_store() {
    let dir = TempDir::new();
    drop(Sqlite::create(dir.path()).unwrap());
    assert!(matches!(Sqlite::create(dir.path()), Err(StoreError::Exists(_))));
    let empty = TempDir::new();
    assert!(matches!(Sqlite::open(empty.path()), Err(StoreError::Missing(_))));
}

fn raw(dir: &TempDir, sql: &str) {
    rusqlite::Connection::open(dir.join("tksign.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = TempDir::new();
    drop(Sqlite::create(dir.path()).unwrap());
    raw(&dir, "PRAGMA user_version = 2");
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer(2, 1)), "{error}");
    assert!(error.to_string().contains("newer tksign"));
    raw(&dir, "PRAGMA user_version = 1");
    open(dir.path()).unwrap();
}

#[test]
fn another_programs_database_is_refused() {
    let dir = TempDir::new();
    raw(&dir, "CREATE TABLE theirs (x)");
    assert!(matches!(open(dir.path()), Err(StoreError::Foreign(_))));
    fs::write(dir.join("tksign.db"), b"this is no database at all, whatever its name may say").unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Foreign(_))));
}

#[test]
fn a_damaged_table_is_found_at_the_start() {
    let dir = TempDir::new();
    let mut store = Sqlite::create(dir.path()).unwrap();
    store.begin().unwrap();
    for n in 0..2000u32 {
        let op = Op::Create(Table::Revocations, n.to_be_bytes().to_vec(), vec![7; 40]);
        store.apply(&change(vec![op])).unwrap();
    }
    store.commit().unwrap();
    drop(store);
    raw(&dir, "PRAGMA wal_checkpoint(TRUNCATE)");
    let page: u64 = rusqlite::Connection::open(dir.join("tksign.db"))
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'revocations'", [], |row| row.get(0))
        .unwrap();
    let mut bytes = fs::read(dir.join("tksign.db")).unwrap();
    let start = (page as usize - 1) * 4096;
    bytes[start..start + 200].fill(0xee);
    fs::write(dir.join("tksign.db"), bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[test]
fn the_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new();
    let folder = dir.join("new");
    let mut store = Sqlite::create(&folder).unwrap();
    store.begin().unwrap();
    store.apply(&change(vec![create(b"a", b"1")])).unwrap();
    store.commit().unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_a_clear_error() {
    let dir = TempDir::new();
    fs::write(dir.join("file"), b"").unwrap();
    let error = Sqlite::create(&dir.join("file")).unwrap_err();
    assert!(matches!(error, StoreError::Io(..)), "{error}");
}

#[cfg(feature = "etcd")]
mod cluster {
    use tksign::store::etcd::{Cluster, Etcd, Space};

    use super::*;

    fn cluster(etcd: &testkit::etcd::Etcd) -> Cluster {
        Cluster { urls: etcd.urls(), login: None, tls: None }
    }

    fn space(name: &str, signer: &str) -> Space {
        Space::new(name, signer).unwrap()
    }

    /// A store that has somebody who publishes.
    fn publishing(mut store: Etcd) -> Box<dyn Store> {
        store.on_news(Box::new(|| ()));
        Box::new(store)
    }

    #[test]
    fn etcd_conforms() {
        let Some(etcd) = testkit::etcd::Etcd::start("etcd_conforms", 1) else { return };
        let made = std::cell::Cell::new(0);
        let place = |n: u32| space(&format!("store-{n}"), "one");
        conforms(
            || {
                made.set(made.get() + 1);
                publishing(Etcd::create(&cluster(&etcd), place(made.get())).unwrap())
            },
            |store| {
                drop(store);
                publishing(Etcd::open(&cluster(&etcd), place(made.get())).unwrap())
            },
        );
        let twice = Etcd::create(&cluster(&etcd), place(1)).unwrap_err();
        assert!(matches!(twice, StoreError::Exists(_)), "{twice}");
        let none = Etcd::open(&cluster(&etcd), place(9999)).unwrap_err();
        assert!(matches!(none, StoreError::Missing(_)), "{none}");
    }

    /// Two signers' stores: what one commits the other sees in its next group, as news and as
    /// rows; of two that create one row one is first and the other is told so; only one publishes.
    #[test]
    fn two_share_one_history() {
        let Some(etcd) = testkit::etcd::Etcd::start("two_share_one_history", 1) else { return };
        let mut one = Etcd::create(&cluster(&etcd), space("both", "one")).unwrap();
        let mut two = Etcd::open(&cluster(&etcd), space("both", "two")).unwrap();
        one.on_news(Box::new(|| ()));
        two.on_news(Box::new(|| ()));
        let revocation = |n: u8| Op::Create(Table::Revocations, vec![n], vec![n]);
        one.begin().unwrap();
        one.apply(&change(vec![revocation(1)])).unwrap();
        one.commit().unwrap();
        two.begin().unwrap();
        assert_eq!(two.get(Table::Revocations, &[1]).unwrap().as_deref(), Some(&[1][..]));
        assert!(two.news().contains(&Op::Put(Table::Revocations, vec![1], vec![1])));
        assert!(matches!(two.apply(&change(vec![revocation(1)])), Err(Refusal::Conflict)));
        // Both decide on the same moment; the second one to commit has lost.
        one.begin().unwrap();
        one.apply(&change(vec![revocation(2)])).unwrap();
        two.apply(&change(vec![revocation(2)])).unwrap();
        two.commit().unwrap();
        assert!(matches!(one.commit(), Err(StoreError::Raced)));
        // Whoever decides by keys and clients does not do so beside a change of them.
        one.begin().unwrap();
        two.begin().unwrap();
        one.apply(&change(vec![create(b"key", b"1")])).unwrap();
        one.commit().unwrap();
        two.apply(&change(vec![revocation(3)])).unwrap();
        assert!(matches!(two.commit(), Err(StoreError::Raced)));
        // The feed's rows are the publisher's alone.
        let head = |value: u8| change(vec![Op::Put(Table::Feed, b"head".to_vec(), vec![value])]);
        one.begin().unwrap();
        two.begin().unwrap();
        assert!(one.term().is_some() && two.term().is_none());
        assert!(matches!(two.apply(&head(2)), Err(Refusal::Conflict)));
        one.apply(&head(1)).unwrap();
        one.commit().unwrap();
        // A second process of one name takes over; the first one's audit chain is closed to it.
        let mut again = Etcd::open(&cluster(&etcd), space("both", "two")).unwrap();
        again.on_news(Box::new(|| ()));
        two.apply(&change(vec![revocation(4)])).unwrap();
        assert!(matches!(two.commit(), Err(StoreError::Raced)));
        drop(two);
        again.begin().unwrap();
        again.apply(&change(vec![revocation(4)])).unwrap();
        again.commit().unwrap();
        drop(one);
        while again.term().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(10));
            again.begin().unwrap();
        }
        again.apply(&head(3)).unwrap();
        again.commit().unwrap();
    }
}
