//! Proves that `tkcore` needs neither `std` nor an operating system's allocator.
//!
//! If any crate in its tree linked `std`, this would not build: there would be two panic handlers.
#![no_std]
#![no_main]

mod bare;

extern crate alloc;

use tkcore::{
    Basis, BranchIds, Budget, Error, KeyClass, LineageFacts, NotAuthentic, Presented, RootKey, Row, Scratch,
    Tenant, Token, attenuate, limits, verify,
};

/// A token that a program of a few lines of Python made: five caveats under the key `kkk…`.
const TOKEN: &[u8] = include_bytes!("../../fuzz/seeds/token_binary/five");

/// The steps; the first that does not hold is named.
fn steps() -> Result<(), &'static str> {
    let token = Token::parse(TOKEN).map_err(|_| "a token parses")?;
    holds(token, &RootKey::derive(&[b'k'; 32])).map_err(|_| "a token verifies")?;
    if holds(token, &RootKey::derive(&[b'j'; 32])) != Err(Error::NotAuthentic(NotAuthentic::Signature)) {
        return Err("another key is refused");
    }
    let longer = attenuate(&token, &["action = read"]).map_err(|_| "a token is attenuated")?;
    holds(longer.as_token(), &RootKey::derive(&[b'k'; 32])).map_err(|_| "and verifies again")
}

fn holds(token: Token<'_>, key: &RootKey) -> Result<(), Error> {
    let facts = LineageFacts {
        tenant: Tenant::new("acme").map_err(|_| tkcore::Bug("a tenant's name"))?,
        audience: None,
        class: KeyClass::Ordinary,
        tenant_row: Row::from_bytes([1; 16]),
        subject_row: Some(Row::from_bytes([2; 16])),
    };
    let (mut scratch, mut budget) = (Scratch::new(), Budget::new(limits::VERIFY_BUDGET));
    let presented = Presented::new(token, &[])?;
    verify(presented, Basis::Root(key), &facts, BranchIds::Collect, &mut scratch, &mut budget).map(|_| ())
}
