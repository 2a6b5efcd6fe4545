//! How one request is to be decided.

use tkcore::protocol::TraceContext;

/// Whether the signer must be asked even about what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Diligence {
    /// Decide locally whenever that is possible.
    #[default]
    Usual,
    /// Ask the signer now, for what must not rest on a state that is seconds old: deleting an
    /// account, paying out. The answer is never one that was asked for before this request.
    ///
    /// It counts also while the revocation state is stale, under every policy: the signer's word is
    /// newer than any state. Without it the request is refused, however fresh the state is.
    ///
    /// One ask a header: of several tokens that must be asked about, each has its turn from request
    /// to request, and a request whose turn was another token's gets 503 (`busy`). So ask for one
    /// token where this is wanted. The same holds under [`WhenStale::Ask`](crate::WhenStale::Ask).
    AskSigner,
}

/// How one request is to be decided: with what diligence, and as part of which trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    pub(crate) diligence: Diligence,
    pub(crate) trace: Option<TraceContext>,
}

impl Manner {
    /// With the signer's word of now, or without.
    #[must_use]
    pub const fn diligence(mut self, diligence: Diligence) -> Self {
        self.diligence = diligence;
        self
    }

    /// As part of the trace that a `traceparent` header names (W3C Trace Context, section 3.2).
    /// If the signer is asked, it writes the trace beside what it audits. A value that is none is
    /// left out: it decides nothing.
    #[must_use]
    pub fn traceparent(mut self, value: &[u8]) -> Self {
        self.trace = traceparent(value);
        self
    }
}

impl From<Diligence> for Manner {
    fn from(diligence: Diligence) -> Self {
        Self { diligence, trace: None }
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, and whatever a later version adds after another hyphen.
fn traceparent(value: &[u8]) -> Option<TraceContext> {
    let (fixed, more) = value.split_at_checked(55)?;
    let version = hex::<1>(fixed.get(..2)?)?;
    let hyphens = [2, 35, 52].iter().all(|at| fixed.get(*at) == Some(&b'-'));
    let known = match (version, more) {
        ([0xff], _) => false,
        (_, []) => true,
        ([0], [_, ..]) => false,
        (_, [first, ..]) => *first == b'-',
    };
    let context = TraceContext {
        trace: hex(fixed.get(3..35)?)?,
        parent: hex(fixed.get(36..52)?)?,
        flags: *hex::<1>(fixed.get(53..55)?)?.first()?,
    };
    (hyphens && known && context.trace != [0; 16] && context.parent != [0; 8]).then_some(context)
}

/// Lower case alone, as the header is.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_anything_else_is_left_out() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let good = format!("00-{trace}-{parent}-01");
        let read = traceparent(good.as_bytes()).unwrap();
        assert_eq!((read.trace[0], read.parent[1], read.flags), (0x4b, 0xf0, 1));
        // A later version may be longer, version 0 may not; 255 is none.
        assert_eq!(traceparent(format!("01-{trace}-{parent}-01-x").as_bytes()), Some(read));
        for bad in [
            format!("{good}-x"),
            format!("01-{trace}-{parent}-01x"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            good.to_uppercase(),
            good.replace('-', "_"),
            good[..54].to_owned(),
            String::new(),
        ] {
            assert_eq!(traceparent(bad.as_bytes()), None, "{bad}");
        }
    }
}
