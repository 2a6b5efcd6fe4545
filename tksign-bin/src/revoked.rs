//! Revocations as the store has them: not sealed, since every byte of them is published, but
//! authenticated, so that a row that was changed or moved does not count.

use tkcore::revocation::publish::RevocationRow;

use crate::codec::BadRecord;
use crate::keys::Core;
use crate::store::Table;

/// The row's value and a tag over both.
pub(crate) fn value(core: &Core, row: &RevocationRow) -> Vec<u8> {
    let mut value = row.value();
    let tag = core.tag(&[Table::Revocations.name().as_bytes(), &row.key(), &value]);
    value.extend_from_slice(&tag);
    value
}

/// Reads a row whose tag holds.
pub(crate) fn decode(core: &Core, key: &[u8], stored: &[u8]) -> Result<RevocationRow, BadRecord> {
    let (plain, _) = stored.split_last_chunk::<16>().ok_or(BadRecord("cut off"))?;
    let row = RevocationRow::decode(key, plain).ok_or(BadRecord("a revocation"))?;
    if value(core, &row) == stored { Ok(row) } else { Err(BadRecord("a revocation was changed")) }
}

#[cfg(test)]
mod tests {
    use tkcore::revocation::{ExpiryDay, Position, Revocation};
    use tkcore::{BranchId, KeyId, LineageId, Row, Timestamp};

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    const KEY: KeyId = KeyId::from_bytes([1; 8]);
    const TENANT: Row = Row::from_bytes([2; 16]);
    const SUBJECT: Row = Row::from_bytes([3; 16]);
    const BRANCH: BranchId = BranchId::from_bytes([4; 16]);

    fn every_rule() -> Vec<Revocation> {
        vec![
            Revocation::Token { lineage: LineageId::new([9; 10], at(1000)) },
            Revocation::Branch { branch: BRANCH },
            Revocation::Key { key: KEY, before: None },
            Revocation::Key { key: KEY, before: Some(at(1001)) },
            Revocation::Subject { row: SUBJECT, before: at(1001) },
            Revocation::Tenant { row: TENANT, before: at(1001) },
            Revocation::Global { before: at(1001) },
        ]
    }

    #[test]
    fn rows_read_back_and_any_change_is_noticed() {
        let core = Core::generate();
        for revocation in every_rule() {
            let covered = Some(Position { epoch: 1, sequence: 7 });
            let row = RevocationRow { revocation, day: ExpiryDay::from_number(20_000), covered };
            let (key, value) = (row.key(), value(&core, &row));
            assert_eq!(decode(&core, &key, &value), Ok(row));
            for bit in 0..value.len() * 8 {
                let mut changed = value.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&core, &key, &changed).is_err());
            }
            let mut moved = key.clone();
            *moved.last_mut().unwrap() ^= 1;
            assert!(decode(&core, &moved, &value).is_err());
        }
    }
}
