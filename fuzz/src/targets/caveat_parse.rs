//! The caveat language: what is read is written back as it was, and has one spelling.

use tkcore::{Advice, Budget, Caveat, Request, Timestamp, Vocabulary, advise, clear_caveats};

/// One input is one caveat.
pub fn run(data: &[u8]) {
    let caveat = match Caveat::from_bytes(data) {
        Ok(caveat) => caveat,
        Err(error) => {
            assert!(error.offset() <= data.len(), "the fault lies in the text");
            let advice = str::from_utf8(data).map(|text| advise([], None, text, &Vocabulary::native(), None));
            assert!(!matches!(advice, Ok(Advice::Restricts)), "what cannot be read is never useful");
            return;
        }
    };
    let text = caveat.to_string();
    assert_eq!(text.as_bytes(), data, "Display is the input");
    assert_eq!(Caveat::parse(&text), Ok(caveat));

    // The parts lie in the text, in their order, with nothing but the grammar's own between them.
    let mut parts = format!(
        "{}{} {} {}",
        caveat.name(),
        if caveat.is_optional() { "?" } else { "" },
        caveat.operator().as_str(),
        caveat.value()
    );
    if let Some(list) = caveat.otherwise() {
        parts += " else ";
        parts += list;
    }
    assert_eq!(parts, text);

    // One spelling: no white space, quote or case can be varied.
    for other in [
        format!("{text} "),
        format!(" {text}"),
        text.replacen(' ', "  ", 1),
        format!("{text},"),
        text.replacen(' ', "\t", 1),
    ] {
        assert!(Caveat::parse(&other).is_err(), "{other:?}");
    }
    let meaning = caveat.meaning().to_string();
    assert!(!meaning.chars().any(char::is_control), "{meaning:?}");

    // Work is linear: a request with single values never costs more than thrice the text.
    let request =
        Request::builder("acme", Timestamp::EPOCH).action("read").text(plain(caveat.name()), "x").build();
    let Ok(request) = request else { return };
    let mut budget = Budget::default();
    let before = budget.left();
    let _ = clear_caveats([data], &request, &Vocabulary::native(), &mut budget);
    let blocks = u32::try_from(data.len().div_ceil(64)).unwrap_or(u32::MAX);
    assert!(before - budget.left() <= 3 * blocks, "{} blocks for {blocks}", before - budget.left());
}

/// A name that a request may state.
fn plain(name: &str) -> &str {
    if matches!(name, "time" | "action" | "tenant" | "subject" | "audience") { "other" } else { name }
}
