//! What a macaroon should be, before any library makes it.

use tkcore::CaveatKey;
use tkcore::plain::Macaroon;

use crate::Random;

/// A macaroon with everything that discharges it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The root key as given.
    pub key: Vec<u8>,
    /// The identifier.
    pub id: Vec<u8>,
    /// The location.
    pub location: Option<String>,
    /// The caveats in order.
    pub caveats: Vec<Caveat>,
}

/// One caveat.
#[derive(Debug, Clone)]
pub enum Caveat {
    /// A predicate.
    First(Vec<u8>),
    /// A third party's: what discharges it, and the nonce of its sealed key.
    Third(Spec, [u8; 24]),
}

/// Texts and bytes that readers get wrong.
const ODD: [&[u8]; 14] = [
    b"",
    b"a = 1",
    b"tab\tand\nlines\n",
    b"quote \" \\ back",
    b"null\0byte",
    "grüße".as_bytes(),
    "権限 = 読む".as_bytes(),
    "\u{202e}abc".as_bytes(),
    b"\xff\xfe",
    b" ",
    b"\n",
    b"\x7f",
    b"0014cid x = y\n",
    b"{\"i\":\"x\"}",
];

impl Spec {
    /// A random one; `depth` levels of discharges below it at most.
    pub fn random(random: &mut Random, depth: usize) -> Self {
        let mut counter = 0;
        Self::level(random, depth, &mut counter)
    }

    fn level(random: &mut Random, depth: usize, counter: &mut u32) -> Self {
        let key_len = 1 + random.below(80);
        let location = match random.below(5) {
            0 => None,
            1 => Some(String::new()),
            2 => Some("https://müller.example/ä".to_owned()),
            3 => Some("x".repeat(random.below(300))),
            _ => Some("https://svc.example".to_owned()),
        };
        let caveats = random.below(5);
        let (key, mut id) = (random.bytes(key_len), text(random));
        // Identifiers of discharges must differ, or a set is ambiguous.
        *counter += 1;
        id.extend(format!("#{counter}").bytes());
        let mut spec = Self { key, id, location, caveats: Vec::new() };
        for _ in 0..caveats {
            spec.caveats.push(if depth > 0 && random.once_in(4) {
                Caveat::Third(Self::level(random, depth - 1, counter), random.array())
            } else {
                Caveat::First(text(random))
            });
        }
        spec
    }

    /// Made by us, without its discharges.
    #[must_use]
    pub fn ours(&self) -> Macaroon {
        // A caveat's key is 32 bytes for us; any other length is what only peers can make.
        let key = tkcore::RootKey::derive(&self.key);
        let mut macaroon = Macaroon::create(&key, &self.id, self.location.as_deref()).unwrap();
        for caveat in &self.caveats {
            match caveat {
                Caveat::First(predicate) => macaroon.attenuate(predicate).unwrap(),
                Caveat::Third(spec, nonce) => {
                    let key = CaveatKey::from_bytes(spec.caveat_key());
                    macaroon
                        .attenuate_third_party(Some("https://tp.example"), &spec.id, &key, nonce)
                        .unwrap();
                }
            }
        }
        macaroon
    }

    /// The 32 bytes that a discharge's key is cut or filled to.
    #[must_use]
    pub fn caveat_key(&self) -> [u8; 32] {
        let mut key = [0x2a; 32];
        for (to, from) in key.iter_mut().zip(&self.key) {
            *to = *from;
        }
        key
    }

    /// The discharges, in order, not bound; their keys are the 32 bytes of [`Spec::caveat_key`].
    #[must_use]
    pub fn discharges(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for caveat in &self.caveats {
            if let Caveat::Third(spec, _) = caveat {
                let mut discharge = spec.clone();
                discharge.key = spec.caveat_key().to_vec();
                found.push(discharge);
                found.extend(spec.discharges());
            }
        }
        found
    }

    /// Every predicate, discharges' included.
    #[must_use]
    pub fn predicates(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for caveat in &self.caveats {
            match caveat {
                Caveat::First(predicate) => found.push(predicate.clone()),
                Caveat::Third(spec, _) => found.extend(spec.predicates()),
            }
        }
        found
    }
}

fn text(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 | 1 => format!("action in read-{}", random.below(100_000)).into_bytes(),
        2 => {
            let len = random.below(60);
            random.bytes(len)
        }
        3 => "long ".repeat(random.below(40)).into_bytes(),
        _ => ODD[random.below(ODD.len())].to_vec(),
    }
}
