//! Addresses, and the rule that everything hangs on: one origin is never left for another.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest address accepted, in bytes. Browsers and proxies cut at about this length.
const URL_BYTES: usize = 2048;

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

/// An absolute `https` address; `http` for loopback only. No user, no fragment, ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    origin: Origin,
    /// Begins with a slash; dot segments are resolved.
    path: String,
    /// With its question mark, or empty.
    query: String,
}

/// Why a text is no address that may be contacted or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// Longer than 2,048 bytes.
    TooLong,
    /// A space, a control character, a backslash or a character outside ASCII.
    Character,
    /// Neither `https` nor `http`.
    Scheme,
    /// `http` to a host that is not loopback.
    NotEncrypted,
    /// A user name or password in the address.
    User,
    /// A fragment, which no server sees.
    Fragment,
    /// The host is missing or is no name or address.
    Host,
    /// The port is no number from 1 to 65535.
    Port,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the address is longer than 2048 bytes",
            Self::Character => "the address has a character that none may have",
            Self::Scheme => "the address is not an https address",
            Self::NotEncrypted => "the address is http, and not on this machine",
            Self::User => "the address has a user name",
            Self::Fragment => "the address has a fragment",
            Self::Host => "the address has no proper host",
            Self::Port => "the address has no proper port",
        })
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default_port(self.secure) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.origin, self.path, self.query)
    }
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl Address {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        characters(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(AddressError::Scheme),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(AddressError::Host)?;
        if authority.contains('@') {
            return Err(AddressError::User);
        }
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            None => default_port(secure),
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(AddressError::Port)?
            }
            Some(_) => return Err(AddressError::Port),
        };
        if !secure && !is_loopback(&host) {
            return Err(AddressError::NotEncrypted);
        }
        let (path, query) = split_query(rest);
        Ok(Self { origin: Origin { secure, host, port }, path: normal(path), query: query.to_owned() })
    }

    /// Resolves what a server at this address wrote: absolute, or relative to it (RFC 3986, 5.2).
    /// Whether the result may be contacted is the caller's to check, by its origin.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn resolve(&self, reference: &str) -> Result<Self, AddressError> {
        characters(reference)?;
        let scheme_end =
            reference.find(':').filter(|at| reference.find(['/', '?']).is_none_or(|slash| *at < slash));
        if scheme_end.is_some() {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            let scheme = if self.origin.secure { "https:" } else { "http:" };
            return Self::parse(&format!("{scheme}{reference}"));
        }
        let (path, query) = split_query(reference);
        let path = match path {
            "" => self.path.clone(),
            absolute if absolute.starts_with('/') => normal(absolute),
            relative => {
                let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                normal(&format!("{folder}/{relative}"))
            }
        };
        let query = if query.is_empty() && reference.is_empty() { &self.query } else { query };
        Ok(Self { origin: self.origin.clone(), path, query: query.to_owned() })
    }

    /// Whether it is an `https` address.
    pub(crate) const fn is_secure(&self) -> bool {
        self.origin.secure
    }

    /// Whom this address belongs to.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }
}

fn characters(text: &str) -> Result<(), AddressError> {
    if text.len() > URL_BYTES {
        return Err(AddressError::TooLong);
    }
    if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
        return Err(AddressError::Character);
    }
    if text.contains('#') { Err(AddressError::Fragment) } else { Ok(()) }
}

fn split_query(text: &str) -> (&str, &str) {
    let at = text.find('?').unwrap_or(text.len());
    text.split_at_checked(at).unwrap_or((text, ""))
}

fn host_and_port(authority: &str) -> Result<(String, Option<&str>), AddressError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Host)?;
        let host: Ipv6Addr = host.parse().map_err(|_| AddressError::Host)?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(AddressError::Port)?),
        };
        return Ok((format!("[{host}]"), port));
    }
    let (host, port) = match authority.split_once(':') {
        None => (authority, None),
        Some((host, port)) => (host, Some(port)),
    };
    let host = host.to_ascii_lowercase();
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if host.is_empty() || !is_name || host.starts_with('.') || host.contains("..") {
        return Err(AddressError::Host);
    }
    Ok((host, port))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 3986, 5.2.4: resolves `.` and `..`.
fn normal(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.trim_start_matches('/').split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." if last => segments.push(""),
            "." => {}
            ".." => {
                segments.pop();
                if last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn origins_compare_by_scheme_host_and_port() {
        let origin = |text| parse(text).origin().clone();
        assert_eq!(origin("https://Auth.example/a?b"), origin("HTTPS://auth.example:443"));
        for other in [
            "https://auth.example:444/",
            "https://auth.example.evil/",
            "http://127.0.0.1/",
            "https://a.auth.example/",
        ] {
            assert_ne!(origin("https://auth.example/"), origin(other), "{other}");
        }
        assert_ne!(origin("http://localhost:443/"), origin("https://localhost/"));
        assert_eq!(origin("https://[0:0::1]/"), origin("https://[::1]:443/x"));
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for text in ["http://127.0.0.1:8080/x", "http://127.9.9.9/", "http://[::1]:80/", "http://localhost/"]
        {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://auth.example/",
            "http://127.0.0.1.evil.example/",
            "http://10.0.0.1/",
            "http://localhost.evil/",
            "http://[2001:db8::1]/",
        ] {
            assert_eq!(Address::parse(text), Err(AddressError::NotEncrypted), "{text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for (text, error) in [
            ("", AddressError::Scheme),
            ("auth.example/x", AddressError::Scheme),
            ("ftp://auth.example/", AddressError::Scheme),
            ("javascript://auth.example/", AddressError::Scheme),
            ("https://", AddressError::Host),
            ("https:///x", AddressError::Host),
            ("https://a..b/", AddressError::Host),
            ("https://user@auth.example/", AddressError::User),
            ("https://auth.example@evil.example/", AddressError::User),
            ("https://auth.example\\@evil.example/", AddressError::Character),
            ("https://auth.example/ x", AddressError::Character),
            ("https://auth.example/\n", AddressError::Character),
            ("https://müller.example/", AddressError::Character),
            ("https://auth.example/#x", AddressError::Fragment),
            ("https://auth.example:/", AddressError::Port),
            ("https://auth.example:0/", AddressError::Port),
            ("https://auth.example:65536/", AddressError::Port),
            ("https://auth.example:+1/", AddressError::Port),
            ("https://[::1/", AddressError::Host),
            ("https://[::1]x/", AddressError::Port),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
        assert!(Address::parse(&format!("https://a/{}", "x".repeat(2038))).is_ok());
        assert_eq!(Address::parse(&format!("https://a/{}", "x".repeat(2039))), Err(AddressError::TooLong));
    }

    #[test]
    fn references_resolve_as_in_rfc_3986() {
        let base = parse("https://auth.example/v1/discharge?x=1");
        for (reference, resolved) in [
            ("/poll/7", "https://auth.example/poll/7"),
            ("poll/7", "https://auth.example/v1/poll/7"),
            ("./poll/7?a=b", "https://auth.example/v1/poll/7?a=b"),
            ("../poll", "https://auth.example/poll"),
            ("../../../poll/..", "https://auth.example/"),
            ("?id=7", "https://auth.example/v1/discharge?id=7"),
            ("", "https://auth.example/v1/discharge?x=1"),
            ("https://auth.example:443/a", "https://auth.example/a"),
            ("//evil.example/a", "https://evil.example/a"),
            ("https://evil.example/a", "https://evil.example/a"),
        ] {
            assert_eq!(base.resolve(reference).unwrap().to_string(), resolved, "{reference}");
        }
        for reference in
            ["javascript:alert(1)", "data:,x", "http://auth.example/", "\\\\evil.example", "mailto:a@b"]
        {
            assert!(base.resolve(reference).is_err(), "{reference}");
        }
    }
}
