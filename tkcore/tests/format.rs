//! The binary form, the text form and `Authorization` values: what is read, what is refused and
//! how (docs/spec/token.md).
#![cfg(feature = "mint")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

mod common;

use common::{check, identifier, key, minted};
use tkcore::{
    Authorization, Basis, Error, HeaderBuf, Malformed, TextForms, TextKind, Token, TokenBuf, attenuate,
    limits,
};

fn samples() -> Vec<TokenBuf> {
    let long = "x".repeat(300);
    [
        vec![],
        vec!["app = 1"],
        vec!["action in read,list", "path under /a/b", &long, "time < 2026-12-01T00:00:00Z"],
    ]
    .iter()
    .map(|caveats| minted(caveats))
    .collect()
}

/// A token of these parts, whatever they are; its signature is zeros.
fn raw(location: Option<&[u8]>, identifier: &[u8], caveats: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![2];
    if let Some(location) = location {
        bytes.extend(field(1, location));
    }
    bytes.extend(field(2, identifier));
    bytes.push(0);
    for caveat in caveats {
        bytes.extend_from_slice(caveat);
    }
    bytes.extend([0, 6, 32]);
    bytes.extend([0; 32]);
    bytes
}

fn field(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut len = bytes.len();
    while len >= 128 {
        out.push((len % 128) as u8 | 128);
        len /= 128;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    out
}

fn caveat(cid: &[u8]) -> Vec<u8> {
    [field(2, cid), vec![0]].concat()
}

fn malformed(bytes: &[u8]) -> Malformed {
    Token::parse(bytes).unwrap_err()
}

#[test]
fn every_single_bit_flip_of_the_bytes_is_refused() {
    // TK-20, TK-60: in the identifier, the caveats, the framing and the signature alike.
    for token in samples() {
        let bytes = token.as_token().as_v2().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(token) = Token::parse(&bytes) {
                assert!(check(token, &[], Basis::Root(&key())).is_err(), "bit {bit}");
            }
        }
    }
}

#[test]
fn every_single_bit_flip_of_the_text_is_refused() {
    // TK-40: also where the flipped bit is one of those that a last character has to spare.
    for token in samples() {
        let text = token.to_text().as_str().as_bytes().to_vec();
        for bit in 0..text.len() * 8 {
            let mut text = text.clone();
            text[bit / 8] ^= 1 << (bit % 8);
            for forms in [TextForms::OursOnly, TextForms::Reencoded] {
                let value = [b"Bearer ", text.as_slice()].concat();
                let mut buf = HeaderBuf::new();
                let Ok(read) = Authorization::parse(&value, forms, &mut buf) else { continue };
                for candidate in read.candidates() {
                    assert!(check(candidate.root(), &[], Basis::Root(&key())).is_err(), "bit {bit}");
                }
            }
        }
    }
}

#[test]
fn a_cut_is_truncated_wherever_it_falls() {
    // TK-25, TK-43.
    for token in samples() {
        let bytes = token.as_token().as_v2();
        for len in 0..bytes.len() {
            assert_eq!(malformed(&bytes[..len]), Malformed::Truncated, "{len} bytes");
        }
        for text in [token.to_text(), token.to_discharge_text()] {
            let text = text.as_str();
            for len in 1..text.len() {
                let error = TokenBuf::from_text(&text[..len]).unwrap_err();
                assert_eq!(error, Malformed::Truncated, "{len} characters");
            }
            assert_eq!(TokenBuf::from_text("").unwrap_err(), Malformed::Missing);
        }
        let value = format!("Bearer {}, {}", token.to_text().as_str(), token.to_discharge_text().as_str());
        let first = "Bearer ".len() + token.to_text().as_str().len();
        for len in "Bearer t".len()..value.len() {
            let mut buf = HeaderBuf::new();
            let read = Authorization::parse(&value.as_bytes()[..len], TextForms::OursOnly, &mut buf);
            if len == first {
                assert!(read.is_ok(), "a whole token");
            } else {
                assert_eq!(read.unwrap_err(), Malformed::Truncated, "{len} characters");
            }
        }
    }
}

#[test]
fn the_text_form_reads_back_and_has_one_spelling() {
    // TK-40
    for token in samples() {
        for (kind, text) in
            [(TextKind::Root, token.to_text()), (TextKind::Discharge, token.to_discharge_text())]
        {
            let text = text.as_str();
            assert!(text.starts_with(kind.prefix()));
            let (read, again) = TokenBuf::from_text(text).unwrap();
            assert_eq!((read, again.as_token().as_v2()), (kind, token.as_token().as_v2()));
            for wrong in [format!("{text}="), format!("{text}\n"), format!(" {text}"), text.to_uppercase()] {
                assert!(TokenBuf::from_text(&wrong).is_err(), "{wrong:?}");
            }
        }
    }
}

#[test]
fn secret_scanners_find_every_token() {
    // TK-42, by hand: the prefix, then as many characters of the alphabet as the expression asks.
    let spec = include_str!("../../docs/spec/token.md");
    assert!(spec.contains(r"`\bt[kd]1_[A-Za-z0-9_-]{54,21846}`"));
    let bare = tkcore::Identifier { subject: None, ..identifier(0) };
    let shortest = tkcore::mint(&bare, &[], &key()).unwrap();
    assert_eq!(shortest.to_text().as_str().len(), 4 + 95);
    let discharge = TokenBuf::from_v2(raw(None, b"i", &[])).unwrap();
    assert_eq!(discharge.to_discharge_text().as_str().len(), 4 + 54);
    assert_eq!((limits::TOKEN_BYTES * 4).div_ceil(3), 21_846);
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    // TK-1, TK-2. 4 bytes of framing before and 36 after the identifier of two length bytes.
    let fill = |total: usize| {
        let caveats: Vec<Vec<u8>> = (0..3).map(|_| caveat(&[b'c'; 4096])).collect();
        let used: usize = caveats.iter().map(Vec::len).sum::<usize>() + raw(None, b"i", &[]).len();
        let last = caveat(&vec![b'c'; total - used - 4]);
        let all: Vec<&[u8]> = caveats.iter().chain([&last]).map(Vec::as_slice).collect();
        raw(None, b"i", &all)
    };
    let largest = fill(limits::TOKEN_BYTES);
    assert_eq!(largest.len(), limits::TOKEN_BYTES);
    assert!(Token::parse(&largest).is_ok());
    assert_eq!(malformed(&fill(limits::TOKEN_BYTES + 1)), Malformed::TooLarge("token"));

    let empty = caveat(b"");
    let many = vec![empty.as_slice(); limits::CAVEATS + 1];
    assert!(Token::parse(&raw(None, b"i", &many[1..])).is_ok());
    assert_eq!(malformed(&raw(None, b"i", &many)), Malformed::TooLarge("number of caveats"));

    let identifier = vec![b'i'; limits::IDENTIFIER_BYTES + 1];
    assert!(Token::parse(&raw(None, &identifier[1..], &[])).is_ok());
    assert_eq!(malformed(&raw(None, &identifier, &[])), Malformed::TooLarge("identifier"));

    let cid = vec![b'c'; limits::CAVEAT_BYTES + 1];
    assert!(Token::parse(&raw(None, b"i", &[&caveat(&cid[1..])])).is_ok());
    assert_eq!(malformed(&raw(None, b"i", &[&caveat(&cid)])), Malformed::TooLarge("caveat"));

    let location = vec![b'l'; limits::LOCATION_BYTES + 1];
    assert!(Token::parse(&raw(Some(&location[1..]), b"i", &[])).is_ok());
    assert_eq!(malformed(&raw(Some(&location), b"i", &[])), Malformed::TooLarge("location"));
}

#[test]
fn attenuation_stops_at_the_same_limits() {
    // TK-1, TK-2
    let token = minted(&[]);
    let text = "x".repeat(limits::CAVEAT_BYTES + 1);
    assert!(attenuate(&token.as_token(), &[&text[1..]]).is_ok());
    assert!(attenuate(&token.as_token(), &[&text]).is_err());
    assert!(attenuate(&token.as_token(), &vec!["a"; limits::CAVEATS]).is_ok());
    assert!(attenuate(&token.as_token(), &vec!["a"; limits::CAVEATS + 1]).is_err());
    assert!(attenuate(&token.as_token(), &[&text[1..]; 4]).is_err());
    assert!(attenuate(&token.as_token(), &vec!["a"; 1_000_000]).is_err());
}

#[test]
fn lengths_are_in_their_shortest_form_and_lies_cost_nothing() {
    // TK-21, TK-4
    assert_eq!(
        malformed(&[2, 2, 0x81, 0x00, b'i', 0]),
        Malformed::Shape("a length is not in its shortest form")
    );
    assert_eq!(
        malformed(&[2, 2, 0x81, 0x80, 0x00, b'i', 0]),
        Malformed::Shape("a length is not in its shortest form")
    );
    let two_to_the_63 = [2, 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert_eq!(malformed(&two_to_the_63), Malformed::TooLarge("a claimed length"));
    assert_eq!(malformed(&[0xff; 64 * 1024]), Malformed::TooLarge("token"));
    let mut ones = vec![0xff; 16 * 1024];
    assert_eq!(malformed(&ones), Malformed::Shape("not the V2 format"));
    (ones[0], ones[1]) = (2, 2);
    assert_eq!(malformed(&ones), Malformed::TooLarge("a claimed length"));
}

#[test]
fn fields_are_known_and_where_they_belong() {
    // TK-20, TK-22, TK-23, TK-24
    assert_eq!(malformed(&raw(None, b"", &[])), Malformed::Shape("the identifier is empty"));
    assert!(Token::parse(&raw(None, b"i", &[&caveat(b"")])).is_ok());
    let with = |parts: &[Vec<u8>]| malformed(&raw(None, b"i", &[&parts.concat()]));
    let wrong_vid = Malformed::Shape("a sealed caveat key is not 72 bytes");
    for len in [0, 71, 73] {
        assert_eq!(with(&[field(2, b"c"), field(4, &vec![0; len]), vec![0]]), wrong_vid);
    }
    let third_party = [field(1, b"https://a.example"), field(2, b"c"), field(4, &[0; 72]), vec![0]].concat();
    assert!(Token::parse(&raw(None, b"i", &[&third_party])).is_ok());
    for location in [&b""[..], b"printable \xc3\xa4"] {
        assert!(Token::parse(&raw(Some(location), b"i", &[])).is_ok());
    }
    for location in [&b"a\nb"[..], b"\xff", b"\x7f"] {
        assert!(Token::parse(&raw(Some(location), b"i", &[])).is_err());
    }
    for parts in [
        vec![field(1, b"l"), field(2, b"c"), vec![0]],
        vec![field(4, &[0; 72]), field(2, b"c"), vec![0]],
        vec![field(2, b"c"), field(1, b"l"), vec![0]],
        vec![field(2, b"c"), field(2, b"c"), vec![0]],
        vec![field(2, b"c"), field(3, b"c"), vec![0]],
        vec![field(2, b"c"), field(5, b"c"), vec![0]],
        vec![field(7, b"c"), vec![0]],
    ] {
        assert!(matches!(with(&parts), Malformed::Shape(_)), "{parts:?}");
    }
    let whole = raw(None, b"i", &[]);
    assert_eq!(malformed(&[&whole[..], &[0]].concat()), Malformed::Shape("bytes after the signature"));
    for (at, value) in [(0, 1), (0, 3), (1, 3), (4, 1), (5, 9), (6, 5), (7, 31), (7, 33)] {
        let mut bytes = whole.clone();
        bytes[at] = value;
        assert!(matches!(malformed(&bytes), Malformed::Shape(_) | Malformed::Truncated), "{at} = {value}");
    }
}

#[test]
fn fewer_caveats_than_at_mint_are_refused() {
    // TK-13: the signer itself would have to sign such a token; then too.
    let mut bytes = Vec::new();
    identifier(3).write(&mut bytes).unwrap();
    let token = TokenBuf::from_v2(raw(None, &bytes, &[&caveat(b"a"), &caveat(b"b")])).unwrap();
    let expected = Malformed::Identifier("more caveats at mint than there are");
    assert_eq!(check(token.as_token(), &[], Basis::Root(&key())), Err(Error::Malformed(expected)));
    let all = TokenBuf::from_v2(raw(None, &bytes, &[&caveat(b"a"), &caveat(b"b"), &caveat(b"c")])).unwrap();
    assert!(matches!(check(all.as_token(), &[], Basis::Root(&key())), Err(Error::NotAuthentic(_))));
    assert!(tkcore::mint(&identifier(3), &["a", "b"], &key()).is_err());
}

#[test]
fn nothing_that_is_printed_shows_a_signature() {
    let token = minted(&["app = 1"]);
    let text = token.to_text();
    let secret = &text.as_str()[text.as_str().len() - 20..];
    let (buf, view) = (HeaderBuf::new(), token.as_token());
    let shown = format!(
        "{token:?} {view:?} {text:?} {buf:?} {} {:?}",
        view.describe_untrusted(),
        view.describe_untrusted()
    );
    assert!(!shown.contains(secret) && shown.contains("lineage 09090909"), "{shown}");
    let signature = view.as_v2().last_chunk::<32>().unwrap();
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.contains(&hex[..8]) && !shown.contains(&format!("{:?}", &signature[..4])));
}
