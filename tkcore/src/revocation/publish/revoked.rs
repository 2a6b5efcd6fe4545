//! What was revoked, from the signer's side: which answers it binds at once, and how a store
//! keeps it until a step has published it and after.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::codec::{Reader, Truncated};
use crate::ids::{BranchId, KeyId, LineageId, Row};
use crate::revocation::expiry::ExpiryDay;
use crate::revocation::kind::{self, Item, Kind, Place};
use crate::revocation::position::Position;
use crate::revocation::query::{Query, Revocations, Status};
use crate::revocation::rule::{Revocation, Rule};
use crate::revocation::set::RevocationSet;
use crate::time::Timestamp;

/// What binds a signer's own answers: the set as the feed has it, everything that was committed
/// since, published or not, and every floor.
#[derive(Debug, Clone, Default)]
pub struct Revoked {
    published: Option<Arc<RevocationSet>>,
    lineages: BTreeSet<LineageId>,
    branches: BTreeSet<BranchId>,
    keys: BTreeSet<KeyId>,
    /// Every floor, published or not: a mint must know the highest one in its scope, and not
    /// only whether one refuses.
    floors: Floors,
}

#[derive(Debug, Clone, Default)]
struct Floors {
    keys: BTreeMap<KeyId, Timestamp>,
    rows: BTreeMap<Row, Timestamp>,
    global: Option<Timestamp>,
}

impl Revoked {
    /// What one revocation does by itself.
    #[must_use]
    pub fn by(revocation: &Revocation) -> Self {
        let mut revoked = Self::default();
        revoked.add(revocation);
        revoked
    }

    /// Takes in a revocation that was just committed.
    pub fn add(&mut self, revocation: &Revocation) {
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
    pub fn floor(&mut self, revocation: &Revocation) {
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
    pub fn published(&mut self, set: Arc<RevocationSet>) {
        self.published = Some(set);
        self.lineages.clear();
        self.branches.clear();
        self.keys.clear();
    }

    /// The set as the last step published it; `None` before there was one.
    #[must_use]
    pub fn set(&self) -> Option<&RevocationSet> {
        self.published.as_deref()
    }

    /// The highest floor that a token of this scope would meet.
    #[must_use]
    pub fn highest_floor(&self, key: KeyId, tenant: Row, subject: Option<Row>) -> Option<Timestamp> {
        let rows = [Some(tenant), subject].into_iter().flatten().filter_map(|row| self.floors.rows.get(&row));
        rows.chain(self.floors.keys.get(&key)).chain(&self.floors.global).max().copied()
    }

    /// The floor in force for what this one names, if it is one of time.
    #[must_use]
    pub fn standing(&self, revocation: &Revocation) -> Option<Timestamp> {
        match revocation {
            Revocation::Key { key, before: Some(_) } => self.floors.keys.get(key).copied(),
            Revocation::Subject { row, .. } | Revocation::Tenant { row, .. } => {
                self.floors.rows.get(row).copied()
            }
            Revocation::Global { .. } => self.floors.global,
            Revocation::Token { .. } | Revocation::Branch { .. } | Revocation::Key { before: None, .. } => {
                None
            }
        }
    }

    /// Whether a floor at least as high is in force for what this one names.
    #[must_use]
    pub fn has_stricter(&self, revocation: &Revocation) -> bool {
        self.standing(revocation).zip(revocation.before()).is_some_and(|(floor, before)| floor >= before)
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

/// A revocation as a stored row, so that any store can tell the second of two equal ones. The
/// key is the rule itself, a floor's time included; every byte of it is published, so it needs a
/// tag and no seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationRow {
    /// What is revoked.
    pub revocation: Revocation,
    /// How long it is kept.
    pub day: ExpiryDay,
    /// The step that published it, or none yet.
    pub covered: Option<Position>,
}

/// Stands in a key for "all of it": no floor reaches it, since times end with the year 9999.
const EVERYTHING: u64 = u64::MAX;

impl RevocationRow {
    /// The row's key: a byte for the rule, what it names, the floor's time.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let rule: u8 = match &self.revocation {
            Revocation::Token { .. } => 1,
            Revocation::Branch { .. } => 2,
            Revocation::Key { .. } => 3,
            Revocation::Subject { .. } => 4,
            Revocation::Tenant { .. } => 5,
            Revocation::Global { .. } => 6,
        };
        let id = self.revocation.named().map_or(&[][..], |(_, id)| id);
        let floor = self.floor().map(u64::to_be_bytes);
        [&[rule][..], id, floor.as_ref().map_or(&[][..], |floor| &floor[..])].concat()
    }

    /// What was minted before it is revoked; `None` for a token and a branch, which have no time.
    fn floor(&self) -> Option<u64> {
        match &self.revocation {
            Revocation::Token { .. } | Revocation::Branch { .. } => None,
            Revocation::Key { before, .. } => Some(before.map_or(EVERYTHING, Timestamp::millis)),
            Revocation::Subject { before, .. }
            | Revocation::Tenant { before, .. }
            | Revocation::Global { before } => Some(before.millis()),
        }
    }

    /// The keys of all rows that a step drops which names a day (RV-7).
    #[must_use]
    pub fn keys_through(last: ExpiryDay, set: &RevocationSet) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        set.for_each(|revocation, day| {
            if day <= last {
                keys.push(Self { revocation, day, covered: None }.key());
            }
        });
        keys
    }

    /// The keys of the floors that higher ones take the place of when a step adds `rows` to `set`,
    /// among these rows and those before: the state does without them (RV-20). They are to be deleted
    /// with the head that names the step or with a later one: until then the state before still needs them.
    #[must_use]
    pub fn superseded(rows: &[Self], set: &RevocationSet) -> Vec<Vec<u8>> {
        let mut standing: BTreeMap<Option<(Kind, ExpiryDay, u128)>, Self> = BTreeMap::new();
        let mut keys = Vec::new();
        for row in rows.iter().filter(|row| row.floor().is_some()) {
            let (place, published) = match Place::of(&row.revocation) {
                Place::Floor(_) => (None, set.global_floor().map(|before| Revocation::Global { before })),
                Place::Row(kind, Item { id, .. }) => {
                    let value = set.value(kind, row.day, id);
                    (
                        Some((kind, row.day, id)),
                        value.and_then(|value| kind::revocation(kind, Item { id, value })),
                    )
                }
            };
            let published = published.map_or(*row, |revocation| Self { revocation, ..*row });
            let highest = standing.entry(place).or_insert(published);
            let (lower, higher) =
                if row.floor() > highest.floor() { (*highest, *row) } else { (*row, *highest) };
            if lower.floor() < higher.floor() {
                keys.push(lower.key());
            }
            *highest = higher;
        }
        keys
    }

    /// Whether the state does without this row, which a step has covered: its day was dropped, or a
    /// higher floor took its place.
    #[must_use]
    pub fn is_spent(&self, set: &RevocationSet) -> bool {
        match Place::of(&self.revocation) {
            Place::Floor(floor) => floor < set.floor(),
            Place::Row(kind, item) => set
                .value(kind, self.day, item.id)
                .map_or(self.day != ExpiryDay::UNKNOWN, |value| value > item.value),
        }
    }

    /// The row's value: epoch, sequence, day.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        // Epochs count from one, so the first of all positions stands for none.
        let Position { epoch, sequence } = self.covered.unwrap_or_default();
        [&epoch.to_be_bytes()[..], &sequence.to_be_bytes(), &self.day.number().to_be_bytes()].concat()
    }

    /// Reads a row; `None` when a byte of it is not as [`RevocationRow::key`] and
    /// [`RevocationRow::value`] write it.
    #[must_use]
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut value = Reader::new(value);
        let covered = Position { epoch: value.u64().ok()?, sequence: value.u64().ok()? };
        let day = ExpiryDay::from_number(value.u32().ok()?);
        let mut key = Reader::new(key);
        let revocation = revocation(&mut key).ok().flatten()?;
        let covered = Some(covered).filter(|covered| *covered != Position::default());
        (key.is_empty() && value.is_empty()).then_some(Self { revocation, day, covered })
    }
}

fn revocation(key: &mut Reader<'_>) -> Result<Option<Revocation>, Truncated> {
    Ok(match key.u8()? {
        1 => Some(Revocation::Token { lineage: LineageId::from_bytes(key.array()?) }),
        2 => Some(Revocation::Branch { branch: BranchId::from_bytes(key.array()?) }),
        3 => {
            let id = KeyId::from_bytes(key.array()?);
            match key.u64()? {
                EVERYTHING => Some(Revocation::Key { key: id, before: None }),
                millis => Timestamp::from_millis(millis)
                    .map(|before| Revocation::Key { key: id, before: Some(before) }),
            }
        }
        4 => floor(key)?.map(|(row, before)| Revocation::Subject { row, before }),
        5 => floor(key)?.map(|(row, before)| Revocation::Tenant { row, before }),
        6 => Timestamp::from_millis(key.u64()?).map(|before| Revocation::Global { before }),
        _ => None,
    })
}

fn floor(key: &mut Reader<'_>) -> Result<Option<(Row, Timestamp)>, Truncated> {
    let row = Row::from_bytes(key.array()?);
    Ok(Timestamp::from_millis(key.u64()?).map(|before| (row, before)))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

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

    fn set(rows: &[RevocationRow]) -> RevocationSet {
        RevocationSet::build(rows.iter().map(|row| (row.revocation, row.day))).unwrap()
    }

    fn kept(revocation: Revocation) -> RevocationRow {
        RevocationRow {
            revocation,
            day: ExpiryDay::UNKNOWN,
            covered: Some(Position { epoch: 1, sequence: 7 }),
        }
    }

    #[test]
    fn of_the_floors_of_one_id_only_the_highest_stays() {
        let subject = |millis| kept(Revocation::Subject { row: SUBJECT, before: at(millis) });
        let tenant = |millis| kept(Revocation::Tenant { row: SUBJECT, before: at(millis) });
        let key = |before: Option<u64>| kept(Revocation::Key { key: KEY, before: before.map(at) });
        let global = |millis| kept(Revocation::Global { before: at(millis) });
        let token = kept(Revocation::Token { lineage: LineageId::new([9; 10], at(1000)) });
        let branch = kept(Revocation::Branch { branch: BRANCH });
        let dated = RevocationRow { day: ExpiryDay::from_number(20_000), ..subject(3) };
        let before = [subject(5), global(5), key(Some(5)), token, branch];
        // Of the step's rows, and what goes then.
        for (step, gone) in [
            (vec![subject(9)], vec![subject(5)]),
            (vec![subject(7), subject(9), subject(8)], vec![subject(5), subject(7), subject(8)]),
            (vec![subject(5)], vec![]),
            (vec![subject(4)], vec![subject(4)]),
            (vec![tenant(9)], vec![]),
            (vec![tenant(9), tenant(8)], vec![tenant(8)]),
            (vec![global(6), subject(6)], vec![global(5), subject(5)]),
            (vec![global(4)], vec![global(4)]),
            (vec![key(Some(6)), key(None)], vec![key(Some(5)), key(Some(6))]),
            (vec![dated], vec![]),
            (vec![token, branch], vec![]),
        ] {
            let keys = RevocationRow::superseded(&step, &set(&before));
            assert_eq!(keys, gone.iter().map(RevocationRow::key).collect::<Vec<_>>(), "{step:?}");
            // The rest gives the very same state, and a start finds the same to be spent.
            let all: Vec<_> = before.iter().chain(&step).copied().collect();
            let rest: Vec<_> = all.iter().filter(|row| !keys.contains(&row.key())).copied().collect();
            let after = set(&all);
            assert_eq!(set(&rest).digest(), after.digest());
            assert!(all.iter().all(|row| row.is_spent(&after) == keys.contains(&row.key())), "{step:?}");
        }
        assert!(dated.is_spent(&set(&before)), "its day was dropped");
    }

    #[test]
    fn rows_read_back_and_every_cut_and_surplus_is_refused() {
        for revocation in every_rule() {
            for covered in [None, Some(Position { epoch: 1, sequence: 7 })] {
                let row = RevocationRow { revocation, day: ExpiryDay::from_number(20_000), covered };
                let (key, value) = (row.key(), row.value());
                assert_eq!(RevocationRow::decode(&key, &value), Some(row));
                for len in 0..key.len() {
                    assert_eq!(RevocationRow::decode(&key[..len], &value), None);
                }
                for len in 0..value.len() {
                    assert_eq!(RevocationRow::decode(&key, &value[..len]), None);
                }
                assert_eq!(RevocationRow::decode(&[&key[..], &[0]].concat(), &value), None);
                assert_eq!(RevocationRow::decode(&key, &[&value[..], &[0]].concat()), None);
            }
        }
        assert_eq!(RevocationRow::decode(&[7; 17], &[0; 20]), None);
    }
}
