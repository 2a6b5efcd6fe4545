//! From and to the types of the crate `macaroon`, through bytes (docs/guides/migrate-macaroon.md).
//!
//! Keys need no conversion: `RootKey::derive(bytes)` is that crate's `MacaroonKey::generate(bytes)`,
//! and `RootKey::from_derived(key.as_ref())` is a `MacaroonKey` of any other origin.

use tkcore::plain::Macaroon;

use super::ConvertError;

/// The macaroon that `theirs` is.
///
/// # Errors
/// [`ConvertError`] when the crate cannot write it, or what it wrote is not the same macaroon.
pub fn from(theirs: &::macaroon::Macaroon) -> Result<Macaroon, ConvertError> {
    let text = theirs.serialize(::macaroon::Format::V2).map_err(|_| ConvertError::NotWritten)?;
    let ours = Macaroon::from_text_lenient(&text).map_err(ConvertError::NotRead)?;
    let same = ours.identifier() == theirs.identifier().0
        && ours.to_v2().ends_with(theirs.signature().as_ref())
        && ours.caveat_count() == theirs.caveats().len();
    if same { Ok(ours) } else { Err(ConvertError::NotTheSame) }
}

/// The crate's value for our macaroon.
///
/// # Errors
/// [`ConvertError`] when the crate does not read it (a limit of its own, a location that is no
/// text), or what it read is not the same macaroon.
pub fn to(ours: &Macaroon) -> Result<::macaroon::Macaroon, ConvertError> {
    let theirs =
        ::macaroon::Macaroon::deserialize_binary(ours.to_v2()).map_err(|_| ConvertError::NotWritten)?;
    if from(&theirs)?.is_same(ours) { Ok(theirs) } else { Err(ConvertError::NotTheSame) }
}

#[cfg(test)]
mod tests {
    use ::macaroon::{MacaroonKey, Verifier};
    use tkcore::danger::NoRevocations;
    use tkcore::plain::Predicates;
    use tkcore::{Budget, CaveatKey, RootKey};

    use super::*;

    const KEY: &[u8] = b"a key of any length";

    #[test]
    fn theirs_verifies_under_ours() {
        let mut theirs = ::macaroon::Macaroon::create(
            Some("https://here.example".to_owned()),
            &MacaroonKey::generate(KEY),
            "id".into(),
        )
        .unwrap();
        theirs.add_first_party_caveat("account = 7".into());
        let third = MacaroonKey::generate(b"caveat key");
        theirs.add_third_party_caveat("https://auth.example", &third, "ticket".into());
        let mut discharge = ::macaroon::Macaroon::create(None, &third, "ticket".into()).unwrap();
        theirs.bind(&mut discharge);
        let (root, discharge) = (from(&theirs).unwrap(), [from(&discharge).unwrap()]);
        let verified = root.verify(&RootKey::derive(KEY), &discharge, &mut Budget::default()).unwrap();
        assert!(verified.clear(&NoRevocations, None, &Predicates::new().exact(b"account = 7")).is_ok());
        assert!(verified.clear(&NoRevocations, None, &Predicates::new()).is_err());
        assert!(to(&root).unwrap().signature() == theirs.signature());
    }

    #[test]
    fn ours_verifies_under_theirs() {
        let mut root = Macaroon::create(&RootKey::derive(KEY), b"id", None).unwrap();
        root.attenuate(b"account = 7").unwrap();
        let key = CaveatKey::from_bytes([7; 32]);
        root.attenuate_third_party(Some("https://auth.example"), b"ticket", &key, &[9; 24]).unwrap();
        let discharge = Macaroon::create(&key.discharge_key(), b"ticket", None).unwrap();
        let discharge = root.bind(&discharge).unwrap();
        let mut verifier = Verifier::default();
        verifier.satisfy_exact("account = 7".into());
        let discharges = vec![to(&discharge).unwrap()];
        verifier.verify(&to(&root).unwrap(), &MacaroonKey::generate(KEY), discharges).unwrap();
    }

    /// Their libraries hold locations as text; V1 can carry other bytes.
    #[test]
    fn what_the_crate_cannot_hold_is_an_error() {
        let mut v1 = Macaroon::create(&RootKey::derive(KEY), b"id", Some("here")).unwrap().to_v1().unwrap();
        let at = v1.windows(4).position(|four| four == b"here").unwrap();
        v1[at] = 0xff;
        let ours = Macaroon::from_bytes_lenient(&v1).unwrap();
        assert_eq!(to(&ours).unwrap_err(), ConvertError::NotWritten);
    }
}
