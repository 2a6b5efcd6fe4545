//! V2 JSON, strict and lenient: what is read is written again as the same macaroon, and the strict
//! reader takes nothing that the lenient one refuses.

use tkcore::TokenBuf;
use tkcore::plain::Macaroon;

/// One input is one text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(Macaroon::from_bytes_lenient(data).is_err() || data.first() != Some(&b'{'));
        return;
    };
    let lenient = Macaroon::from_text_lenient(text);
    if let Ok(strict) = TokenBuf::from_json(text) {
        let lenient = lenient.as_ref().expect("strict is narrower than lenient");
        assert_eq!(strict.as_token().as_v2(), lenient.to_v2());
        let again = strict.as_token().to_json().expect("it came from JSON");
        let again = TokenBuf::from_json(&again).expect("written by us");
        assert_eq!(again.as_token().as_v2(), strict.as_token().as_v2());
    }
    let Ok(macaroon) = lenient else { return };
    if let Ok(json) = macaroon.to_json() {
        let again = Macaroon::from_text_lenient(&json).expect("written by us");
        assert_eq!(again.to_v2(), macaroon.to_v2());
        assert_eq!(again.to_json().expect("written before"), json, "one spelling");
    }
}
