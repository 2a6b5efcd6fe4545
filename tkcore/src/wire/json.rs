//! Format V2 JSON: `{"v":2,"l":…,"i"|"i64":…,"c":[{"i"|"i64":…,"v64":…,"l":…}],"s64":…}`.
//!
//! A reader of our own (docs/decisions/0020): the format is two levels deep, so nothing here
//! recurses, and no value is built that the token does not need.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use zeroize::Zeroizing;

use super::base64;
use super::canonical::{Assembler, Caps, Reading, VID_BYTES};
use crate::error::Malformed;
use crate::token::Token;

/// How deep a value may nest that the lenient reader skips, since it stands under a name that
/// the format does not have.
const SKIP_DEPTH: usize = 32;

/// Transcodes V2 JSON text into canonical V2 bytes.
///
/// Strict: `v` is the number 2, base64 is URL-safe and unpadded, every member is known. Lenient:
/// `v` may be absent or `"2"`, any base64, `null` is as good as absent, unknown members are
/// skipped. In both, a member that
/// stands twice is refused: peers keep the last one, and which one was meant cannot be known.
pub(crate) fn read(text: &[u8], caps: &Caps) -> Result<Vec<u8>, Malformed> {
    // A control character takes six bytes here and one in V2; nothing grows more.
    if text.len() > caps.token.saturating_mul(6).saturating_add(1024) {
        return Err(Malformed::TooLarge("the token"));
    }
    if let Err(error) = core::str::from_utf8(text) {
        return Err(match error.error_len() {
            None => Malformed::Truncated,
            Some(_) => Malformed::Shape("JSON that is not UTF-8"),
        });
    }
    let mut json = Json::new(text);
    let mut version = false;
    let mut caveats = None;
    let mut fields = Fields::default();
    json.open(b'{')?;
    while let Some(name) = json.member()? {
        match name.plain() {
            Some(b"v") => {
                once(version)?;
                version = true;
                json.version(caps.reading)?;
            }
            Some(b"c") => {
                once(caveats.is_some())?;
                let before = json.rest;
                json.skip()?;
                caveats = Some(before);
            }
            name => fields.member(&mut json, name, caps.reading)?,
        }
    }
    json.end()?;
    if caps.reading == Reading::Strict && !version {
        return Err(Malformed::Shape("JSON without its version"));
    }

    let (mut location, mut id, mut vid) = (Vec::new(), Vec::new(), Vec::new());
    if fields.vid.is_some() {
        return Err(Malformed::Shape("a verification id beside the token's identifier"));
    }
    let identifier = fields.id.ok_or(Malformed::Shape("JSON without an identifier"))?;
    identifier.decode(caps.reading, &mut id)?;
    let here = Data::optional(fields.location, caps.reading, &mut location)?;
    let mut out = Assembler::start(caps, here, &id)?;

    let mut json = Json::new(caveats.unwrap_or(b"[]"));
    json.open(b'[')?;
    while json.element()? {
        let mut fields = Fields::default();
        json.open(b'{')?;
        while let Some(name) = json.member()? {
            fields.member(&mut json, name.plain(), caps.reading)?;
        }
        if fields.signature.is_some() {
            return Err(Malformed::Shape("a signature inside a caveat"));
        }
        fields.id.ok_or(Malformed::Shape("a caveat without an identifier"))?.decode(caps.reading, &mut id)?;
        let there = Data::optional(fields.location, caps.reading, &mut location)?;
        let sealed = Data::optional(fields.vid, caps.reading, &mut vid)?;
        out.caveat(&id, sealed, there)?;
    }

    let mut signature = Zeroizing::new(Vec::new());
    let bytes = fields.signature.ok_or(Malformed::Shape("JSON without a signature"))?;
    bytes.decode(caps.reading, &mut signature)?;
    out.finish(&signature)
}

/// A value of the format: text, or bytes in base64.
#[derive(Clone, Copy)]
enum Data<'a> {
    Text(Str<'a>),
    Base64(Str<'a>),
}

impl Data<'_> {
    fn decode(self, reading: Reading, to: &mut Vec<u8>) -> Result<(), Malformed> {
        to.clear();
        match self {
            Self::Text(text) => text.unescape(to),
            Self::Base64(text) => {
                let text = text.plain().ok_or(Malformed::Base64)?;
                to.extend_from_slice(&base64::decode(text, reading)?);
                Ok(())
            }
        }
    }

    fn optional(this: Option<Self>, reading: Reading, to: &mut Vec<u8>) -> Result<Option<&[u8]>, Malformed> {
        let Some(this) = this else { return Ok(None) };
        this.decode(reading, to)?;
        Ok(Some(to))
    }
}

/// The members that a token and a caveat share.
#[derive(Default)]
struct Fields<'a> {
    location: Option<Data<'a>>,
    id: Option<Data<'a>>,
    vid: Option<Data<'a>>,
    signature: Option<Data<'a>>,
}

impl<'a> Fields<'a> {
    fn member(
        &mut self,
        json: &mut Json<'a>,
        name: Option<&[u8]>,
        reading: Reading,
    ) -> Result<(), Malformed> {
        let (slot, kind): (_, fn(Str<'a>) -> Data<'a>) = match name {
            Some(b"l") => (&mut self.location, Data::Text),
            Some(b"l64") if reading == Reading::Lenient => (&mut self.location, Data::Base64),
            Some(b"i") => (&mut self.id, Data::Text),
            Some(b"i64") => (&mut self.id, Data::Base64),
            Some(b"v64") => (&mut self.vid, Data::Base64),
            Some(b"v") => (&mut self.vid, Data::Text),
            Some(b"s") => (&mut self.signature, Data::Text),
            Some(b"s64") => (&mut self.signature, Data::Base64),
            Some(_) | None => {
                return match reading {
                    Reading::Strict => Err(Malformed::Shape("an unknown member in JSON")),
                    Reading::Lenient => json.skip(),
                };
            }
        };
        if reading == Reading::Lenient && json.peek()? == b'n' {
            // What the Rust crates write for a member that a token does not have.
            return json.literal(b"null");
        }
        once(slot.is_some())?;
        *slot = Some(kind(json.string()?));
        Ok(())
    }
}

fn once(seen: bool) -> Result<(), Malformed> {
    if seen { Err(Malformed::Shape("a member that stands twice in JSON")) } else { Ok(()) }
}

/// A string between its quotes, escapes not yet resolved.
#[derive(Clone, Copy)]
struct Str<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Str<'a> {
    /// Its bytes, when they stand for themselves. No name and no base64 of ours needs an escape.
    fn plain(self) -> Option<&'a [u8]> {
        (!self.escaped).then_some(self.raw)
    }

    fn unescape(self, to: &mut Vec<u8>) -> Result<(), Malformed> {
        const WRONG: Malformed = Malformed::Shape("a wrong escape in JSON");
        let mut rest = self.raw.iter();
        while let Some(byte) = rest.next() {
            if *byte != b'\\' {
                to.push(*byte);
                continue;
            }
            let plain = match rest.next().ok_or(WRONG)? {
                b'"' => b'"',
                b'\\' => b'\\',
                b'/' => b'/',
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let mut code = hex4(&mut rest).ok_or(WRONG)?;
                    if (0xd800..0xdc00).contains(&code) {
                        let (slash, u) = (rest.next(), rest.next());
                        let low =
                            hex4(&mut rest).filter(|low| (0xdc00..0xe000).contains(low)).ok_or(WRONG)?;
                        if (slash, u) != (Some(&b'\\'), Some(&b'u')) {
                            return Err(WRONG);
                        }
                        let bits = ((code & 0x3ff) << 10) | (low & 0x3ff);
                        code = bits.checked_add(0x1_0000).ok_or(WRONG)?;
                    }
                    let character = char::from_u32(code).ok_or(WRONG)?;
                    to.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                _ => return Err(WRONG),
            };
            to.push(plain);
        }
        Ok(())
    }
}

fn hex4(rest: &mut core::slice::Iter<'_, u8>) -> Option<u32> {
    let mut code = 0u32;
    for _ in 0..4 {
        code = (code << 4) | char::from(*rest.next()?).to_digit(16)?;
    }
    Some(code)
}

/// Reads JSON (RFC 8259) front to back, by pulling; its caller knows what must come.
struct Json<'a> {
    rest: &'a [u8],
    /// A bracket was opened and nothing has followed yet, so no comma may.
    first: bool,
}

const SHAPE: Malformed = Malformed::Shape("JSON of another shape");

impl<'a> Json<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { rest: text, first: false }
    }

    fn peek(&mut self) -> Result<u8, Malformed> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied().ok_or(Malformed::Truncated)
    }

    fn bump(&mut self) {
        self.rest = self.rest.split_first().map_or(&[], |(_, rest)| rest);
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek()? != byte {
            return Err(SHAPE);
        }
        self.bump();
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), Malformed> {
        self.expect(bracket)?;
        self.first = true;
        Ok(())
    }

    /// The next member's name, its colon passed; `None` and past the end when there is none.
    fn member(&mut self) -> Result<Option<Str<'a>>, Malformed> {
        if !self.more(b'}')? {
            return Ok(None);
        }
        let name = self.string()?;
        self.expect(b':')?;
        Ok(Some(name))
    }

    /// Whether another element follows; past the array's end when none does.
    fn element(&mut self) -> Result<bool, Malformed> {
        self.more(b']')
    }

    fn more(&mut self, close: u8) -> Result<bool, Malformed> {
        let first = core::mem::replace(&mut self.first, false);
        if self.peek()? == close {
            self.bump();
            return Ok(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// Nothing but white space may be left.
    fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(Malformed::Shape("bytes after the JSON")),
        }
    }

    fn string(&mut self) -> Result<Str<'a>, Malformed> {
        self.expect(b'"')?;
        let mut escaped = false;
        let mut after_backslash = false;
        for (at, byte) in self.rest.iter().enumerate() {
            match byte {
                0..0x20 => return Err(Malformed::Shape("a control character in JSON")),
                _ if after_backslash => after_backslash = false,
                b'\\' => (escaped, after_backslash) = (true, true),
                b'"' => {
                    let (raw, rest) = self.rest.split_at_checked(at).ok_or(Malformed::Truncated)?;
                    self.rest = rest;
                    self.bump();
                    return Ok(Str { raw, escaped });
                }
                _ => {}
            }
        }
        Err(Malformed::Truncated)
    }

    fn version(&mut self, reading: Reading) -> Result<(), Malformed> {
        const WRONG: Malformed = Malformed::Shape("JSON of another version");
        if reading == Reading::Lenient && self.peek()? == b'"' {
            return if self.string()?.plain() == Some(b"2") { Ok(()) } else { Err(WRONG) };
        }
        self.peek()?;
        if self.number()? == b"2" { Ok(()) } else { Err(WRONG) }
    }

    fn number(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self
            .rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        let (number, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        if is_number(number) { Ok(number) } else { Err(SHAPE) }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Malformed> {
        match self.rest.strip_prefix(word) {
            Some(rest) => self.rest = rest,
            None if word.starts_with(self.rest) => return Err(Malformed::Truncated),
            None => return Err(SHAPE),
        }
        Ok(())
    }

    /// Passes one value of any kind, in one loop: `objects` remembers by a bit for each open
    /// bracket whether it is an object's.
    fn skip(&mut self) -> Result<(), Malformed> {
        let (mut objects, mut depth) = (0u32, 0usize);
        loop {
            let byte = self.peek()?;
            match byte {
                b'"' => self.string().map(|_| ())?,
                b'{' | b'[' => {
                    self.bump();
                    let (object, close) = if byte == b'{' { (1, b'}') } else { (0, b']') };
                    if self.peek()? == close {
                        self.bump();
                    } else {
                        if depth >= SKIP_DEPTH {
                            return Err(Malformed::TooLarge("the depth of JSON"));
                        }
                        depth = depth.saturating_add(1);
                        objects = (objects << 1) | object;
                        if object == 1 {
                            self.string()?;
                            self.expect(b':')?;
                        }
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                b'-' | b'0'..=b'9' => self.number().map(|_| ())?,
                _ => return Err(SHAPE),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match (self.peek()?, object) {
                    (b',', _) => {
                        self.bump();
                        if object {
                            self.string()?;
                            self.expect(b':')?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.bump();
                        depth = depth.saturating_sub(1);
                        objects >>= 1;
                    }
                    (_, _) => return Err(SHAPE),
                }
            }
        }
    }
}

fn is_number(text: &[u8]) -> bool {
    let digits = |text: &mut &[u8]| {
        let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *text = text.get(len..).unwrap_or_default();
        len > 0
    };
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    if let [b'0', after @ ..] = rest {
        rest = after;
    } else if !digits(&mut rest) {
        return false;
    }
    if let [b'.', after @ ..] = rest {
        rest = after;
        if !digits(&mut rest) {
            return false;
        }
    }
    if let [b'e' | b'E', b'+' | b'-', after @ ..] | [b'e' | b'E', after @ ..] = rest {
        rest = after;
        if !digits(&mut rest) {
            return false;
        }
    }
    rest.is_empty()
}

/// Writes V2 JSON: text where the bytes are UTF-8, base64 where not, as the peers do.
///
/// # Errors
/// [`Malformed::Shape`] for a location that is not UTF-8: the format has no other form for it.
pub(crate) fn write(token: &Token<'_>) -> Result<String, Malformed> {
    let mut out = String::from("{\"v\":2");
    location(&mut out, token.location())?;
    out.push(',');
    data(&mut out, "i", token.identifier_bytes());
    // Some peers cannot read a token without this list, even an empty one.
    out.push_str(",\"c\":[");
    for (at, caveat) in token.caveats().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push('{');
        data(&mut out, "i", caveat.cid);
        if let Some(vid) = caveat.vid.map(<[u8; VID_BYTES]>::as_slice) {
            out.push(',');
            encoded(&mut out, "v", vid);
        }
        location(&mut out, caveat.location)?;
        out.push('}');
    }
    out.push_str("],");
    encoded(&mut out, "s", token.signature());
    out.push('}');
    Ok(out)
}

fn location(to: &mut String, location: Option<&[u8]>) -> Result<(), Malformed> {
    let Some(location) = location else { return Ok(()) };
    if core::str::from_utf8(location).is_err() {
        return Err(Malformed::Shape("a location that is not UTF-8"));
    }
    to.push(',');
    data(to, "l", location);
    Ok(())
}

fn data(to: &mut String, name: &str, bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return encoded(to, name, bytes) };
    to.push('"');
    to.push_str(name);
    to.push_str("\":\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => to.extend(['\\', character]),
            '\0'..' ' | '\u{7f}' => {
                // Writing to a String does not fail.
                let _ = write!(to, "\\u{:04x}", u32::from(character));
            }
            _ => to.push(character),
        }
    }
    to.push('"');
}

fn encoded(to: &mut String, name: &str, bytes: &[u8]) {
    to.push('"');
    to.push_str(name);
    to.push_str("64\":\"");
    crate::base64::encode(bytes, to);
    to.push('"');
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString as _;

    use super::*;

    const SIGNATURE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn strict(text: &str) -> Result<Vec<u8>, Malformed> {
        read(text.as_bytes(), &Caps::OWN)
    }

    fn lenient(text: &str) -> Result<Vec<u8>, Malformed> {
        read(text.as_bytes(), &Caps::FOREIGN)
    }

    fn example() -> String {
        let vid = "BwcH".repeat(24);
        format!(
            r#"{{"v":2,"l":"https://m\u00fcller.example","i":"id \"\\ \u0000","c":[{{"i":"a = 1"}},{{"i":""}},{{"i64":"_w","v64":"{vid}","l":"tp"}}],"s64":"{SIGNATURE}"}}"#
        )
    }

    #[test]
    fn reads_text_base64_and_escapes() {
        let bytes = strict(&example()).unwrap();
        let token = Token::read(&bytes, &Caps::OWN).unwrap();
        assert_eq!(token.location(), Some("https://müller.example".as_bytes()));
        assert_eq!(token.identifier_bytes(), b"id \"\\ \0");
        let cids: Vec<_> = token.caveats().map(|caveat| caveat.cid.to_vec()).collect();
        assert_eq!(cids, [b"a = 1".to_vec(), b"".to_vec(), b"\xff".to_vec()]);
        assert_eq!(token.signature()[31], 31);
        assert_eq!(lenient(&example()).unwrap(), bytes);
    }

    #[test]
    fn writes_what_reads_back() {
        let bytes = strict(&example()).unwrap();
        let text = write(&Token::read(&bytes, &Caps::OWN).unwrap()).unwrap();
        assert_eq!(read(text.as_bytes(), &Caps::OWN).unwrap(), bytes);
        let again = read(text.as_bytes(), &Caps::OWN).unwrap();
        assert_eq!(write(&Token::read(&again, &Caps::OWN).unwrap()).unwrap(), text);
        let none = strict(&format!(r#"{{"v":2,"i":"x","s64":"{SIGNATURE}"}}"#)).unwrap();
        assert_eq!(
            write(&Token::read(&none, &Caps::OWN).unwrap()).unwrap(),
            format!(r#"{{"v":2,"i":"x","c":[],"s64":"{SIGNATURE}"}}"#)
        );
    }

    #[test]
    fn every_cut_is_truncated() {
        for len in 0..example().len() {
            assert_eq!(
                read(&example().as_bytes()[..len], &Caps::FOREIGN),
                Err(Malformed::Truncated),
                "{len}"
            );
        }
    }

    /// TP-52.
    #[test]
    fn the_spellings_of_the_lenient_reader() {
        let standard = SIGNATURE.to_string() + "=";
        for text in [
            format!(r#"{{"i":"x","s64":"{SIGNATURE}"}}"#),
            format!(r#"{{"v":"2","i":"x","s64":"{SIGNATURE}"}}"#),
            // As the Rust crates write it.
            format!(
                r#"{{"v":2,"i":null,"i64":"eA==","l":null,"l64":null,"c":[{{"i":null,"i64":"eA==","l":null,"l64":null,"v":null,"v64":null}}],"s":null,"s64":"{SIGNATURE}="}}"#
            ),
            format!(r#"{{"v":2,"i":"x","l64":"eA","s64":"{SIGNATURE}"}}"#),
            format!(r#"{{"v":2,"i":"x","s64":"{standard}"}}"#),
            format!(
                r#"{{"v":2,"i":"x","s64":"{SIGNATURE}","n":{{"a":[1,-2.5e+3,true,false,null,"]",{{}},[]]}}}}"#
            ),
        ] {
            assert!(lenient(&text).is_ok(), "{text}");
            assert!(strict(&text).is_err(), "{text}");
        }
        let spaced =
            format!("\n {{ \"s64\" : \"{SIGNATURE}\" ,\t\"i\": \"x\", \"c\" : [ ] , \"v\": 2 }}\r\n");
        assert_eq!(strict(&spaced), strict(&format!(r#"{{"v":2,"i":"x","s64":"{SIGNATURE}"}}"#)));
        assert!(lenient(&format!(r#"{{"i64":"eA","s64":"{SIGNATURE}"}}"#)).is_ok());
    }

    #[test]
    fn wrong_json_is_refused_by_both() {
        let with = |rest: &str| format!(r#"{{"v":2,"s64":"{SIGNATURE}",{rest}}}"#);
        for text in [
            with(r#""i":"x","i64":"eA""#),
            with(r#""i":"x","i":"x""#),
            with(r#""i":"x","v":2"#),
            with(r#""i":"x","c":[],"c":[]"#),
            with(r#""i":"x","l":"a","l":"a""#),
            with(r#""i":"x","v64":"eA""#),
            with(r#""i":"x","c":[{}]"#),
            with(r#""i":"x","c":[{"i":"x","i64":"eA"}]"#),
            with(r#""i":"x","c":[{"i":"x","s64":"eA"}]"#),
            with(r#""i":"x","c":[{"i":"x","v64":"eA"}]"#),
            with(r#""i":"x","c":[{"i":"x","v64":""}]"#),
            with(r#""i":"x","c":[{"i":"x"},]"#),
            with(r#""i":"x","c":[,{"i":"x"}]"#),
            with(r#""i":"x","c":[{"i":"x"}{"i":"x"}]"#),
            with(r#""i":"x","c":{"i":"x"}"#),
            with(r#""i":"x","c":["x"]"#),
            with(r#""i":"x","c":null"#),
            with(r#""i":"x","#),
            with(r#""i":1"#),
            with(r#""i":null"#),
            with(r#""i":"x","l":"x","l64":"eA""#),
            with(r#""i":"\x""#),
            with(r#""i":"\ud800""#),
            with(r#""i":"\ud800\u0041""#),
            with(r#""i":"\udc00""#),
            with(r#""i":"\u12g4""#),
            with(r#""i":"a"b""#),
            with("\"i\":\"a\nb\""),
            with(r#""i64":"e\u0041""#),
            with(r#""i64":"!!""#),
            with(r#""l":"x""#),
            format!("[{}]", with(r#""i":"x""#)),
            with(r#""i":"x""#) + ",",
            with(r#""i":"x""#) + "{}",
            format!(r#"{{"v":3,"i":"x","s64":"{SIGNATURE}"}}"#),
            format!(r#"{{"v":"3","i":"x","s64":"{SIGNATURE}"}}"#),
            format!(r#"{{"v":2.0,"i":"x","s64":"{SIGNATURE}"}}"#),
            format!(r#"{{"v":null,"i":"x","s64":"{SIGNATURE}"}}"#),
            r#"{"v":2,"i":"x","s64":"AAAA"}"#.to_string(),
            r#"{"v":2,"i":"x"}"#.to_string(),
        ] {
            assert!(strict(&text).is_err(), "{text}");
            assert!(lenient(&text).is_err(), "{text}");
        }
        assert_eq!(lenient(&with(r#""i":"\ud83d\ude00""#)).unwrap(), lenient(&with(r#""i":"😀""#)).unwrap());
        assert!(read(b"{\"i\":\"\xff\"}", &Caps::FOREIGN).is_err());
    }

    #[test]
    fn deep_nesting_ends_at_a_limit_and_costs_no_stack() {
        let nested = |depth: usize| {
            format!(r#"{{"i":"x","s64":"{SIGNATURE}","n":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
        };
        assert!(lenient(&nested(SKIP_DEPTH)).is_ok());
        // The innermost bracket is empty and opens nothing.
        assert!(lenient(&nested(SKIP_DEPTH + 1)).is_ok());
        assert_eq!(lenient(&nested(SKIP_DEPTH + 2)), Err(Malformed::TooLarge("the depth of JSON")));
        assert!(lenient(&nested(100_000)).is_err());
        let objects = format!(
            r#"{{"i":"x","s64":"{SIGNATURE}","n":{}1{}}}"#,
            r#"{"a":"#.repeat(100_000),
            "}".repeat(100_000)
        );
        assert!(lenient(&objects).is_err());
    }

    #[test]
    fn numbers_are_those_of_rfc_8259() {
        for text in ["0", "-0", "2", "10.5", "1e5", "1E+5", "-2.5e-3"] {
            assert!(is_number(text.as_bytes()), "{text}");
        }
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "1-2", "--1"] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }
}
