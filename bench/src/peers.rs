//! The crates that others use, each as its own documentation says, text in and verdict out.

use std::hint::black_box;

use crate::work::{self, EXPIRY, KEY};

fn as_bytes(caveats: &[String]) -> Vec<Vec<u8>> {
    caveats.iter().map(|text| text.clone().into_bytes()).collect()
}

/// `libmacaroon`: the maintained pure-Rust fork of `macaroon`.
pub struct Libmacaroon {
    key: libmacaroon::MacaroonKey,
    verifier: libmacaroon::Verifier,
    pub text: String,
}

impl Libmacaroon {
    pub fn new(identifier: &[u8], caveats: &[String]) -> Self {
        let key = libmacaroon::MacaroonKey::generate(KEY);
        let mut verifier = libmacaroon::Verifier::default();
        let mut token = libmacaroon::Macaroon::create(None::<&str>, &key, identifier).expect("it is made");
        for caveat in as_bytes(caveats) {
            token.add_first_party_caveat(&caveat).expect("it is added");
            verifier.satisfy_exact(caveat);
        }
        let text = token.serialize(libmacaroon::Format::V2).expect("it is written");
        Self { key, verifier, text }
    }

    pub fn verify(&self) {
        let token = libmacaroon::Macaroon::deserialize(black_box(&self.text)).expect("it is read");
        self.verifier.verify(&token, &self.key, &[]).expect("it holds");
    }

    pub fn parse(&self) {
        black_box(libmacaroon::Macaroon::deserialize(black_box(&self.text)).expect("it is read"));
    }

    pub fn attenuate(&self) {
        let mut token = libmacaroon::Macaroon::deserialize(black_box(&self.text)).expect("it is read");
        token.add_first_party_caveat("size <= 1048576").expect("it is added");
        black_box(token.serialize(libmacaroon::Format::V2).expect("it is written"));
    }

    pub fn mint(&self, identifier: &[u8], caveats: &[String]) {
        let mut token =
            libmacaroon::Macaroon::create(None::<&str>, &self.key, identifier).expect("it is made");
        for caveat in caveats {
            token.add_first_party_caveat(caveat.as_bytes()).expect("it is added");
        }
        black_box(token.serialize(libmacaroon::Format::V2).expect("it is written"));
    }
}

/// `macaroon`.
pub struct Macaroon {
    key: macaroon::MacaroonKey,
    verifier: macaroon::Verifier,
    pub text: String,
}

impl Macaroon {
    pub fn new(identifier: &[u8], caveats: &[String]) -> Self {
        macaroon::initialize().expect("libsodium starts");
        let key = macaroon::MacaroonKey::generate(KEY);
        let mut verifier = macaroon::Verifier::default();
        let mut token = macaroon::Macaroon::create(None, &key, identifier.into()).expect("it is made");
        for caveat in as_bytes(caveats) {
            token.add_first_party_caveat(caveat.clone().into());
            verifier.satisfy_exact(caveat.into());
        }
        let text = token.serialize(macaroon::Format::V2).expect("it is written");
        Self { key, verifier, text }
    }

    pub fn verify(&self) {
        let token = macaroon::Macaroon::deserialize(black_box(&self.text)).expect("it is read");
        self.verifier.verify(&token, &self.key, Vec::new()).expect("it holds");
    }

    pub fn parse(&self) {
        black_box(macaroon::Macaroon::deserialize(black_box(&self.text)).expect("it is read"));
    }

    pub fn attenuate(&self) {
        let mut token = macaroon::Macaroon::deserialize(black_box(&self.text)).expect("it is read");
        token.add_first_party_caveat("size <= 1048576".into());
        black_box(token.serialize(macaroon::Format::V2).expect("it is written"));
    }
}

/// `jsonwebtoken`: one signature over everything; nothing can be attenuated.
pub struct Jwt {
    key: jsonwebtoken::DecodingKey,
    validation: jsonwebtoken::Validation,
    text: String,
    caveats: Vec<String>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    caveats: Vec<String>,
}

impl Jwt {
    pub fn hs256(caveats: &[String]) -> Self {
        Self::new(
            jsonwebtoken::Algorithm::HS256,
            &jsonwebtoken::EncodingKey::from_secret(KEY),
            jsonwebtoken::DecodingKey::from_secret(KEY),
            caveats,
        )
    }

    pub fn eddsa(caveats: &[String]) -> Self {
        let seed =
            biscuit_auth::PrivateKey::from_bytes(KEY, biscuit_auth::Algorithm::Ed25519).expect("a key");
        let public = biscuit_auth::KeyPair::from(&seed).public().to_bytes();
        // PKCS#8, version 1: the fixed head of an Ed25519 private key (RFC 8410), then the seed.
        let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        der.extend_from_slice(KEY);
        Self::new(
            jsonwebtoken::Algorithm::EdDSA,
            &jsonwebtoken::EncodingKey::from_ed_der(&der),
            jsonwebtoken::DecodingKey::from_ed_der(&public),
            caveats,
        )
    }

    fn new(
        algorithm: jsonwebtoken::Algorithm,
        sign: &jsonwebtoken::EncodingKey,
        key: jsonwebtoken::DecodingKey,
        caveats: &[String],
    ) -> Self {
        let claims = Claims { sub: "user:7".to_owned(), exp: EXPIRY, caveats: caveats.to_vec() };
        let header = jsonwebtoken::Header::new(algorithm);
        let text = jsonwebtoken::encode(&header, &claims, sign).expect("it is signed");
        Self { key, validation: jsonwebtoken::Validation::new(algorithm), text, caveats: caveats.to_vec() }
    }

    pub fn verify(&self) {
        let token = jsonwebtoken::decode::<Claims>(black_box(&self.text), &self.key, &self.validation);
        assert_eq!(token.expect("it holds").claims.caveats, self.caveats);
    }
}

/// `biscuit-auth`: signed blocks of Datalog.
pub struct Biscuit {
    key: biscuit_auth::PublicKey,
    authorizer: biscuit_auth::builder::AuthorizerBuilder,
    text: String,
}

impl Biscuit {
    fn check(at: usize) -> String {
        match at % 4 {
            0 => format!("check if time($time), $time <= 2027-01-{:02}T00:00:00Z;", at + 1),
            1 => "check if operation($op), [\"list\", \"read\"].contains($op);".to_owned(),
            2 => format!("check if app($app), [17, 42, {}].contains($app);", 100 + at),
            _ => format!("check if size($size), $size <= {};", 1_000_000 + at),
        }
    }

    /// All checks in the block that the authority signs.
    pub fn authority(count: usize) -> Self {
        let mut builder = biscuit_auth::Biscuit::builder().fact("user(\"user:7\")").expect("a fact");
        for at in 0..count {
            builder = builder.check(Self::check(at).trim_end_matches(';')).expect("a check");
        }
        Self::new(|root| builder.build(root).expect("it is built"))
    }

    /// One check in each of so many blocks that holders appended.
    pub fn attenuated(count: usize) -> Self {
        let builder = biscuit_auth::Biscuit::builder().fact("user(\"user:7\")").expect("a fact");
        Self::new(|root| {
            (0..count).fold(builder.build(root).expect("it is built"), |token, at| {
                let check = Self::check(at);
                let block = biscuit_auth::builder::BlockBuilder::new();
                token
                    .append(block.check(check.trim_end_matches(';')).expect("a check"))
                    .expect("it is appended")
            })
        })
    }

    fn new(build: impl FnOnce(&biscuit_auth::KeyPair) -> biscuit_auth::Biscuit) -> Self {
        let root = biscuit_auth::KeyPair::new();
        let text = build(&root).to_base64().expect("it is written");
        let authorizer = biscuit_auth::builder::AuthorizerBuilder::new()
            .code("time(2026-11-23T00:00:00Z); operation(\"read\"); app(17); size(10); allow if user($user);")
            .expect("facts and a policy")
            // Its default limit of 1 ms of wall clock refuses good tokens on a busy machine.
            .set_limits(biscuit_auth::AuthorizerLimits {
                max_time: std::time::Duration::from_secs(10),
                ..biscuit_auth::AuthorizerLimits::default()
            });
        Self { key: root.public(), authorizer, text }
    }

    pub fn verify(&self) {
        let token = biscuit_auth::Biscuit::from_base64(black_box(&self.text), self.key).expect("it is read");
        let mut authorizer = self.authorizer.clone().build(&token).expect("it is built");
        authorizer.authorize().expect("it holds");
    }
}

/// What is measured of each peer at one size.
pub fn add_verify(group: &mut crate::harness::Group, identifier: &[u8], size: usize) {
    let caveats = work::caveats(size);
    let peer = Libmacaroon::new(identifier, &caveats);
    group.case("`libmacaroon` 0.3.0", move || peer.verify());
    let peer = Macaroon::new(identifier, &caveats);
    group.case("`macaroon` 0.3.0", move || peer.verify());
    let peer = Jwt::hs256(&caveats);
    group.case("`jsonwebtoken` 11.1.0, HS256", move || peer.verify());
    let peer = Jwt::eddsa(&caveats);
    group.case("`jsonwebtoken` 11.1.0, EdDSA", move || peer.verify());
    let peer = Biscuit::authority(size);
    group.case("`biscuit-auth` 6.0.0, one block", move || peer.verify());
    let peer = Biscuit::attenuated(size);
    group.case("`biscuit-auth` 6.0.0, a block a caveat", move || peer.verify());
}
