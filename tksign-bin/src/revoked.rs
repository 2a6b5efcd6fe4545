//! What binds this signer's own answers: every revocation that was committed, published or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tkcore::revocation::{ExpiryDay, Position, Query, Revocation, RevocationSet, Revocations, Rule, Status};
use tkcore::{BranchId, KeyId, LineageId, Row, Timestamp};

use crate::codec::{BadRecord, Reader, Writer};
use crate::keys::Core;
use crate::store::Table;

/// The set as the feed has it, what was committed since, and every floor.
#[derive(Clone, Default)]
pub(crate) struct Revoked {
    published: Option<Arc<RevocationSet>>,
    lineages: BTreeSet<LineageId>,
    branches: BTreeSet<BranchId>,
    keys: BTreeSet<KeyId>,
    /// Every floor, published or not: a mint must know the highest one in its scope, and not
    /// only whether one refuses.
    floors: Floors,
}

#[derive(Clone, Default)]
struct Floors {
    keys: BTreeMap<KeyId, Timestamp>,
    rows: BTreeMap<Row, Timestamp>,
    global: Option<Timestamp>,
}

impl Revoked {
    /// Takes in a revocation that was just committed.
    pub(crate) fn add(&mut self, revocation: &Revocation) {
        match *revocation {
            Revocation::Token { lineage } => {
                self.lineages.insert(lineage);
            }
            Revocation::Branch { branch } => {
                self.branches.insert(branch);
            }
            Revocation::Key { key, before: None } => {
                self.keys.insert(key);
            }
            Revocation::Key { .. }
            | Revocation::Subject { .. }
            | Revocation::Tenant { .. }
            | Revocation::Global { .. } => self.floor(revocation),
        }
    }

    /// Takes in the floor of a revocation, if it is one.
    pub(crate) fn floor(&mut self, revocation: &Revocation) {
        let (slot, before) = match *revocation {
            Revocation::Key { key, before: Some(before) } => {
                (self.floors.keys.entry(key).or_insert(before), before)
            }
            // Rows of tenants and subjects are hashes of different domains, so they share a map.
            Revocation::Subject { row, before } | Revocation::Tenant { row, before } => {
                (self.floors.rows.entry(row).or_insert(before), before)
            }
            Revocation::Global { before } => (self.floors.global.get_or_insert(before), before),
            Revocation::Token { .. } | Revocation::Branch { .. } | Revocation::Key { before: None, .. } => {
                return;
            }
        };
        *slot = before.max(*slot);
    }

    /// A step was closed: `set` holds everything there is.
    pub(crate) fn published(&mut self, set: Arc<RevocationSet>) {
        self.published = Some(set);
        self.lineages.clear();
        self.branches.clear();
        self.keys.clear();
    }

    /// The highest floor that a token of this scope would meet.
    pub(crate) fn highest_floor(&self, key: KeyId, tenant: Row, subject: Option<Row>) -> Option<Timestamp> {
        let rows = [Some(tenant), subject].into_iter().flatten().filter_map(|row| self.floors.rows.get(&row));
        rows.chain(self.floors.keys.get(&key)).chain(&self.floors.global).max().copied()
    }

    /// Whether a floor at least as high is in force for what this one names.
    pub(crate) fn has_stricter(&self, revocation: &Revocation) -> bool {
        let (floor, before) = match *revocation {
            Revocation::Key { key, before: Some(before) } => (self.floors.keys.get(&key), before),
            Revocation::Subject { row, before } | Revocation::Tenant { row, before } => {
                (self.floors.rows.get(&row), before)
            }
            Revocation::Global { before } => (self.floors.global.as_ref(), before),
            Revocation::Token { .. } | Revocation::Branch { .. } | Revocation::Key { before: None, .. } => {
                return false;
            }
        };
        floor.is_some_and(|floor| *floor >= before)
    }

    fn floored(&self, query: &Query<'_>, minted: Timestamp) -> Option<Rule> {
        let below = |floor: Option<&Timestamp>| floor.is_some_and(|floor| minted < *floor);
        let row = |row: Option<Row>| row.and_then(|row| self.floors.rows.get(&row));
        if below(self.floors.global.as_ref()) {
            Some(Rule::Global)
        } else if below(row(query.tenant)) {
            Some(Rule::Tenant)
        } else if below(row(query.subject)) {
            Some(Rule::Subject)
        } else if below(query.key.as_ref().and_then(|key| self.floors.keys.get(key))) {
            Some(Rule::Key)
        } else {
            None
        }
    }
}

impl Revocations for Revoked {
    fn has_branches(&self) -> bool {
        // The signer always knows the branches of what it verifies.
        true
    }

    fn status(&self, query: &Query<'_>) -> Status {
        // A token is as old as the oldest mint time it carries: its own or its parent's.
        let parent = query.parent.and_then(|parent| parent.minted());
        let minted = [query.issued_at, parent].into_iter().flatten().min();
        if let Some(rule) = minted.and_then(|minted| self.floored(query, minted)) {
            return Status::Revoked(rule);
        }
        if query.key.is_some_and(|key| self.keys.contains(&key)) {
            return Status::Revoked(Rule::Key);
        }
        if query.parent.is_some_and(|parent| self.lineages.contains(&parent)) {
            return Status::Revoked(Rule::Parent);
        }
        if self.lineages.contains(&query.lineage) {
            return Status::Revoked(Rule::Token);
        }
        if query.branches.iter().any(|branch| self.branches.contains(branch)) {
            return Status::Revoked(Rule::Branch);
        }
        self.published.as_ref().map_or(Status::Live, |set| set.status(query))
    }
}

/// A revocation as a row of the store. The key is the rule itself, a floor's time included, so
/// that the second of two equal ones is "exists already" in any store. The value is not sealed,
/// since every byte of it is published, but authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RevocationRow {
    pub(crate) revocation: Revocation,
    pub(crate) day: ExpiryDay,
    /// The step that published it, or none yet.
    pub(crate) covered: Option<Position>,
}

/// Stands in a key for "all of it": no floor reaches it, since times end with the year 9999.
const EVERYTHING: u64 = u64::MAX;

impl RevocationRow {
    pub(crate) fn key(&self) -> Vec<u8> {
        let to = Writer::default();
        match self.revocation {
            Revocation::Token { lineage } => to.u8(1).raw(lineage.as_bytes()),
            Revocation::Branch { branch } => to.u8(2).raw(branch.as_bytes()),
            Revocation::Key { key, before } => {
                to.u8(3).raw(key.as_bytes()).u64(before.map_or(EVERYTHING, Timestamp::millis))
            }
            Revocation::Subject { row, before } => to.u8(4).raw(row.as_bytes()).u64(before.millis()),
            Revocation::Tenant { row, before } => to.u8(5).raw(row.as_bytes()).u64(before.millis()),
            Revocation::Global { before } => to.u8(6).u64(before.millis()),
        }
        .done()
    }

    pub(crate) fn value(&self, core: &Core) -> Vec<u8> {
        // Epochs count from one, so the first of all positions stands for none.
        let Position { epoch, sequence } = self.covered.unwrap_or_default();
        let body = Writer::default().u64(epoch).u64(sequence).u32(self.day.number()).done();
        let tag = core.tag(&[Table::Revocations.name().as_bytes(), &self.key(), &body]);
        Writer(body).raw(&tag).done()
    }

    pub(crate) fn decode(core: &Core, key: &[u8], value: &[u8]) -> Result<Self, BadRecord> {
        let time = |millis| Timestamp::from_millis(millis).ok_or(BadRecord("a floor past the year 9999"));
        let mut reader = Reader::new(key);
        let revocation = match reader.u8()? {
            1 => Revocation::Token { lineage: LineageId::from_bytes(reader.array()?) },
            2 => Revocation::Branch { branch: BranchId::from_bytes(reader.array()?) },
            3 => Revocation::Key {
                key: KeyId::from_bytes(reader.array()?),
                before: match reader.u64()? {
                    EVERYTHING => None,
                    millis => Some(time(millis)?),
                },
            },
            4 => Revocation::Subject { row: Row::from_bytes(reader.array()?), before: time(reader.u64()?)? },
            5 => Revocation::Tenant { row: Row::from_bytes(reader.array()?), before: time(reader.u64()?)? },
            6 => Revocation::Global { before: time(reader.u64()?)? },
            _ => return Err(BadRecord("unknown rule of revocation")),
        };
        reader.finish()?;
        let mut reader = Reader::new(value);
        let covered = Position { epoch: reader.u64()?, sequence: reader.u64()? };
        let covered = Some(covered).filter(|covered| *covered != Position::default());
        let row = Self { revocation, covered, day: ExpiryDay::from_number(reader.u32()?) };
        let _: [u8; 16] = reader.array()?;
        reader.finish()?;
        if row.value(core) == value { Ok(row) } else { Err(BadRecord("a revocation was changed")) }
    }
}

#[cfg(test)]
mod tests {
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

    fn query(minted: u64) -> Query<'static> {
        Query {
            lineage: LineageId::new([9; 10], at(minted)),
            issued_at: Some(at(minted)),
            parent: None,
            key: Some(KEY),
            tenant: Some(TENANT),
            subject: Some(SUBJECT),
            branches: &[BRANCH],
        }
    }

    #[test]
    fn each_rule_kills_what_it_names_and_nothing_minted_at_the_floor() {
        for revocation in every_rule() {
            let mut revoked = Revoked::default();
            assert_eq!(revoked.status(&query(1000)), Status::Live);
            revoked.add(&revocation);
            assert_eq!(revoked.status(&query(1000)), Status::Revoked(revocation.rule()));
            let at_floor = revoked.status(&query(1001));
            let timeless =
                matches!(revocation, Revocation::Branch { .. } | Revocation::Key { before: None, .. });
            assert_eq!(at_floor != Status::Live, timeless, "{revocation:?}");
        }
    }

    #[test]
    fn a_service_token_dies_with_its_parent_and_by_its_parents_age() {
        let parent = LineageId::new([9; 10], at(1000));
        let child = Query { parent: Some(parent), lineage: LineageId::new([8; 10], at(2000)), ..query(2000) };
        for (revocation, rule) in [
            (Revocation::Token { lineage: parent }, Rule::Parent),
            (Revocation::Tenant { row: TENANT, before: at(1001) }, Rule::Tenant),
        ] {
            let mut revoked = Revoked::default();
            revoked.add(&revocation);
            assert_eq!(revoked.status(&child), Status::Revoked(rule));
        }
    }

    #[test]
    fn floors_combine_by_maximum_and_never_mask_each_other() {
        let mut revoked = Revoked::default();
        for millis in [500, 1001, 700] {
            revoked.add(&Revocation::Subject { row: SUBJECT, before: at(millis) });
            revoked.add(&Revocation::Tenant { row: TENANT, before: at(millis / 2) });
        }
        assert_eq!(revoked.highest_floor(KEY, TENANT, Some(SUBJECT)), Some(at(1001)));
        assert_eq!(revoked.highest_floor(KEY, TENANT, None), Some(at(500)));
        assert_eq!(revoked.status(&query(1000)), Status::Revoked(Rule::Subject));
    }

    #[test]
    fn rows_read_back_and_any_change_is_noticed() {
        let core = Core::generate();
        for revocation in every_rule() {
            let covered = Some(Position { epoch: 1, sequence: 7 });
            let row = RevocationRow { revocation, day: ExpiryDay::from_number(20_000), covered };
            let (key, value) = (row.key(), row.value(&core));
            assert_eq!(RevocationRow::decode(&core, &key, &value), Ok(row));
            for bit in 0..value.len() * 8 {
                let mut changed = value.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(RevocationRow::decode(&core, &key, &changed).is_err());
            }
            let mut moved = key.clone();
            *moved.last_mut().unwrap() ^= 1;
            assert!(RevocationRow::decode(&core, &moved, &value).is_err());
        }
    }
}
