//! V1, strict and lenient: what is read is written again as the same macaroon, in every format, and
//! the strict reader takes nothing that the lenient one refuses.

use tkcore::TokenBuf;
use tkcore::plain::Macaroon;

/// One input is one V1 macaroon in binary.
pub fn run(data: &[u8]) {
    let lenient = Macaroon::from_bytes_lenient(data);
    if let Ok(strict) = TokenBuf::from_v1(data) {
        let lenient = lenient.as_ref().expect("strict is narrower than lenient");
        assert_eq!(strict.as_token().as_v2(), lenient.to_v2());
        let again = TokenBuf::from_v1(&strict.as_token().to_v1().expect("it came from V1")).expect("written by us");
        assert_eq!(again.as_token().as_v2(), strict.as_token().as_v2());
    }
    let Ok(macaroon) = lenient else { return };
    let v2 = macaroon.to_v2();
    if data.first().is_some_and(u8::is_ascii_hexdigit) {
        let v1 = macaroon.to_v1().expect("it came from V1");
        assert_eq!(Macaroon::from_bytes_lenient(&v1).expect("written by us").to_v2(), v2);
    }
    if let Ok(json) = macaroon.to_json() {
        assert_eq!(Macaroon::from_text_lenient(&json).expect("written by us").to_v2(), v2);
        assert!(macaroon.is_same(&Macaroon::from_bytes_lenient(v2).expect("canonical")));
    }
}
