//! The audit chain: what happened, in an order and a number that nobody can quietly change.
//!
//! A line is one JSON object whose bytes are kept exactly as they were hashed:
//! `h[n] = SHA-256(h[n-1] ‖ line n)`, and `h[0] = SHA-256("tk-audit-v1" ‖ authority)`. The line
//! is written in the transaction of the change it describes. Every published head carries the
//! number of lines and [`digest`] of the last hash, so that cutting the chain off shows to
//! every client of the feed.
//!
//! What is durable before the answer: every operation that changes something, and every
//! refusal of an authenticated client. Remote verifies are summed up per client and lineage.
//! Strangers are only counted: they get no disk to fill. Names stand as keyed hashes, and a
//! token never does.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};
use tkcore::Timestamp;
use tkcore::protocol::{ClientKey, Code, TraceContext};

use crate::seal::Authority;
use crate::store::{Op, Order, Scan, Store, StoreError, Table};

/// Where a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Lines so far; the first one is number 1.
    pub lines: u64,
    /// The last line's hash.
    pub hash: [u8; 32],
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A client key.
    Client(ClientKey),
    /// The signer of its own accord, or a command that holds the store.
    Signer,
}

/// One event, before it has a number.
#[derive(Debug)]
pub(crate) struct Event {
    actor: Actor,
    what: &'static str,
    refused: Option<Code>,
    trace: Option<TraceContext>,
    fields: String,
}

impl Event {
    /// Something that was done.
    pub(crate) const fn new(actor: Actor, what: &'static str) -> Self {
        Self { actor, what, refused: None, trace: None, fields: String::new() }
    }

    /// The same event, refused.
    #[must_use]
    pub(crate) const fn refused(mut self, code: Code) -> Self {
        self.refused = Some(code);
        self
    }

    /// Whose trace it belongs to.
    #[must_use]
    pub(crate) const fn traced(mut self, trace: Option<TraceContext>) -> Self {
        self.trace = trace;
        self
    }

    /// Adds a field. `name` is a word of ours; the value is escaped.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push_str(",\"");
        self.fields.push_str(name);
        self.fields.push_str("\":\"");
        escape(&mut self.fields, &value.to_string());
        self.fields.push('"');
        self
    }

    /// Adds a field if there is a value.
    #[must_use]
    pub(crate) fn maybe(self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn line(&self, number: u64, at: Timestamp) -> String {
        let mut line = format!("{{\"n\":{number},\"at\":\"{at}\",\"op\":\"{}\",\"by\":\"", self.what);
        let _ = match self.actor {
            Actor::Client(key) => write!(line, "{key}"),
            Actor::Signer => write!(line, "signer"),
        };
        line.push('"');
        if let Some(code) = self.refused {
            let _ = write!(line, ",\"refused\":\"{:#06x}\",\"why\":\"{}\"", code.code(), code.text());
        }
        line.push_str(&self.fields);
        if let Some(TraceContext { trace, parent, flags }) = self.trace {
            // W3C Trace Context, section 3.2.
            let _ = write!(line, ",\"traceparent\":\"00-{}-{}-{flags:02x}\"", Hex(&trace), Hex(&parent));
        }
        line.push('}');
        line
    }
}

/// Bytes as lower-case hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl AuditHead {
    /// The start of a chain.
    #[must_use]
    pub(crate) fn genesis(authority: Authority) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tk-audit-v1");
        hash.update(authority.0);
        Self { lines: 0, hash: hash.finalize().into() }
    }

    /// The chain's end as the store has it.
    pub(crate) fn load(store: &dyn Store, authority: Authority) -> Result<Self, StoreError> {
        let last = Scan { table: Table::Audit, prefix: &[], after: None, order: Order::Backward, limit: 1 };
        match store.scan(last)?.first() {
            None => Ok(Self::genesis(authority)),
            Some((key, value)) => {
                let (lines, hash, _) = parse(key, value).ok_or_else(|| damaged(u64::MAX))?;
                Ok(Self { lines, hash })
            }
        }
    }

    /// The next line: what to write, and the chain's new end.
    #[must_use]
    pub(crate) fn append(&self, event: &Event, at: Timestamp) -> (Op, Self) {
        let lines = self.lines.saturating_add(1);
        let line = event.line(lines, at);
        let hash = link(&self.hash, line.as_bytes());
        let mut value = hash.to_vec();
        value.extend_from_slice(line.as_bytes());
        (Op::Create(Table::Audit, lines.to_be_bytes().to_vec(), value), Self { lines, hash })
    }
}

/// What a published head says of the chains: SHA-256 over a tag, the number of lines and the
/// last hash.
#[must_use]
pub(crate) fn digest(head: &AuditHead) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tk-audit-head-v1");
    hash.update(head.lines.to_be_bytes());
    hash.update(head.hash);
    hash.finalize().into()
}

/// Checks the whole chain and returns its end.
///
/// # Errors
/// [`StoreError::Damaged`] names the first line that is missing, changed or out of place.
pub(crate) fn verify(store: &dyn Store, authority: Authority) -> Result<AuditHead, StoreError> {
    let mut head = AuditHead::genesis(authority);
    loop {
        let after = head.lines.to_be_bytes();
        let after = (head.lines > 0).then_some(&after[..]);
        let rows = store.scan(Scan {
            table: Table::Audit,
            prefix: &[],
            after,
            order: Order::Forward,
            limit: 512,
        })?;
        if rows.is_empty() {
            return Ok(head);
        }
        for (key, value) in &rows {
            let expected = head.lines.saturating_add(1);
            let (number, hash, line) = parse(key, value).ok_or_else(|| damaged(expected))?;
            if number != expected || hash != link(&head.hash, line) {
                return Err(damaged(expected));
            }
            head = AuditHead { lines: number, hash };
        }
    }
}

/// Number, hash and line of a stored row.
pub(crate) fn parse<'a>(key: &[u8], value: &'a [u8]) -> Option<(u64, [u8; 32], &'a [u8])> {
    let number = u64::from_be_bytes(key.try_into().ok()?);
    let (hash, line) = value.split_first_chunk()?;
    Some((number, *hash, line))
}

fn link(before: &[u8; 32], line: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(line);
    hash.finalize().into()
}

fn damaged(line: u64) -> StoreError {
    StoreError::Damaged(format!("the audit chain breaks at line {line}"))
}

/// JSON's string escapes (RFC 8259, section 7).
fn escape(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                to.push('\\');
                to.push(c);
            }
            c if c.is_control() => {
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Sqlite};

    const AUTHORITY: Authority = Authority([7; 16]);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + millis).unwrap()
    }

    fn store_with(lines: u64) -> (testkit::TempDir, Sqlite, AuditHead) {
        let dir = testkit::TempDir::new();
        let mut store = Sqlite::create(dir.path()).unwrap();
        let mut head = AuditHead::genesis(AUTHORITY);
        store.begin().unwrap();
        for n in 0..lines {
            let event = Event::new(Actor::Signer, "mint").with("lineage", n);
            let (op, next) = head.append(&event, at(n));
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
            assert_eq!(AuditHead::load(&store, AUTHORITY).unwrap(), head);
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
        assert_ne!(digest(&cut), digest(&head));
        change(&mut store, Op::Delete(Table::Audit, 2u64.to_be_bytes().to_vec()));
        assert!(first_bad(&store).contains("line 2"));
    }

    #[test]
    fn a_chain_of_another_store_does_not_verify() {
        let (_dir, store, _) = store_with(1);
        assert!(verify(&store, Authority([8; 16])).is_err());
    }

    #[test]
    fn a_line_is_json_whatever_a_value_holds() {
        let event = Event::new(Actor::Client(ClientKey::from_bytes([0xab; 32])), "revoke")
            .with("reason", "a \"quoted\" \\ line\nbreak")
            .maybe("none", None::<u8>)
            .traced(Some(TraceContext { trace: [1; 16], parent: [2; 8], flags: 1 }))
            .refused(Code::Revoked);
        let line: serde_json::Value = serde_json::from_str(&event.line(7, at(1))).unwrap();
        assert_eq!(line["n"], 7);
        assert_eq!(line["reason"], "a \"quoted\" \\ line\nbreak");
        assert_eq!(line["by"], "ab".repeat(32));
        assert_eq!(line["refused"], "0x0106");
        assert_eq!(line["traceparent"], format!("00-{}-{}-01", "01".repeat(16), "02".repeat(8)));
        assert!(line.get("none").is_none());
    }
}
