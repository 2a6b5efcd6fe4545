//! The audit chain: what happened, in an order and a number that nobody can quietly change.
//!
//! Lines and hashes are the protocol's ([`AuditHead`], [`AuditEvent`]). A line is written in the
//! transaction of the change it describes. Every published head carries the number of lines and
//! [`AuditHead::digest`], so that cutting the chain off shows to every client of the feed.
//!
//! What is durable before the answer: every operation that changes something, and every
//! refusal of an authenticated client. Remote verifies are summed up per client and lineage.
//! Strangers are only counted: they get no disk to fill. Names stand as keyed hashes, and a
//! token never does.
//!
//! Old lines can be pruned. The last pruned one stays as its number and hash, without bytes: what
//! the first kept line follows. The pruning is a line itself, which says what the first kept
//! line is, and which is never pruned before a later one: so the chain tells a pruned beginning
//! from one that somebody has cut off (`fence::verify_chain`).

use tkcore::Timestamp;
use tkcore::protocol::{AuditEvent, AuditHead, AuditPrune, AuditPruned, Code};

use crate::codec::count;
use crate::seal::Authority;
use crate::service::{Ask, Decided};
use crate::store::{Op, Order, Scan, Store, StoreError, Table};
use crate::writer::{Plan, View};

/// The chain's end as the store has it.
pub(crate) fn load(store: &dyn Store, authority: Authority) -> Result<AuditHead, StoreError> {
    match store.end(Table::Audit, Order::Backward)? {
        None => Ok(AuditHead::genesis(&authority.0)),
        Some((key, value)) => {
            let (lines, hash, _) = parse(&key, &value).ok_or_else(|| damaged(u64::MAX))?;
            Ok(AuditHead { lines, hash })
        }
    }
}

/// The next line: what to write, and the chain's new end.
pub(crate) fn append(head: &AuditHead, event: &AuditEvent, at: Timestamp) -> (Op, AuditHead) {
    let line = event.line(head.lines.saturating_add(1), at);
    let next = head.then(line.as_bytes());
    let value = [&next.hash[..], line.as_bytes()].concat();
    (Op::Create(Table::Audit, next.lines.to_be_bytes().to_vec(), value), next)
}

/// What the first line that is kept follows: the chain's beginning, or the last pruned line.
pub(crate) fn start(store: &dyn Store, authority: Authority) -> Result<AuditHead, StoreError> {
    let row = store.end(Table::Audit, Order::Forward)?;
    Ok(match row.as_ref().and_then(|(key, value)| parse(key, value)) {
        Some((lines, hash, [])) => AuditHead { lines, hash },
        Some(_) | None => AuditHead::genesis(&authority.0),
    })
}

/// Lines removed at once, so that no other change waits long; the caller asks again.
const PRUNED: usize = 4096;

/// Removes lines before one, and says so in a line.
pub(crate) fn prune(view: &View<'_>, ask: &Ask, asked: AuditPrune) -> Decided<AuditPrune> {
    if asked.before > view.memory.audit.lines {
        return Err(Code::BadParameters.detail("the last line is kept").into());
    }
    let AuditHead { lines: start, .. } = start(view.store, view.memory.authority)?;
    let after = start.to_be_bytes();
    let scan =
        Scan { table: Table::Audit, prefix: &[], after: Some(&after), order: Order::Forward, limit: PRUNED };
    let rows = view.store.scan(scan)?;
    let gone =
        rows.iter().map_while(|(key, value)| parse(key, value).filter(|(line, _, _)| *line < asked.before));
    let gone: Vec<_> = gone.map(|(line, hash, _)| (line, hash)).collect();
    let Some((last, hash)) = gone.last() else {
        return Ok((Plan::default(), AuditPruned { removed: 0, first: start.saturating_add(1) }));
    };
    let row = |line: u64| line.to_be_bytes().to_vec();
    let mut ops = vec![Op::Delete(Table::Audit, row(start))];
    ops.extend(
        gone.iter().filter(|(line, _)| line != last).map(|(line, _)| Op::Delete(Table::Audit, row(*line))),
    );
    ops.push(Op::Put(Table::Audit, row(*last), hash.to_vec()));
    let first = last.saturating_add(1);
    let event = ask.event().with("first", first);
    let answer = AuditPruned { removed: count(gone.len()), first };
    Ok((Plan { ops, events: vec![event], ..Plan::default() }, answer))
}

/// Number, hash and line of a stored row.
pub(crate) fn parse<'a>(key: &[u8], value: &'a [u8]) -> Option<(u64, [u8; 32], &'a [u8])> {
    let number = u64::from_be_bytes(key.try_into().ok()?);
    let (hash, line) = value.split_first_chunk()?;
    Some((number, *hash, line))
}

pub(crate) fn damaged(line: u64) -> StoreError {
    StoreError::Damaged(format!("the audit chain breaks at line {line}"))
}

#[cfg(test)]
mod tests {
    use tkcore::protocol::AuditActor;

    use super::*;
    use crate::fence::verify_chain as verify;
    use crate::store::{Change, Sqlite};

    const AUTHORITY: Authority = Authority([7; 16]);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + millis).unwrap()
    }

    fn store_with(lines: u64) -> (testkit::TempDir, Sqlite, AuditHead) {
        let dir = testkit::TempDir::new();
        let mut store = Sqlite::create(dir.path()).unwrap();
        let mut head = AuditHead::genesis(&AUTHORITY.0);
        store.begin().unwrap();
        for n in 0..lines {
            let event = AuditEvent::new(AuditActor::Signer, "mint").with("lineage", n);
            let (op, next) = append(&head, &event, at(n));
            store.apply(&Change { ops: vec![op], ..Change::default() }).unwrap();
            head = next;
        }
        store.commit().unwrap();
        (dir, store, head)
    }

    fn first_bad(store: &dyn Store) -> String {
        verify(store, AUTHORITY).unwrap_err().to_string()
    }

    fn change(store: &mut Sqlite, op: Op) {
        store.begin().unwrap();
        store.apply(&Change { ops: vec![op], ..Change::default() }).unwrap();
        store.commit().unwrap();
    }

    #[test]
    fn a_whole_chain_verifies_to_its_head() {
        for lines in [0, 1, 3, 600] {
            let (_dir, store, head) = store_with(lines);
            assert_eq!(verify(&store, AUTHORITY).unwrap(), head);
            assert_eq!(load(&store, AUTHORITY).unwrap(), head);
            assert_eq!(head.lines, lines);
        }
    }

    #[test]
    fn a_changed_line_is_named() {
        let (_dir, mut store, _) = store_with(5);
        let key = 3u64.to_be_bytes().to_vec();
        let mut value = store.get(Table::Audit, &key).unwrap().unwrap();
        let last = value.len() - 3;
        value[last] ^= 1;
        change(&mut store, Op::Put(Table::Audit, key, value));
        assert!(first_bad(&store).contains("line 3"));
    }

    #[test]
    fn a_removed_line_is_named_and_a_cut_changes_the_digest() {
        let (_dir, mut store, head) = store_with(5);
        change(&mut store, Op::Delete(Table::Audit, 5u64.to_be_bytes().to_vec()));
        let cut = verify(&store, AUTHORITY).unwrap();
        assert_ne!(cut.digest(), head.digest());
        change(&mut store, Op::Delete(Table::Audit, 2u64.to_be_bytes().to_vec()));
        assert!(first_bad(&store).contains("line 2"));
    }

    #[test]
    fn a_chain_of_another_store_does_not_verify() {
        let (_dir, store, _) = store_with(1);
        assert!(verify(&store, Authority([8; 16])).is_err());
    }
}
