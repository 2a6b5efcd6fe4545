//! Where rows stand in etcd, and the shapes of its JSON.
//!
//! Under the prefix: `m/TABLE/KEY` is mirrored, `r/TABLE/KEY` is not, `r/audit/SIGNER/NUMBER` is
//! one signer's chain. Below `m/`, keys that begin with `~` are of no table.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tkcore::FeedDigest;
use tkcore::protocol::AuditHead;

use super::base64;
use crate::store::{Order, Scan, Table};

/// The layout's number; not there: no store.
pub(super) const SCHEMA: &[u8] = b"~schema";
/// There while a migration writes.
pub(super) const MIGRATING: &[u8] = b"~migrating";
/// Changes with what every decision depends on.
pub(super) const GUARD: &[u8] = b"~guard";
/// Whose turn it is to publish, under that process's lease.
pub(super) const LEADER: &[u8] = b"~leader";
/// A row for each signer, by name.
pub(super) const SIGNERS: &[u8] = b"~signer/";

/// Longest name of a signer, and of a prefix: they are in every key.
const NAME_BYTES: usize = 64;

/// A store's place in etcd, and in whose name it is used.
#[derive(Clone)]
pub struct Space {
    /// What every key of the store begins with.
    pub(super) prefix: Vec<u8>,
    pub(super) signer: String,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "under {} as {}", String::from_utf8_lossy(&self.prefix), self.signer)
    }
}

impl Space {
    /// `None` when a name is empty, longer than 64 bytes, or has other characters than ASCII
    /// letters, digits, `-`, `_` and `.`.
    #[must_use]
    pub fn new(prefix: &str, signer: &str) -> Option<Self> {
        let good = |name: &str| {
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            letters && !name.is_empty() && name.len() <= NAME_BYTES
        };
        (good(prefix) && good(signer))
            .then(|| Self { prefix: format!("{prefix}/").into_bytes(), signer: signer.to_owned() })
    }

    pub(super) fn is_mirrored(table: Table) -> bool {
        match table {
            Table::Meta | Table::Keys | Table::PublicationKeys | Table::KeyLists | Table::Clients => true,
            Table::Revocations | Table::Deltas | Table::Feed => true,
            Table::Tokens | Table::Seen | Table::Index | Table::Idempotency | Table::Audit => false,
        }
    }

    /// Below `m/`.
    pub(super) fn mirrored(table: Table, key: &[u8]) -> Vec<u8> {
        [table.name().as_bytes(), b"/", key].concat()
    }

    /// The row that a key below `m/` is; `None` for those of no table.
    pub(super) fn row(key: &[u8]) -> Option<(Table, &[u8])> {
        Table::ALL.into_iter().filter(|table| Self::is_mirrored(*table)).find_map(|table| {
            let rest = key.strip_prefix(table.name().as_bytes())?.strip_prefix(b"/")?;
            Some((table, rest))
        })
    }

    /// The whole key of a row.
    pub(super) fn path(&self, table: Table, key: &[u8]) -> Vec<u8> {
        if Self::is_mirrored(table) {
            return self.whole(&Self::mirrored(table, key));
        }
        let signer = format!("{}/", self.signer);
        let signer = if table == Table::Audit { signer.as_bytes() } else { b"" };
        [&self.prefix[..], b"r/", table.name().as_bytes(), b"/", signer, key].concat()
    }

    /// The whole key of one below `m/`.
    pub(super) fn whole(&self, mirrored: &[u8]) -> Vec<u8> {
        [&self.prefix[..], b"m/", mirrored].concat()
    }

    /// Where this signer's own row is, below `m/`.
    pub(super) fn fence(&self) -> Vec<u8> {
        [SIGNERS, self.signer.as_bytes()].concat()
    }

    /// The half-open part of a table that a scan looks at; no upper end: to the table's own.
    pub(super) fn window(scan: &Scan<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
        let high =
            if scan.prefix.iter().all(|byte| *byte == 0xff) { None } else { Some(successor(scan.prefix)) };
        match (scan.order, scan.after) {
            (Order::Forward, Some(after)) => ([after, &[0]].concat().max(scan.prefix.to_vec()), high),
            (Order::Backward, Some(after)) => (
                scan.prefix.to_vec(),
                Some(high.map_or_else(|| after.to_vec(), |high| high.min(after.to_vec()))),
            ),
            (_, None) => (scan.prefix.to_vec(), high),
        }
    }

    /// A comparison of the revision of a key below `m/`; 0: it is not there.
    pub(super) fn compare(&self, mirrored: &[u8], revision: i64) -> Value {
        compare(&self.whole(mirrored), revision)
    }

    /// A write of a key below `m/`.
    pub(super) fn put(&self, mirrored: &[u8], value: &[u8]) -> Value {
        put(&self.whole(mirrored), value)
    }
}

pub(super) fn compare(key: &[u8], revision: i64) -> Value {
    json!({
        "key": base64::encode(key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": revision.to_string(),
    })
}

pub(super) fn put(key: &[u8], value: &[u8]) -> Value {
    json!({"request_put": {"key": base64::encode(key), "value": base64::encode(value)}})
}

pub(super) fn delete(key: &[u8]) -> Value {
    json!({"request_delete_range": {"key": base64::encode(key)}})
}

/// What asks for the keys of a half-open range, and what else is asked of them.
pub(super) fn range<const N: usize>(from: &[u8], upto: &[u8], more: [(&str, Value); N]) -> Value {
    let ends = [("key", from), ("range_end", upto)].map(|(name, key)| (name, base64::encode(key).into()));
    ends.into_iter().chain(more).collect()
}

/// The smallest key after all that start with `prefix`, which is not of 0xff alone.
pub(super) fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if let Some(more) = last.checked_add(1) {
            next.push(more);
            break;
        }
    }
    next
}

/// A part of an answer, by its JSON pointer; null where it is not there.
pub(super) fn at<'a>(answer: &'a Value, pointer: &str) -> &'a Value {
    answer.pointer(pointer).unwrap_or(&Value::Null)
}

/// A 64-bit number, which the gateway writes as a text and leaves out when it is 0.
pub(super) fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).or(value.as_i64()).unwrap_or(0)
}

/// Bytes, which the gateway leaves out when there are none; `None` when it is no base64.
pub(super) fn field(value: &Value) -> Option<Vec<u8>> {
    base64::decode(value.as_str().unwrap_or(""))
}

/// What a head says of the chains of signers that have written any: all their lines, and SHA-256 over a tag and,
/// by name, the name's length, the name, the number of lines and the last hash of each.
pub(super) fn audit_digest(ends: &BTreeMap<&[u8], AuditHead>) -> (u64, FeedDigest) {
    let mut hash = Sha256::new().chain_update(b"tk-audit-cluster-v1");
    let mut lines = 0u64;
    for (name, end) in ends {
        lines = lines.saturating_add(end.lines);
        hash.update([u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        hash.update(name);
        hash.update(end.lines.to_be_bytes());
        hash.update(end.hash);
    }
    (lines, FeedDigest::from_bytes(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back_to_their_rows() {
        let space = Space::new("here", "one").unwrap();
        for table in Table::ALL {
            let path = space.path(table, b"k/\xff");
            assert!(path.starts_with(b"here/"));
            assert_eq!(path.starts_with(b"here/m/"), Space::is_mirrored(table));
            if let Some(mirrored) = path.strip_prefix(b"here/m/") {
                assert_eq!(Space::row(mirrored), Some((table, &b"k/\xff"[..])));
            }
        }
        assert_eq!(Space::row(LEADER), None);
        assert_ne!(
            space.path(Table::Audit, b"1"),
            Space::new("here", "two").unwrap().path(Table::Audit, b"1")
        );
    }

    #[test]
    fn names_are_plain() {
        assert!(Space::new(&"p".repeat(64), "a.b-c_1").is_some());
        for bad in ["", "a/b", "a b", "ä", "a\n", &"p".repeat(65)] {
            assert!(Space::new("p", bad).is_none() && Space::new(bad, "s").is_none(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(successor(b"ab/"), b"ab0");
        assert_eq!(successor(&[1, 0xff]), [2]);
    }
}
