//! Small JSON values, strict: one value, no doubled member, no depth beyond four. PyPI's caveats need no
//! more, and the signer's command line neither.

use alloc::string::String;
use alloc::vec::Vec;

#[cfg(feature = "__json")]
mod write;

/// Arrays and objects inside each other; the deepest caveat known has three.
const DEPTH: usize = 4;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer without fraction or exponent; beyond 128 bits cut to the nearest that fits.
    Int(i128),
    /// Any other number, as it stands: no caveat has one.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; its members in their order.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value; `None` when it is none, or larger than what this is for.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let value = reader.value(DEPTH)?;
        reader.space();
        reader.rest.is_empty().then_some(value)
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        self.space();
        match self.rest.as_bytes().first()? {
            b'n' => self.take("null").then_some(Json::Null),
            b't' => self.take("true").then_some(Json::Bool(true)),
            b'f' => self.take("false").then_some(Json::Bool(false)),
            b'"' => self.text().map(Json::Text),
            b'[' => self.array(depth.checked_sub(1)?),
            b'{' => self.object(depth.checked_sub(1)?),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.take("[");
        let mut values = Vec::new();
        self.space();
        if self.take("]") {
            return Some(Json::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            self.space();
            if self.take("]") {
                return Some(Json::Array(values));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        /// No caveat has more than eight; a bound keeps the search for doubled ones linear.
        const MEMBERS: usize = 16;
        self.take("{");
        let mut members: Vec<(String, Json)> = Vec::new();
        self.space();
        if self.take("}") {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.space();
            if members.len() >= MEMBERS || members.iter().any(|(known, _)| *known == name) || !self.take(":")
            {
                return None;
            }
            let value = self.value(depth)?;
            members.push((name, value));
            self.space();
            if self.take("}") {
                return Some(Json::Object(members));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = self.rest.bytes().position(|byte| !is_number(&byte)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        let (negative, digits) = match number.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, number),
        };
        match digits.as_bytes() {
            // `-0` is a look-alike of 0 and no caveat's.
            [b'0'] if !negative => Some(Json::Int(0)),
            [b'1'..=b'9', more @ ..] if more.iter().all(u8::is_ascii_digit) => {
                let cut = if negative { i128::MIN } else { i128::MAX };
                Some(Json::Int(number.parse().unwrap_or(cut)))
            }
            [b'0', b'0'..=b'9', ..] | [] => None,
            _ => Some(Json::Number(number.into())),
        }
    }

    fn text(&mut self) -> Option<String> {
        if !self.take("\"") {
            return None;
        }
        let mut text = String::new();
        loop {
            let mut chars = self.rest.chars();
            let c = chars.next()?;
            self.rest = chars.as_str();
            match c {
                '"' => return Some(text),
                '\\' => text.push(self.escape()?),
                '\0'..='\u{1f}' => return None,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.hex4()?;
                match unit {
                    0xd800..=0xdbff => {
                        if !self.take("\\u") {
                            return None;
                        }
                        let low = self.hex4().filter(|low| (0xdc00..=0xdfff).contains(low))?;
                        char::decode_utf16([unit, low]).next()?.ok()?
                    }
                    _ => char::from_u32(unit.into())?,
                }
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u16> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        for good in
            ["[]", " [ 0 , -1 ] ", "{\"a\":{\"b\":[\"c\"]}}", "\"\\ud83d\\ude00\"", "null", "1e3", "[-0]"]
        {
            assert!(Json::read(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "[",
            "[1,]",
            "[01]",
            "{\"a\":1,\"a\":1}",
            "[1] 2",
            "NaN",
            "'a'",
            "\"\\ud800\"",
            "\"\n\"",
            "{1:2}",
            "[[[[[1]]]]]",
            "-",
            "\u{feff}[]",
            "truex",
        ] {
            assert!(Json::read(bad).is_none(), "{bad}");
        }
        assert_eq!(Json::read("-0"), Some(Json::Number("-0".into())));
        assert_eq!(Json::read("1.0"), Some(Json::Number("1.0".into())));
        assert_eq!(Json::read(&"9".repeat(60)), Some(Json::Int(i128::MAX)));
    }
}
