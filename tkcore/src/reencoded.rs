//! Our own tokens in the formats of holders whose library knows no V2 binary.

#[cfg(feature = "json")]
use alloc::string::String;
use alloc::vec::Vec;

#[cfg(feature = "json")]
use zeroize::Zeroizing;

use crate::error::Malformed;
use crate::token::{Token, TokenBuf};
use crate::wire::canonical::Caps;
use crate::wire::v1;

impl Token<'_> {
    /// The V1 bytes, for a holder whose library knows only these. A bearer secret.
    ///
    /// # Errors
    /// [`Malformed`] only if the token's own bytes do not read, which its maker rules out.
    pub fn to_v1(&self) -> Result<Vec<u8>, Malformed> {
        v1::write(self)
    }

    /// V2 JSON text. A bearer secret.
    ///
    /// # Errors
    /// As [`Token::to_v1`].
    #[cfg(feature = "json")]
    pub fn to_json(&self) -> Result<String, Malformed> {
        crate::wire::json::write(self)
    }
}

impl TokenBuf {
    /// Reads V1 bytes strictly, with the limits of our own tokens. The bytes of every field stay
    /// what they were, so the chain is the one that was signed.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_v1(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::from_v2(v1::read(bytes, &Caps::OWN)?)
    }

    /// Reads V2 JSON strictly: `"v":2`, URL-safe base64, no unknown member.
    ///
    /// # Errors
    /// [`Malformed`].
    #[cfg(feature = "json")]
    pub fn from_json(text: &str) -> Result<Self, Malformed> {
        let text = Zeroizing::new(Vec::from(text));
        Self::from_v2(crate::wire::json::read(&text, &Caps::OWN)?)
    }
}

#[cfg(test)]
#[cfg(all(feature = "mint", feature = "json"))]
mod tests {
    use super::*;
    use crate::attenuate;
    use crate::plain::Macaroon;
    use crate::{RootKey, limits};

    fn token() -> TokenBuf {
        let macaroon = Macaroon::create(&RootKey::derive(b"k"), b"\x01id\xff", None).unwrap();
        let token = TokenBuf::from_v2(macaroon.to_v2().to_vec()).unwrap();
        attenuate(&token.as_token(), &["action in read,list", "host = \"build agent 7\""]).unwrap()
    }

    #[test]
    fn every_format_gives_the_same_token() {
        let token = token();
        let v1 = TokenBuf::from_v1(&token.as_token().to_v1().unwrap()).unwrap();
        assert_eq!(v1.as_token().as_v2(), token.as_token().as_v2());
        let json = TokenBuf::from_json(&token.as_token().to_json().unwrap()).unwrap();
        assert_eq!(json.as_token().as_v2(), token.as_token().as_v2());
    }

    #[test]
    fn the_limits_are_those_of_our_own_tokens() {
        let fits = "x".repeat(limits::CAVEAT_BYTES);
        let token = attenuate(&token().as_token(), &[&fits]).unwrap();
        let v1 = token.as_token().to_v1().unwrap();
        assert!(TokenBuf::from_v1(&v1).is_ok());
        let mut macaroon = Macaroon::from_bytes_lenient(token.as_token().as_v2()).unwrap();
        macaroon.attenuate((fits + "x").as_bytes()).unwrap();
        assert_eq!(
            TokenBuf::from_v1(&macaroon.to_v1().unwrap()).unwrap_err(),
            Malformed::TooLarge("a caveat")
        );
        assert_eq!(
            TokenBuf::from_json(&macaroon.to_json().unwrap()).unwrap_err(),
            Malformed::TooLarge("a caveat")
        );
    }
}
