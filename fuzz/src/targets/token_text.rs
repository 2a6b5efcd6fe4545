//! Tokens as text: one spelling, and every cut of one says that it was cut.

use tkcore::{Malformed, TextKind, TokenBuf};

/// One input is one text; what is no UTF-8 is no text.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok((kind, token)) = TokenBuf::from_text(text) else { return };
    let written = match kind {
        TextKind::Root => token.to_text(),
        TextKind::Discharge => token.to_discharge_text(),
    };
    assert_eq!(written.as_str(), text, "a token has one text");

    for cut in [text.len() - 1, text.len() / 2, kind.prefix().len()] {
        let refused = TokenBuf::from_text(&text[..cut]).err();
        assert_eq!(refused, Some(Malformed::Truncated), "cut at {cut}");
    }
}
