//! The trust file: what a service must be given to believe a feed and to find the signer.
//! `tksign init` writes it; nothing in it is secret.

use std::fmt;
use std::path::Path;

use serde_json::Value;
use tkcore::FeedId;

use crate::remote::UNIX_SCHEME;

/// Whom a verifier believes and where it asks. Public, but whoever can change it decides whom
/// the service believes: keep it writable for administrators only.
///
/// ```json
/// {"feed":"<32 hex>","threshold":1,"root_keys":["<64 hex>"],
///  "signers":[{"url":"http://10.0.0.5:7300","key":"<64 hex>"}],
///  "feeds":["http://10.0.0.5:7301"]}
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The one feed that is believed.
    pub feed: FeedId,
    /// How many of the root keys must have signed a key list; at least 1.
    pub threshold: u8,
    /// Ed25519 public keys, kept offline by the operator; 1 to 16, all different.
    pub root_keys: Vec<[u8; 32]>,
    /// Where the signer can be asked; may be empty for a service that decides offline.
    pub signers: Vec<SignerAddress>,
    /// Where the feed is served, most preferred first; may be empty when a folder is used.
    pub feeds: Vec<String>,
}

/// One address of the signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerAddress {
    /// `http://host:port`, or `unix:/path` for a signer on the same machine.
    pub url: String,
    /// The X25519 public key that the signer must prove to hold.
    pub key: [u8; 32],
}

/// Why a text is no trust file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustError {
    /// The file cannot be read; the operating system's words.
    Read(String),
    /// Not JSON; where and why.
    Json(String),
    /// A member is missing, wrong, doubled in meaning, or unknown.
    Member(&'static str, &'static str),
    /// A member that this version does not know. It could be a restriction, so it is refused.
    Unknown(String),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(why) => write!(f, "the trust file cannot be read: {why}"),
            Self::Json(why) => write!(f, "the trust file is not JSON: {why}"),
            Self::Member(name, why) => write!(f, "the trust file's member \"{name}\": {why}"),
            Self::Unknown(name) => write!(f, "the trust file has an unknown member \"{name}\""),
        }
    }
}

impl std::error::Error for TrustError {}

/// Longest trust file, in bytes: 16 keys and some dozen addresses are 4 KiB.
pub const TRUST_BYTES: usize = 64 * 1024;

/// Most root keys, and most addresses of a kind: more than any deployment is likely to have,
/// few enough that trying all of them in turn stays quick.
const MOST: usize = 16;

impl Trust {
    /// Reads a trust file.
    ///
    /// # Errors
    /// As [`Trust::from_json`], or [`TrustError::Read`].
    pub fn from_file(path: &Path) -> Result<Self, TrustError> {
        let read = |e: std::io::Error| TrustError::Read(format!("{}: {e}", path.display()));
        let length = std::fs::metadata(path).map_err(read)?.len();
        if usize::try_from(length).map_or(true, |length| length > TRUST_BYTES) {
            return Err(TrustError::Read(format!("{}: longer than 64 KiB", path.display())));
        }
        Self::from_json(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// Reads the text of a trust file.
    ///
    /// # Errors
    /// [`TrustError`] names the member that is wrong.
    pub fn from_json(text: &str) -> Result<Self, TrustError> {
        let value: Value = serde_json::from_str(text).map_err(|e| TrustError::Json(e.to_string()))?;
        let Value::Object(members) = value else {
            return Err(TrustError::Json("not an object".to_owned()));
        };
        for name in members.keys() {
            if !["feed", "threshold", "root_keys", "signers", "feeds"].contains(&name.as_str()) {
                return Err(TrustError::Unknown(name.clone()));
            }
        }
        let feed = members
            .get("feed")
            .and_then(Value::as_str)
            .and_then(FeedId::from_hex)
            .ok_or(TrustError::Member("feed", "must be 32 lower-case hexadecimal digits"))?;
        let root_keys = list(members.get("root_keys"), "root_keys")?
            .iter()
            .map(|key| key.as_str().and_then(key_from_hex))
            .collect::<Option<Vec<_>>>()
            .ok_or(TrustError::Member("root_keys", "each must be 64 lower-case hexadecimal digits"))?;
        if root_keys.is_empty() {
            return Err(TrustError::Member("root_keys", "at least one is needed"));
        }
        if root_keys.iter().enumerate().any(|(at, key)| root_keys[..at].contains(key)) {
            return Err(TrustError::Member("root_keys", "one is listed twice"));
        }
        let threshold = members
            .get("threshold")
            .and_then(Value::as_u64)
            .and_then(|k| u8::try_from(k).ok())
            .filter(|k| *k >= 1 && usize::from(*k) <= root_keys.len())
            .ok_or(TrustError::Member("threshold", "must be from 1 to the number of root keys"))?;
        let signers = match members.get("signers") {
            None => Vec::new(),
            some => list(some, "signers")?.iter().map(signer).collect::<Result<_, _>>()?,
        };
        let feeds = match members.get("feeds") {
            None => Vec::new(),
            some => list(some, "feeds")?
                .iter()
                .map(|url| url.as_str().and_then(base_url))
                .collect::<Option<_>>()
                .ok_or(TrustError::Member("feeds", "each must be an http:// or https:// address"))?,
        };
        Ok(Self { feed, threshold, root_keys, signers, feeds })
    }

    /// The text of a trust file that reads back as `self`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "feed": self.feed.to_string(),
            "threshold": self.threshold,
            "root_keys": self.root_keys.iter().map(|key| hex(key)).collect::<Vec<_>>(),
            "signers": self.signers.iter()
                .map(|signer| serde_json::json!({"url": signer.url, "key": hex(&signer.key)}))
                .collect::<Vec<_>>(),
            "feeds": self.feeds,
        })
        .to_string()
    }
}

fn list<'a>(value: Option<&'a Value>, name: &'static str) -> Result<&'a [Value], TrustError> {
    let list = value.and_then(Value::as_array).ok_or(TrustError::Member(name, "must be a list"))?;
    if list.len() > MOST {
        return Err(TrustError::Member(name, "more than 16"));
    }
    Ok(list)
}

fn signer(value: &Value) -> Result<SignerAddress, TrustError> {
    let wrong = TrustError::Member(
        "signers",
        "each must be {\"url\": \"http://…\" or \"unix:/…\", \"key\": \"<64 hex>\"}",
    );
    let members = value.as_object().filter(|members| members.len() == 2).ok_or_else(|| wrong.clone())?;
    let url = members.get("url").and_then(Value::as_str).and_then(signer_url).ok_or_else(|| wrong.clone())?;
    let key = members.get("key").and_then(Value::as_str).and_then(key_from_hex).ok_or(wrong)?;
    Ok(SignerAddress { url, key })
}

/// Longest path of a Unix socket, in bytes (`sun_path` without its end, unix(7)); its name in
/// hexadecimal still fits a host of a URL.
const SOCKET_PATH: usize = 107;

/// An address of a signer: as of a feed, or an absolute path of a Unix socket.
fn signer_url(text: &str) -> Option<String> {
    match text.strip_prefix(UNIX_SCHEME) {
        Some(path) => {
            (path.starts_with('/') && path.len() <= SOCKET_PATH && !path.contains(char::is_control))
                .then(|| text.to_owned())
        }
        None => base_url(text),
    }
}

/// An address without a trailing slash, so that paths can be put behind it.
pub(crate) fn base_url(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let host = rest.split('/').next()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (!host.is_empty() && plain && !rest.contains(['?', '#', '@'])).then(|| text.to_owned())
}

/// 32 bytes from 64 lower-case hexadecimal digits.
pub(crate) fn key_from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut key = [0u8; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(key)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Trust {
        Trust {
            feed: FeedId::from_bytes([7; 16]),
            threshold: 2,
            root_keys: vec![[1; 32], [2; 32]],
            signers: vec![SignerAddress { url: "http://127.0.0.1:7300".to_owned(), key: [3; 32] }],
            feeds: vec!["https://feed.example/tk".to_owned()],
        }
    }

    #[test]
    fn reads_back() {
        assert_eq!(Trust::from_json(&example().to_json()), Ok(example()));
    }

    #[test]
    fn addresses_are_optional_and_lose_their_last_slash() {
        let text =
            format!(r#"{{"feed":"{}","threshold":1,"root_keys":["{}"]}}"#, "ab".repeat(16), hex(&[9; 32]));
        let trust = Trust::from_json(&text).unwrap();
        assert!(trust.signers.is_empty() && trust.feeds.is_empty());
        assert_eq!(base_url("http://h:1/"), Some("http://h:1".to_owned()));
    }

    #[test]
    fn a_signer_may_be_behind_a_unix_socket_and_a_feed_not() {
        let path = |len: usize| format!("unix:/{}", "x".repeat(len - 1));
        for (url, taken) in [
            ("unix:/run/tksign/rpc.sock", true),
            (&path(107), true),
            (&path(108), false),
            ("unix:", false),
            ("unix:rpc.sock", false),
            ("unix:/a\nb", false),
        ] {
            assert_eq!(signer_url(url).is_some(), taken, "{url}");
            assert_eq!(base_url(url), None);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let Value::Object(mut members) = serde_json::from_str(&example().to_json()).unwrap() else {
                unreachable!()
            };
            change(&mut members);
            Trust::from_json(&Value::Object(members).to_string()).unwrap_err()
        };
        let member = |error: TrustError| match error {
            TrustError::Member(name, _) => name,
            other => panic!("{other}"),
        };
        for name in ["feed", "threshold", "root_keys"] {
            assert_eq!(member(wrong(&|members| drop(members.remove(name)))), name);
        }
        assert_eq!(member(wrong(&|m| drop(m.insert("threshold".into(), 3.into())))), "threshold");
        assert_eq!(member(wrong(&|m| drop(m.insert("threshold".into(), 0.into())))), "threshold");
        assert_eq!(member(wrong(&|m| drop(m.insert("feed".into(), "AB".repeat(16).into())))), "feed");
        let twice = vec![hex(&[1; 32]), hex(&[1; 32])];
        assert_eq!(member(wrong(&|m| drop(m.insert("root_keys".into(), twice.clone().into())))), "root_keys");
        for url in ["ftp://x", "http://", "http://a b", "http://u@h", "http://h?x"] {
            assert_eq!(
                member(wrong(&|m| drop(m.insert("feeds".into(), vec![url].into())))),
                "feeds",
                "{url}"
            );
        }
        let many = vec!["http://h"; MOST + 1];
        assert_eq!(member(wrong(&|m| drop(m.insert("feeds".into(), many.clone().into())))), "feeds");
        assert!(matches!(wrong(&|m| drop(m.insert("extra".into(), 1.into()))), TrustError::Unknown(_)));
        assert!(matches!(Trust::from_json("[]"), Err(TrustError::Json(_))));
        assert!(matches!(Trust::from_json("{"), Err(TrustError::Json(_))));
    }
}
