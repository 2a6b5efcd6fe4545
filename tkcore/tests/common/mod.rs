//! What the tests of tokens share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use tkcore::{
    Audience, Basis, BranchIds, Budget, Error, Identifier, KeyClass, KeyId, LineageFacts, LineageId,
    Presented, RootKey, Row, Scratch, Tenant, Timestamp, Token, TokenBuf, mint, verify,
};

pub(crate) fn key() -> RootKey {
    RootKey::derive(b"the root key of these tests")
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn identifier(caveats_at_mint: u8) -> Identifier<'static> {
    Identifier {
        caveats_at_mint,
        key: KeyId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]),
        lineage: LineageId::new([9; 10], at(1_790_000_000_123)),
        expiry: Timestamp::from_seconds(1_800_000_000),
        service: None,
        subject: Some("user:7"),
    }
}

pub(crate) fn facts() -> LineageFacts {
    LineageFacts {
        tenant: Tenant::new("acme").unwrap(),
        audience: Some(Audience::new("builds").unwrap()),
        class: KeyClass::Ordinary,
        tenant_row: Row::from_bytes([1; 16]),
        subject_row: Some(Row::from_bytes([2; 16])),
    }
}

pub(crate) fn minted(caveats: &[&str]) -> TokenBuf {
    mint(&identifier(u8::try_from(caveats.len()).unwrap()), caveats, &key()).unwrap()
}

/// The verdict alone, with a fresh scratch and the default budget.
pub(crate) fn check(root: Token<'_>, discharges: &[Token<'_>], basis: Basis<'_>) -> Result<(), Error> {
    let (facts, mut scratch) = (facts(), Scratch::new());
    let presented = Presented::new(root, discharges)?;
    verify(presented, basis, &facts, BranchIds::Collect, &mut scratch, &mut Budget::default()).map(|_| ())
}
