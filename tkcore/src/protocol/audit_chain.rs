//! The audit chain (PR-45, PR-97): a line's canonical bytes, the hash that each adds, and what a
//! published head says of the whole. Whoever holds an export checks it with this alone.
//!
//! A line is one JSON object whose bytes are kept exactly as they were hashed:
//! `h[n] = SHA-256(h[n-1] ‖ line n)`, and `h[0] = SHA-256("tk-audit-v1" ‖ authority)`.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};

use super::call::TraceContext;
use super::client::ClientKey;
use super::error::Code;
use crate::ids::FeedDigest;
use crate::time::Timestamp;

/// Where a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Lines so far; the first one is number 1.
    pub lines: u64,
    /// The last line's hash.
    pub hash: [u8; 32],
}

impl AuditHead {
    /// The start of the chain of one store, which its 16 bytes of authority name.
    #[must_use]
    pub fn genesis(authority: &[u8; 16]) -> Self {
        Self { lines: 0, hash: hash(&[b"tk-audit-v1", authority]) }
    }

    /// The chain's end after one more line of these bytes.
    #[must_use]
    pub fn then(&self, line: &[u8]) -> Self {
        Self { lines: self.lines.saturating_add(1), hash: hash(&[&self.hash, line]) }
    }

    /// What a published head says of the chain: SHA-256 over a tag, the number of lines and the
    /// last hash.
    #[must_use]
    pub fn digest(&self) -> FeedDigest {
        FeedDigest::from_bytes(hash(&[b"tk-audit-head-v1", &self.lines.to_be_bytes(), &self.hash]))
    }
}

/// Checks a chain line by line, from its start on.
#[derive(Debug, Clone, Copy)]
pub struct AuditChain {
    start: AuditHead,
    end: AuditHead,
    /// The last line that the last pruning in the chain says it removed.
    pruned: u64,
}

/// The first line that is missing, changed or out of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAuditLine(pub u64);

impl AuditChain {
    /// Begins at line 0, or at the last pruned line: what has no bytes and a hash.
    #[must_use]
    pub const fn begin(start: AuditHead) -> Self {
        Self { start, end: start, pruned: 0 }
    }

    /// Takes the next line: its bytes, and the number and hash that are claimed for it.
    ///
    /// # Errors
    /// [`BadAuditLine`] when it does not follow from those before.
    pub fn add(&mut self, bytes: &[u8], claimed: AuditHead) -> Result<(), BadAuditLine> {
        let next = self.end.then(bytes);
        if next != claimed {
            return Err(BadAuditLine(next.lines));
        }
        self.pruned = pruned(bytes).unwrap_or(self.pruned);
        self.end = next;
        Ok(())
    }

    /// The end so far.
    #[must_use]
    pub const fn end(&self) -> AuditHead {
        self.end
    }

    /// The end of the whole chain.
    ///
    /// # Errors
    /// [`BadAuditLine`] when it begins after lines that no pruning has removed: a pruning is a
    /// line itself, and one that is pruned leaves a later one.
    pub fn finish(&self) -> Result<AuditHead, BadAuditLine> {
        if self.pruned == self.start.lines { Ok(self.end) } else { Err(BadAuditLine(self.start.lines)) }
    }
}

/// The line of a pruning names its operation before anything that a client has written, and the
/// first line that is kept as its first field.
fn pruned(line: &[u8]) -> Option<u64> {
    let (_, rest) = core::str::from_utf8(line).ok()?.split_once(",\"op\":\"")?;
    let (_, rest) = rest.strip_prefix("audit-prune\",\"by\":\"")?.split_once('"')?;
    let (first, _) = rest.strip_prefix(",\"first\":\"")?.split_once('"')?;
    first.parse::<u64>().ok()?.checked_sub(1)
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditActor {
    /// A client key.
    Client(ClientKey),
    /// The signer of its own accord, or a command that holds the store.
    Signer,
}

/// One event, before it has a number.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    actor: AuditActor,
    what: &'static str,
    refused: Option<Code>,
    trace: Option<TraceContext>,
    fields: String,
}

impl AuditEvent {
    /// Something that was done; `what` is a word of the signer's.
    #[must_use]
    pub const fn new(actor: AuditActor, what: &'static str) -> Self {
        Self { actor, what, refused: None, trace: None, fields: String::new() }
    }

    /// The same event, refused.
    #[must_use]
    pub const fn refused(mut self, code: Code) -> Self {
        self.refused = Some(code);
        self
    }

    /// Whose trace it belongs to.
    #[must_use]
    pub const fn traced(mut self, trace: Option<TraceContext>) -> Self {
        self.trace = trace;
        self
    }

    /// Adds a field. `name` is a word of ours; the value is escaped.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push_str(",\"");
        self.fields.push_str(name);
        self.fields.push_str("\":\"");
        escape(&mut self.fields, &value.to_string());
        self.fields.push('"');
        self
    }

    /// Adds a field if there is a value.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The canonical bytes, as line `number`.
    #[must_use]
    pub fn line(&self, number: u64, at: Timestamp) -> String {
        let mut line = format!("{{\"n\":{number},\"at\":\"{at}\",\"op\":\"{}\",\"by\":\"", self.what);
        let _ = match self.actor {
            AuditActor::Client(key) => write!(line, "{key}"),
            AuditActor::Signer => write!(line, "signer"),
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

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Bytes as lower-case hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
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

    const LINE: &str = "{\"n\":7,\"at\":\"2026-09-21T14:13:20.001Z\",\"op\":\"revoke\"";

    /// PR-97.
    #[test]
    fn a_line_is_json_whatever_a_value_holds() {
        let event = AuditEvent::new(AuditActor::Client(ClientKey::from_bytes([0xab; 32])), "revoke")
            .with("reason", "a \"quoted\" \\ line\nbreak")
            .maybe("none", None::<u8>)
            .traced(Some(TraceContext { trace: [1; 16], parent: [2; 8], flags: 1 }))
            .refused(Code::Revoked);
        let line = event.line(7, Timestamp::from_millis(1_790_000_000_001).unwrap());
        assert!(line.starts_with(LINE), "{line}");
        assert!(line.contains(&format!(",\"by\":\"{}\",\"refused\":\"0x0106\"", "ab".repeat(32))));
        assert!(line.contains(r#","reason":"a \"quoted\" \\ line\u000abreak""#), "{line}");
        let trace = format!(",\"traceparent\":\"00-{}-{}-01\"}}", "01".repeat(16), "02".repeat(8));
        assert!(line.ends_with(&trace), "{line}");
        assert!(!line.contains("none"));
    }

    /// PR-45, PR-47: a pruned beginning is told from one that was cut off.
    #[test]
    fn a_chain_says_where_it_may_begin() {
        let at = Timestamp::from_millis(1_790_000_000_001).unwrap();
        let actor = || AuditActor::Client(ClientKey::from_bytes([0xab; 32]));
        let mut head = AuditHead::genesis(&[1; 16]);
        let mut lines = alloc::vec![(String::new(), head)];
        for n in 1..=6u64 {
            let event = match n {
                4 => AuditEvent::new(actor(), "audit-prune").with("first", 3),
                5 => AuditEvent::new(actor(), "audit-prune").with("first", 5).refused(Code::NotAllowed),
                _ => AuditEvent::new(actor(), "revoke").with("reason", "\"op\":\"audit-prune\""),
            };
            let line = event.line(n, at);
            head = head.then(line.as_bytes());
            lines.push((line, head));
        }
        let from = |first: usize| {
            let mut chain = AuditChain::begin(lines[first].1);
            lines[first + 1..].iter().try_for_each(|(line, head)| chain.add(line.as_bytes(), *head))?;
            chain.finish()
        };
        assert_eq!(from(2), Ok(head));
        for cut in [0, 1, 3, 4, 5] {
            assert_eq!(from(cut), Err(BadAuditLine(lines[cut].1.lines)), "{cut}");
        }
        let mut chain = AuditChain::begin(lines[2].1);
        assert_eq!(chain.add(b"{}", lines[3].1), Err(BadAuditLine(3)));
    }

    #[test]
    fn a_chain_depends_on_its_start_its_lines_and_their_order() {
        let end = |start: u8, lines: &[&[u8]]| {
            lines.iter().fold(AuditHead::genesis(&[start; 16]), |head, line| head.then(line))
        };
        let whole = end(7, &[b"a", b"b"]);
        assert_eq!(whole.lines, 2);
        for other in [end(8, &[b"a", b"b"]), end(7, &[b"b", b"a"]), end(7, &[b"a"]), end(7, &[b"ab"])] {
            assert_ne!(other.hash, whole.hash);
            assert_ne!(other.digest(), whole.digest());
        }
        let fewer = AuditHead { lines: 1, ..whole };
        assert_ne!(fewer.digest(), whole.digest());
    }
}
