use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::base64;
use crate::chain::Roll;
use crate::error::{Error, Malformed};
use crate::extend::Draft;
use crate::fault::Party;
use crate::ids::LineageId;
use crate::key::{RootKey, Tail};
use crate::revocation::foreign_lineage;
#[cfg(feature = "third-party")]
use crate::third_party::{holder, vid::CaveatKey};
use crate::token::{Token, TokenBuf};
use crate::wire::canonical::{Assembler, Caps, Reading};
use crate::wire::v2::RawCaveat;
use crate::wire::{self, v1};

/// A macaroon of any maker, well-formed and not yet verified. A bearer secret: wiped on drop, not
/// `Clone`, and `Debug` shows nothing of it.
///
/// Our own signer's tokens are [`crate::Token`]s, which know their tenant, their expiry and how
/// they are revoked. This type is for everything else.
pub struct Macaroon(TokenBuf);

impl Macaroon {
    /// Makes a macaroon. The identifier must let the verifier find the key again and say whom the
    /// macaroon is for; it is what a revocation names, so give each macaroon one of its own.
    ///
    /// # Errors
    /// [`Malformed::Shape`] for an empty identifier, [`Malformed::TooLarge`] past
    /// [`crate::limits::FOREIGN_TOKEN_BYTES`].
    pub fn create(key: &RootKey, identifier: &[u8], location: Option<&str>) -> Result<Self, Malformed> {
        let caps = Caps { reading: Reading::Strict, ..Caps::FOREIGN };
        let out = Assembler::start(&caps, location.map(str::as_bytes), identifier)?;
        Self::canonical(out.finish(Roll::start(key, identifier).tail().expose())?)
    }

    /// Reads what other macaroon libraries write: V1 or V2 bytes, or (with the feature `json`)
    /// V2 JSON text.
    ///
    /// Lenient where the peers agree: see docs/spec/third-party.md, TP-50 and following. Use it
    /// for other makers' macaroons only; our signer's tokens have one spelling.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_bytes_lenient(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes {
            [] => Err(Malformed::Missing),
            [2, ..] => Self::from_v2(bytes),
            [b'0'..=b'9' | b'a'..=b'f', ..] => Self::canonical(v1::read(bytes, &Caps::FOREIGN)?),
            [b'{' | b' ' | b'\t' | b'\r' | b'\n', ..] => Self::from_json(bytes),
            [_, ..] => Err(Malformed::Shape("no known macaroon format")),
        }
    }

    /// Reads the text form: base64 (either alphabet, padded or not) of V1 or V2, or V2 JSON.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_text_lenient(text: &str) -> Result<Self, Malformed> {
        let text = text.trim_ascii();
        match text.as_bytes() {
            [] => Err(Malformed::Missing),
            json @ [b'{', ..] => Self::from_json(json),
            text => {
                // Four characters hold three bytes, and V1 is at most four times V2.
                if text.len() > Caps::FOREIGN.token.saturating_mul(6) {
                    return Err(Malformed::TooLarge("the token"));
                }
                Self::from_bytes_lenient(&wire::base64::decode(text, Reading::Lenient)?)
            }
        }
    }

    /// In V2 every peer refuses a location that is not text; in V1 two of them take any bytes.
    fn from_v2(bytes: &[u8]) -> Result<Self, Malformed> {
        let token = Token::read(bytes, &Caps::FOREIGN)?;
        let mut locations = token.caveats().filter_map(|caveat| caveat.location).chain(token.location());
        if locations.any(|location| core::str::from_utf8(location).is_err()) {
            return Err(Malformed::Shape("a location that is not UTF-8"));
        }
        Self::canonical(bytes.to_vec())
    }

    #[cfg(feature = "json")]
    fn from_json(text: &[u8]) -> Result<Self, Malformed> {
        Self::canonical(crate::wire::json::read(text, &Caps::FOREIGN)?)
    }

    #[cfg(not(feature = "json"))]
    fn from_json(_: &[u8]) -> Result<Self, Malformed> {
        Err(Malformed::Shape("V2 JSON, which this program was built without"))
    }

    fn canonical(v2: Vec<u8>) -> Result<Self, Malformed> {
        Ok(Self(TokenBuf::read(v2, &Caps::FOREIGN)?))
    }

    /// The identifier's bytes: not proven before [`Macaroon::verify`]; for finding the key.
    #[must_use]
    pub fn identifier(&self) -> &[u8] {
        self.token().identifier_bytes()
    }

    /// The location: signed by nothing, decides nothing.
    #[must_use]
    pub fn location(&self) -> Option<&[u8]> {
        self.token().location()
    }

    /// How many caveats it has, third-party ones included.
    #[must_use]
    pub fn caveat_count(&self) -> usize {
        self.token().caveat_count().into()
    }

    /// Whether both are the same macaroon: identifier, each caveat with its sealed key, signature.
    /// Locations do not count, since nothing signs them. The signatures are compared in constant
    /// time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let (one, two) = (self.token(), other.token());
        let tail = |token: &Token<'_>| Tail::from_bytes(*token.signature());
        one.identifier_bytes() == two.identifier_bytes()
            && one.caveat_count() == two.caveat_count()
            && one.caveats().zip(two.caveats()).all(|(a, b)| a.same_content(&b))
            && tail(&one).ct_eq(&tail(&two))
    }

    /// Under what it is revoked: the first 16 bytes of
    /// `SHA-256("tk-foreign-v1" ‖ identifier)`. Safe to log.
    #[must_use]
    pub fn revocation_id(&self) -> LineageId {
        foreign_lineage(self.identifier())
    }

    /// The third parties whose discharges it needs, with each caveat's id, in order: for a client
    /// that has to fetch them. Not proven.
    pub fn third_parties(&self) -> impl Iterator<Item = (Party, &[u8])> {
        self.token()
            .caveats()
            .filter(|caveat| caveat.vid.is_some())
            .map(|caveat| (Party::of(caveat.cid, caveat.location), caveat.cid))
    }

    /// Appends a first-party caveat; anybody who holds the macaroon can.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`] past a limit; the macaroon is then unchanged.
    pub fn attenuate(&mut self, predicate: &[u8]) -> Result<(), Error> {
        self.append(&RawCaveat { cid: predicate, vid: None, location: None })
    }

    /// Appends a caveat that only a third party can discharge: whoever knows `key` and what `id`
    /// means. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// As [`Macaroon::attenuate`].
    #[cfg(feature = "third-party")]
    pub fn attenuate_third_party(
        &mut self,
        location: Option<&str>,
        id: &[u8],
        key: &CaveatKey,
        nonce: &[u8; 24],
    ) -> Result<(), Error> {
        self.0 = holder::ask(&self.token(), &Caps::FOREIGN, location, id, key, nonce)?;
        Ok(())
    }

    /// Binds a discharge to this macaroon, the one it will be sent with. Nested discharges are
    /// bound to the root as well. Binding twice spoils it.
    ///
    /// # Errors
    /// [`Error::Bug`] only.
    pub fn bind(&self, discharge: &Self) -> Result<Self, Error> {
        Ok(Self(TokenBuf::bound(&self.token(), &discharge.token())?))
    }

    pub(crate) fn append(&mut self, caveat: &RawCaveat<'_>) -> Result<(), Error> {
        let mut draft = Draft::resume(&self.token(), caveat.cid.len().saturating_add(96), &Caps::FOREIGN);
        draft.push(caveat)?;
        self.0 = draft.finish()?;
        Ok(())
    }

    /// The V2 bytes. A bearer secret.
    #[must_use]
    pub fn to_v2(&self) -> &[u8] {
        self.token().as_v2()
    }

    /// The V1 bytes. A bearer secret. A location packet is always there, since one peer cannot
    /// read without it.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`] when a field does not fit a V1 packet of 65,535 bytes.
    pub fn to_v1(&self) -> Result<Vec<u8>, Error> {
        Ok(v1::write(&self.token())?)
    }

    /// The V1 bytes in URL-safe base64: what older services and clients pass around.
    ///
    /// # Errors
    /// As [`Macaroon::to_v1`].
    pub fn to_v1_text(&self) -> Result<String, Error> {
        Ok(text(&Zeroizing::new(self.to_v1()?)))
    }

    /// The V2 bytes in URL-safe base64.
    ///
    /// # Errors
    /// [`Error::Bug`] only.
    pub fn to_v2_text(&self) -> Result<String, Error> {
        Ok(text(self.to_v2()))
    }

    /// V2 JSON text. A bearer secret.
    ///
    /// # Errors
    /// [`Malformed::Shape`] for a location that is not UTF-8: JSON has no form for it.
    #[cfg(feature = "json")]
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(crate::wire::json::write(&self.token())?)
    }

    pub(crate) fn token(&self) -> Token<'_> {
        self.0.as_token()
    }
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    base64::encode(bytes, &mut text);
    text
}

impl fmt::Debug for Macaroon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Macaroon({}, unverified)", self.revocation_id())
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    fn example() -> Macaroon {
        let mut macaroon = Macaroon::create(&RootKey::derive(b"key"), b"id", Some("here")).unwrap();
        macaroon.attenuate(b"a = 1").unwrap();
        macaroon
    }

    /// The signature was computed with pymacaroons 0.13 (`Macaroon(location="here",
    /// identifier="id", key="key")`, one first-party caveat).
    #[test]
    fn the_chain_is_the_peers() {
        let text: std::string::String =
            example().token().signature().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "0deb1aab1f698e7ce476fee1390418183e3f09dbf8325205e63d4757fad2e992");
    }

    /// TP-50.
    #[test]
    fn every_format_reads_back() {
        let macaroon = example();
        for read in [
            Macaroon::from_bytes_lenient(macaroon.to_v2()).unwrap(),
            Macaroon::from_bytes_lenient(&macaroon.to_v1().unwrap()).unwrap(),
            Macaroon::from_text_lenient(&macaroon.to_v1_text().unwrap()).unwrap(),
            Macaroon::from_text_lenient(&format!(" {}\n", macaroon.to_v2_text().unwrap())).unwrap(),
        ] {
            assert_eq!(read.to_v2(), macaroon.to_v2());
        }
        #[cfg(feature = "json")]
        assert_eq!(
            Macaroon::from_text_lenient(&macaroon.to_json().unwrap()).unwrap().to_v2(),
            macaroon.to_v2()
        );
    }

    #[test]
    fn locations_are_no_part_of_what_a_macaroon_is() {
        let mut elsewhere = Macaroon::create(&RootKey::derive(b"key"), b"id", None).unwrap();
        assert!(!elsewhere.is_same(&example()));
        elsewhere.attenuate(b"a = 1").unwrap();
        assert!(elsewhere.is_same(&example()));
        elsewhere.attenuate(b"a = 1").unwrap();
        assert!(!elsewhere.is_same(&example()));
        let other = Macaroon::create(&RootKey::derive(b"yek"), b"id", None).unwrap();
        assert!(!other.is_same(&Macaroon::create(&RootKey::derive(b"key"), b"id", None).unwrap()));
    }

    /// TP-54.
    #[test]
    fn nothing_else_is_a_format() {
        assert_eq!(Macaroon::from_bytes_lenient(b"").unwrap_err(), Malformed::Missing);
        assert_eq!(Macaroon::from_text_lenient(" ").unwrap_err(), Malformed::Missing);
        for bytes in [&[0xff; 65_536][..], b"\x01", b"\x03", b"Axyz", b"\0"] {
            assert_eq!(
                Macaroon::from_bytes_lenient(bytes).unwrap_err(),
                Malformed::Shape("no known macaroon format")
            );
        }
    }

    /// TP-53.
    #[test]
    fn a_location_that_is_not_text_is_refused_in_v2_and_taken_in_v1() {
        let mut v1 = example().to_v1().unwrap();
        let at = v1.windows(4).position(|four| four == b"here").unwrap();
        v1[at] = 0xff;
        let macaroon = Macaroon::from_bytes_lenient(&v1).unwrap();
        assert_eq!(macaroon.location(), Some(&b"\xffere"[..]));
        let wrong = Malformed::Shape("a location that is not UTF-8");
        assert_eq!(Macaroon::from_bytes_lenient(macaroon.to_v2()).unwrap_err(), wrong);
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", example());
        assert_eq!(shown, format!("Macaroon({}, unverified)", example().revocation_id()));
    }

    #[test]
    fn a_caveat_past_the_limit_changes_nothing() {
        let mut macaroon = example();
        let before = macaroon.to_v2().to_vec();
        let big = std::vec![b'x'; crate::limits::FOREIGN_TOKEN_BYTES];
        assert_eq!(macaroon.attenuate(&big), Err(Malformed::TooLarge("token").into()));
        assert_eq!(macaroon.to_v2(), before);
    }
}
