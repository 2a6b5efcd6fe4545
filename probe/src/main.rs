//! Proves that `tkcore` needs neither `std` nor an operating system's allocator.
//!
//! If any crate in its tree linked `std`, this would not build: there would be two panic handlers.
#![no_std]
#![no_main]

mod bare;

extern crate alloc;

use alloc::vec::Vec;
use tkcore::{Identifier, KeyId, LineageId, Timestamp};

/// The steps; the first that does not hold is named.
fn steps() -> Result<(), &'static str> {
    let minted = Timestamp::from_seconds(1_790_000_000).ok_or("a time")?;
    let identifier = Identifier {
        caveats_at_mint: 0,
        key: KeyId::from_bytes([1; 8]),
        lineage: LineageId::new([2; 10], minted),
        expiry: None,
        service: None,
        subject: Some("probe"),
    };
    let mut bytes = Vec::new();
    identifier.write(&mut bytes).map_err(|_| "an identifier is written")?;
    if Identifier::parse(&bytes) != Ok(identifier) {
        return Err("an identifier reads back");
    }
    Ok(())
}
