//! What client and authority say to each other, as JSON (docs/spec/third-party.md, TP-60 to TP-66).

use serde_json::{Map, Value};

/// Longest body read from the other side: a discharge of the greatest length in base64 is
/// 21,852 characters; the rest is room for addresses and a sentence.
pub(crate) const BODY_BYTES: usize = 32 * 1024;

/// What an authority answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The discharge, as text.
    Discharge(String),
    /// Not yet; ask again. Addresses stand in the first such answer and may in later ones.
    Pending { poll_url: Option<String>, user_url: Option<String> },
    /// No, with a stable code and a sentence.
    Refused { code: String, message: String },
}

pub(crate) fn ticket_body(ticket: &str) -> String {
    let mut object = Map::new();
    object.insert("ticket".to_owned(), ticket.into());
    Value::Object(object).to_string()
}

/// The ticket of a request body.
pub(crate) fn read_ticket(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get("ticket")?.as_str().map(str::to_owned)
}

impl Answer {
    /// Reads a body. Anything but exactly one of the three answers is none.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let object = value.as_object()?;
        let text = |name: &str| object.get(name).map(|value| value.as_str().map(str::to_owned));
        let member = |name: &str| match text(name) {
            None => Some(None),
            Some(Some(text)) => Some(Some(text)),
            Some(None) => None,
        };
        let (discharge, poll_url, user_url) =
            (member("discharge")?, member("poll_url")?, member("user_url")?);
        match (discharge, member("error")?) {
            (Some(discharge), None) if poll_url.is_none() && user_url.is_none() => {
                Some(Self::Discharge(discharge))
            }
            (None, Some(code)) if poll_url.is_none() && user_url.is_none() => {
                Some(Self::Refused { code, message: member("message")?.unwrap_or_default() })
            }
            (None, None) => Some(Self::Pending { poll_url, user_url }),
            (_, _) => None,
        }
    }

    pub(crate) fn write(&self) -> String {
        let mut object = Map::new();
        let mut put = |name: &str, value: &str| object.insert(name.to_owned(), value.into());
        match self {
            Self::Discharge(text) => {
                put("discharge", text);
            }
            Self::Pending { poll_url, user_url } => {
                if let Some(url) = poll_url {
                    put("poll_url", url);
                }
                if let Some(url) = user_url {
                    put("user_url", url);
                }
            }
            Self::Refused { code, message } => {
                put("error", code);
                put("message", message);
            }
        }
        Value::Object(object).to_string()
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Unpadded URL-safe base64 of a ticket or an id.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for shift in [18u32, 12, 6, 0].into_iter().take(chunk.len().saturating_add(1)) {
            let index = usize::try_from((group >> shift) & 63).unwrap_or(0);
            text.push(ALPHABET.get(index).copied().map_or('A', char::from));
        }
    }
    text
}

/// The bytes of unpadded URL-safe base64 in its one spelling.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len().div_ceil(4).saturating_mul(3));
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0u32;
        for at in 0..4 {
            let six = match chunk.get(at) {
                None => 0,
                Some(character) => ALPHABET.iter().position(|letter| letter == character)?,
            };
            group = (group << 6) | u32::try_from(six).ok()?;
        }
        let [_, a, b, c] = group.to_be_bytes();
        match (chunk.len(), b, c) {
            (4, _, _) => bytes.extend([a, b, c]),
            (3, _, 0) => bytes.extend([a, b]),
            (2, 0, 0) => bytes.push(a),
            (_, _, _) => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_back() {
        for answer in [
            Answer::Discharge("td1_x".to_owned()),
            Answer::Pending { poll_url: Some("/p".to_owned()), user_url: None },
            Answer::Pending { poll_url: Some("/p".to_owned()), user_url: Some("/u".to_owned()) },
            Answer::Pending { poll_url: None, user_url: None },
            Answer::Refused { code: "refused".to_owned(), message: "no \"such\" user".to_owned() },
        ] {
            assert_eq!(Answer::read(answer.write().as_bytes()), Some(answer));
        }
    }

    #[test]
    fn two_answers_at_once_are_none() {
        for body in [
            r#"{"discharge":"a","poll_url":"b"}"#,
            r#"{"discharge":"a","error":"b"}"#,
            r#"{"error":"a","poll_url":"b"}"#,
            r#"{"discharge":1}"#,
            r#"{"poll_url":null}"#,
            "[]",
            "",
            "<html>",
        ] {
            assert_eq!(Answer::read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_ticket_body_reads_back() {
        assert_eq!(read_ticket(ticket_body("abc").as_bytes()).as_deref(), Some("abc"));
        for body in [r#"{"ticket":1}"#, r#"{}"#, r#"{"ticket":"a","x":1}"#, "x"] {
            assert_eq!(read_ticket(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        for len in 0..70u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(97)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
        for text in ["A", "Zh", "Zm9", "Zg==", "Z g", "++//"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
