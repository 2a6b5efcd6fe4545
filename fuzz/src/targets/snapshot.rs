//! Snapshots: what parses is written back byte for byte, and every row is found.

use tkcore::revocation::{Query, Revocation, Revocations, Snapshot, Status};

/// One input is one snapshot.
pub fn run(data: &[u8]) {
    let Ok(snapshot) = Snapshot::parse(data.to_vec()) else { return };
    let written = snapshot.to_bytes();
    assert_eq!(written.len() as u64, snapshot.length());
    // Flags that may be ignored are the only bytes that reading loses.
    assert_eq!(written[8..], data[8..], "a set has one form");
    snapshot.set.for_each(|row, day| {
        assert!(snapshot.set.has(&row, day));
        if let Revocation::Token { lineage } = row {
            let status = snapshot.set.status(&Query::foreign(lineage, None, &[]));
            assert!(matches!(status, Status::Revoked(_)));
        }
    });
}
