//! `Authorization` values (docs/spec/token.md, TK-50 to TK-56).
#![cfg(feature = "mint")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

mod common;

use common::{check, key, minted};
use tkcore::{Authorization, Basis, HeaderBuf, Malformed, TextForms, TokenBuf, limits};

fn parse(value: &str, forms: TextForms) -> Result<(Vec<usize>, usize), Malformed> {
    let mut buf = HeaderBuf::new();
    let read = Authorization::parse(value.as_bytes(), forms, &mut buf)?;
    Ok((read.candidates().map(|presented| presented.discharge_count()).collect(), read.skipped()))
}

fn ours(value: &str) -> Result<(Vec<usize>, usize), Malformed> {
    parse(value, TextForms::OursOnly)
}

fn texts() -> (String, String) {
    let token = minted(&["app = 1"]);
    (token.to_text().as_str().to_owned(), token.to_discharge_text().as_str().to_owned())
}

#[test]
fn schemes_lists_and_what_is_around_them() {
    // TK-50, TK-51
    let (root, discharge) = texts();
    for scheme in ["Bearer", "bearer", "BEARER", "Macaroon", "macaroon"] {
        assert_eq!(ours(&format!("{scheme} {root}")), Ok((vec![0], 0)));
    }
    for scheme in ["Basic", "Token", "Bearerx", &root] {
        assert_eq!(ours(&format!("{scheme} {root}")), Err(Malformed::UnknownScheme));
    }
    for empty in ["", " ", "Bearer", "Bearer ", "Macaroon\t "] {
        assert!(matches!(ours(empty), Err(Malformed::Missing | Malformed::UnknownScheme)), "{empty:?}");
    }
    assert_eq!(ours(&format!("Bearer   {root} ,\t{discharge},{discharge} , {root} ")), Ok((vec![2, 0], 0)));
    assert_eq!(ours(&format!("Bearer {root},{discharge},{root},{root},{discharge}")), Ok((vec![1, 0, 1], 0)));
    assert_eq!(
        ours(&format!("Bearer {discharge},{root}")),
        Err(Malformed::Shape("a discharge before any token"))
    );
    for wrong in
        [format!("Bearer ,{root}"), format!("Bearer {root},,{root}"), format!("Bearer {root}, ,{root}")]
    {
        assert_eq!(ours(&wrong), Err(Malformed::Shape("an empty place in the list of tokens")));
    }
    assert_eq!(ours(&format!("Bearer {root},")), Err(Malformed::Truncated));
}

#[test]
fn a_strange_prefix_is_skipped_and_a_malformed_token_refuses_all() {
    // TK-53
    let (root, discharge) = texts();
    assert_eq!(ours(&format!("Bearer fm2_abc,{root},eyJhbGciOi.x.y,{discharge}")), Ok((vec![1], 2)));
    assert_eq!(ours("Bearer fm2_abc"), Err(Malformed::UnknownPrefix));
    assert_eq!(ours(&format!("Bearer {root},tk1_AgI")), Err(Malformed::Truncated));
    assert_eq!(ours(&format!("Bearer {root},tk1_====")), Err(Malformed::Base64));
    assert_eq!(ours(&format!("Bearer {root},tk1_AAAA")), Err(Malformed::Shape("not the V2 format")));
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    // TK-3
    let (root, discharge) = texts();
    let value = |roots: usize, discharges: usize| {
        let one = format!("{root}{}", format!(",{discharge}").repeat(discharges));
        format!("Bearer {}", vec![one; roots].join(","))
    };
    assert_eq!(ours(&value(limits::ROOTS, 1)), Ok((vec![1; limits::ROOTS], 0)));
    assert_eq!(ours(&value(limits::ROOTS + 1, 0)), Err(Malformed::TooLarge("number of tokens")));
    assert_eq!(ours(&value(2, limits::DISCHARGES)), Ok((vec![limits::DISCHARGES; 2], 0)));
    assert_eq!(ours(&value(1, limits::DISCHARGES + 1)), Err(Malformed::TooLarge("number of discharges")));

    let padded = |len: usize| format!("Bearer {root}{}", " ".repeat(len - 7 - root.len()));
    assert_eq!(ours(&padded(limits::HEADER_BYTES)), Ok((vec![0], 0)));
    assert_eq!(ours(&padded(limits::HEADER_BYTES + 1)), Err(Malformed::TooLarge("Authorization value")));
    assert_eq!(ours(&format!("Bearer tk1_{}", "A".repeat(21_848))), Err(Malformed::TooLarge("token")));
}

#[test]
fn two_headers_are_refused() {
    // TK-54
    let sole = |values: &[&'static [u8]]| Authorization::sole_value(values.iter().copied());
    assert_eq!(sole(&[]), Err(Malformed::Missing));
    assert_eq!(sole(&[b"Bearer x"]), Ok(&b"Bearer x"[..]));
    assert_eq!(sole(&[b"Bearer x", b"Bearer x"]), Err(Malformed::Shape("two Authorization headers")));
}

#[test]
fn candidates_keep_their_own_discharges() {
    // TK-51, TK-52
    let tokens: Vec<TokenBuf> = (0..3).map(|i| minted(&[&format!("app = {i}")])).collect();
    let texts: Vec<String> = tokens.iter().map(|token| token.to_text().as_str().to_owned()).collect();
    let discharges: Vec<String> =
        tokens.iter().map(|token| token.to_discharge_text().as_str().to_owned()).collect();
    let value = format!("Bearer {},{},{},{}", texts[0], discharges[1], texts[1], discharges[2]);
    let mut buf = HeaderBuf::new();
    let read = Authorization::parse(value.as_bytes(), TextForms::OursOnly, &mut buf).unwrap();
    let seen: Vec<_> = read
        .candidates()
        .map(|presented| {
            let discharges: Vec<&[u8]> = presented.discharges().map(|token| token.as_v2()).collect();
            (presented.root().as_v2(), discharges)
        })
        .collect();
    let wire = |i: usize| tokens[i].as_token().as_v2();
    assert_eq!(seen, [(wire(0), vec![wire(1)]), (wire(1), vec![wire(2)])]);
}

#[test]
fn a_buffer_can_be_used_again_after_any_value() {
    let (root, discharge) = texts();
    let mut buf = HeaderBuf::new();
    for _ in 0..3 {
        let long = format!("Bearer {root},{discharge},{root}");
        let read = Authorization::parse(long.as_bytes(), TextForms::OursOnly, &mut buf).unwrap();
        assert_eq!(read.candidates().count(), 2);
        let wrong = format!("Bearer {root},tk1_AgI");
        assert!(Authorization::parse(wrong.as_bytes(), TextForms::OursOnly, &mut buf).is_err());
        let value = format!("Bearer {root}");
        let read = Authorization::parse(value.as_bytes(), TextForms::OursOnly, &mut buf).unwrap();
        let candidate = read.candidates().next().unwrap();
        assert_eq!(check(candidate.root(), &[], Basis::Root(&key())), Ok(()));
    }
}

#[cfg(feature = "json")]
mod reencoded {
    use super::*;

    /// Unpadded URL-safe base64, as the other libraries write it.
    fn text(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let word =
                three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for i in 0..=three.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
            }
        }
        text
    }

    fn spellings(token: &TokenBuf) -> Vec<String> {
        let token = token.as_token();
        vec![text(token.as_v2()), text(&token.to_v1().unwrap()), text(token.to_json().unwrap().as_bytes())]
    }

    #[test]
    fn what_other_libraries_make_of_our_tokens_is_the_same_token() {
        // TK-56, TK-26
        let token = minted(&["app = 1", "action in read"]);
        for spelling in spellings(&token) {
            let value = format!("Bearer {spelling}");
            assert_eq!(ours(&value), Err(Malformed::UnknownPrefix), "only when asked for");
            let mut buf = HeaderBuf::new();
            let read = Authorization::parse(value.as_bytes(), TextForms::Reencoded, &mut buf).unwrap();
            let root = read.candidates().next().unwrap().root();
            assert_eq!(check(root, &[], Basis::Root(&key())), Ok(()));
            assert_eq!(root.as_v2(), token.as_token().as_v2());
        }
    }

    #[test]
    fn roots_and_discharges_are_told_apart_and_cuts_are_truncated() {
        // TK-56, TK-43
        let root = minted(&["app = 1"]);
        let macaroon = tkcore::plain::Macaroon::create(&key(), b"a ticket", None).unwrap();
        let discharge = TokenBuf::from_v2(macaroon.to_v2().to_vec()).unwrap();
        for (root, discharge) in spellings(&root).iter().zip(spellings(&discharge)) {
            let value = format!("Bearer {root},{discharge},{root}");
            assert_eq!(parse(&value, TextForms::Reencoded), Ok((vec![1, 0], 0)));
            let value = format!("Bearer {discharge}");
            assert_eq!(parse(&value, TextForms::Reencoded), Ok((vec![0], 0)), "the first is a root");
            // Two characters hold the byte that tells the format.
            for len in 2..root.len() {
                let value = format!("Bearer {}", &root[..len]);
                assert_eq!(parse(&value, TextForms::Reencoded), Err(Malformed::Truncated), "{len} of {root}");
            }
        }
        assert_eq!(parse("Bearer fm2_abc", TextForms::Reencoded), Err(Malformed::UnknownPrefix));
    }
}
