//! V2 tokens in binary: reading is strict, so a token has one spelling and none of its cuts is one.

use tkcore::{Malformed, TextKind, Token, TokenBuf};

/// One input is one token.
pub fn run(data: &[u8]) {
    let borrowed = Token::parse(data);
    let owned = TokenBuf::from_v2(data.to_vec());
    let token = match (&borrowed, &owned) {
        (Ok(token), Ok(owned)) => {
            assert_eq!(owned.as_token().as_v2(), data);
            token
        }
        (Err(one), Err(other)) => {
            assert_eq!(one, other, "borrowed and owned readers refuse alike");
            return;
        }
        _ => panic!("borrowed and owned readers disagree"),
    };
    assert_eq!(token.as_v2(), data, "a token is exactly the bytes that were read");

    let text = owned.expect("it was read").to_text();
    let (kind, back) = TokenBuf::from_text(text.as_str()).expect("what was written can be read");
    assert_eq!((kind, back.as_token().as_v2()), (TextKind::Root, data));

    // What is shown of a token holds nothing of its signature.
    let shown = format!("{} {:?}", token.describe_untrusted(), token.describe_untrusted());
    assert!(!shown.chars().any(char::is_control), "what is shown is one printable line");
    let _ = token.claimed_identifier();

    for cut in [data.len() - 1, data.len() / 2, 1] {
        assert!(matches!(Token::parse(&data[..cut]), Err(Malformed::Truncated)), "cut at {cut}");
    }
}
