//! One set of bytes, three libraries, one word from each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tkcore::danger::NoRevocations;
use tkcore::plain::{Macaroon, Predicates};
use tkcore::{Budget, RootKey};

/// What a verifier gets.
#[derive(Debug, Clone)]
pub struct Set {
    /// The root key as given.
    pub key: Vec<u8>,
    /// Binary V1 or V2, or JSON text.
    pub root: Vec<u8>,
    /// Bound discharges in the same formats.
    pub discharges: Vec<Vec<u8>>,
    /// The predicates that hold.
    pub holds: Vec<Vec<u8>>,
}

/// What a library says of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It parses, verifies and every predicate holds.
    Accepts,
    /// It parses and is refused.
    Refuses,
    /// It does not parse.
    NoMacaroon,
    /// The library panicked.
    Panics,
}

impl Set {
    /// Our lenient reader and verifier.
    #[must_use]
    pub fn ours(&self) -> Said {
        let read = |bytes: &Vec<u8>| Macaroon::from_bytes_lenient(bytes);
        let (Ok(root), Ok(discharges)) =
            (read(&self.root), self.discharges.iter().map(read).collect::<Result<Vec<_>, _>>())
        else {
            return Said::NoMacaroon;
        };
        let key = RootKey::derive(&self.key);
        let Ok(verified) = root.verify(&key, &discharges, &mut Budget::default()) else {
            return Said::Refuses;
        };
        let predicates = self.holds.iter().fold(Predicates::new(), |all, text| all.exact(text));
        match verified.clear(&NoRevocations, None, &predicates) {
            Ok(_) => Said::Accepts,
            Err(_) => Said::Refuses,
        }
    }

    /// The crate `macaroon`.
    #[must_use]
    pub fn macaroon(&self) -> Said {
        use macaroon::{ByteString, MacaroonKey, Verifier};
        guarded(|| {
            let read = |bytes: &Vec<u8>| match bytes.first() {
                Some(b'{') => macaroon::Macaroon::deserialize(bytes),
                _ => macaroon::Macaroon::deserialize_binary(bytes),
            };
            let (Ok(root), Ok(discharges)) =
                (read(&self.root), self.discharges.iter().map(read).collect::<Result<Vec<_>, _>>())
            else {
                return Said::NoMacaroon;
            };
            let mut verifier = Verifier::default();
            for text in &self.holds {
                verifier.satisfy_exact(ByteString(text.clone()));
            }
            match verifier.verify(&root, &MacaroonKey::generate(&self.key), discharges) {
                Ok(()) => Said::Accepts,
                Err(_) => Said::Refuses,
            }
        })
    }

    /// The crate `libmacaroon`.
    #[must_use]
    pub fn libmacaroon(&self) -> Said {
        use libmacaroon::{MacaroonKey, Verifier};
        guarded(|| {
            let read = |bytes: &Vec<u8>| match bytes.first() {
                Some(b'{') => libmacaroon::Macaroon::deserialize(bytes),
                _ => libmacaroon::Macaroon::deserialize_binary(bytes),
            };
            let (Ok(root), Ok(discharges)) =
                (read(&self.root), self.discharges.iter().map(read).collect::<Result<Vec<_>, _>>())
            else {
                return Said::NoMacaroon;
            };
            let mut verifier = Verifier::default();
            for text in &self.holds {
                verifier.satisfy_exact(text);
            }
            match verifier.verify(&root, &MacaroonKey::generate(&self.key), &discharges) {
                Ok(()) => Said::Accepts,
                Err(_) => Said::Refuses,
            }
        })
    }
}

fn guarded(body: impl FnOnce() -> Said) -> Said {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Said::Panics)
}
