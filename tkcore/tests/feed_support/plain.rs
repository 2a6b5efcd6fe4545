//! What must be true of a set, written the plainest way, and random rows and questions for it.

use std::collections::BTreeMap;
use std::time::Duration;

use tkcore::revocation::{ExpiryDay, Gap, Query, Revocation, RevocationSet, Rule, Status};
use tkcore::{BranchId, KeyId, LineageId, Row, Timestamp};

use super::{Random, START, at};

pub(crate) const DAY: u64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Token(LineageId),
    Branch(BranchId),
    Key(KeyId),
    Subject(Row),
    Tenant(Row),
}

/// Rows by what they name and the day they are kept for, and the global floor. The value is the
/// floor in milliseconds, `u64::MAX` for everything.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    rows: BTreeMap<(Named, ExpiryDay), u64>,
    floor: u64,
}

impl Plain {
    pub(crate) fn of(set: &RevocationSet) -> Self {
        let mut plain = Self { floor: set.global_floor().map_or(0, Timestamp::millis), ..Self::default() };
        set.for_each(|row, day| plain.add(&row, day));
        plain
    }

    pub(crate) fn add(&mut self, revocation: &Revocation, day: ExpiryDay) {
        let floor = revocation.before().map_or(u64::MAX, Timestamp::millis);
        let named = match *revocation {
            Revocation::Token { lineage } => Named::Token(lineage),
            Revocation::Branch { branch } => Named::Branch(branch),
            Revocation::Key { key, .. } => Named::Key(key),
            Revocation::Subject { row, .. } => Named::Subject(row),
            Revocation::Tenant { row, .. } => Named::Tenant(row),
            Revocation::Global { .. } => {
                self.floor = self.floor.max(floor);
                return;
            }
        };
        let row = self.rows.entry((named, day)).or_default();
        *row = (*row).max(floor);
    }

    pub(crate) fn drop_through(&mut self, day: ExpiryDay) {
        self.rows.retain(|(_, own), _| *own > day || *own == ExpiryDay::UNKNOWN);
    }

    /// Some day that a row is kept for.
    pub(crate) fn any_day(&self, random: &mut Random) -> Option<ExpiryDay> {
        let index = random.below(self.rows.len().max(1) as u64) as usize;
        self.rows.keys().nth(index).map(|(_, day)| *day)
    }

    /// Forgets about one row in `odds`.
    pub(crate) fn forget(&mut self, random: &mut Random, odds: u64) {
        self.rows.retain(|_, _| !random.one_in(odds));
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (row, floor) in &other.rows {
            let own = self.rows.entry(*row).or_default();
            *own = (*own).max(*floor);
        }
        self.floor = self.floor.max(other.floor);
    }

    pub(crate) fn to_set(&self) -> RevocationSet {
        let before = |floor: u64| Timestamp::from_millis(floor);
        let rows = self.rows.iter().map(|((named, day), floor)| {
            let row = match *named {
                Named::Token(lineage) => Revocation::Token { lineage },
                Named::Branch(branch) => Revocation::Branch { branch },
                Named::Key(key) => Revocation::Key { key, before: before(*floor) },
                Named::Subject(row) => Revocation::Subject { row, before: before(*floor).unwrap() },
                Named::Tenant(row) => Revocation::Tenant { row, before: before(*floor).unwrap() },
            };
            (row, *day)
        });
        let global = before(self.floor).filter(|_| self.floor > 0);
        let global = global.map(|before| (Revocation::Global { before }, ExpiryDay::UNKNOWN));
        RevocationSet::build(rows.chain(global)).unwrap()
    }

    /// A row that `later` refuses less by, although its day is not over; `None` when nothing was lost.
    pub(crate) fn lost_in(&self, later: &Self, issued_at: Timestamp, skew: Duration) -> Option<String> {
        if later.floor < self.floor {
            return Some(format!("global floor {} became {}", self.floor, later.floor));
        }
        let is_kept = |named: Named, day: ExpiryDay, floor: u64| {
            let from = later.rows.range((named, day)..=(named, ExpiryDay::UNKNOWN));
            from.map(|(_, floor)| *floor).max() >= Some(floor)
        };
        self.rows
            .iter()
            .filter(|((_, day), _)| !day.is_over(issued_at, skew))
            .find(|((named, day), floor)| !is_kept(*named, *day, **floor))
            .map(|(row, _)| format!("{row:?}"))
    }

    /// The highest floor over all days; 0 for none.
    fn most(&self, named: Option<Named>) -> u64 {
        let Some(named) = named else { return 0 };
        let days = (named, ExpiryDay::from_number(0))..=(named, ExpiryDay::UNKNOWN);
        self.rows.range(days).map(|(_, floor)| *floor).max().unwrap_or(0)
    }

    pub(crate) fn status(&self, query: &Query<'_>) -> Status {
        let issued = query.issued_at.map(Timestamp::millis);
        let parent = query.parent.map(|parent| parent.minted().map(Timestamp::millis));
        let hits = |floor: u64| {
            let is_before = |at: u64| at < floor;
            floor == u64::MAX || issued.is_some_and(is_before) || parent.flatten().is_some_and(is_before)
        };
        let floors = [
            (Rule::Global, self.floor),
            (Rule::Tenant, self.most(query.tenant.map(Named::Tenant))),
            (Rule::Key, self.most(query.key.map(Named::Key))),
            (Rule::Subject, self.most(query.subject.map(Named::Subject))),
        ];
        if let Some((rule, _)) = floors.iter().find(|(_, floor)| hits(*floor)) {
            return Status::Revoked(*rule);
        }
        let is_dead = |named: Named| self.most(Some(named)) > 0;
        if is_dead(Named::Token(query.lineage)) {
            return Status::Revoked(Rule::Token);
        }
        if query.parent.is_some_and(|parent| is_dead(Named::Token(parent))) {
            return Status::Revoked(Rule::Parent);
        }
        if query.branches.iter().any(|branch| is_dead(Named::Branch(*branch))) {
            return Status::Revoked(Rule::Branch);
        }
        if query.branches.is_empty() && self.rows.keys().any(|(named, _)| matches!(named, Named::Branch(_))) {
            return Status::Unknown(Gap::BranchesNotCollected);
        }
        let is_timeless = issued.is_none() || parent.is_some_and(|minted| minted.is_none());
        if is_timeless && floors.iter().any(|(_, floor)| *floor > 0) {
            return Status::Unknown(Gap::NoIssueTime);
        }
        Status::Live
    }
}

/// A row of any kind, kept for up to four times `days`, or for good.
pub(crate) fn random_row(random: &mut Random, now: u64, days: u64) -> (Revocation, ExpiryDay) {
    // Few ids, so that rows meet; drawn from a small space except now and then.
    let id = |random: &mut Random| -> [u8; 16] {
        if random.one_in(3) { [random.below(12) as u8; 16] } else { random.bytes() }
    };
    let before = at(now - random.below(40 * DAY));
    let revocation = match random.below(12) {
        0 => Revocation::Branch { branch: BranchId::from_bytes(id(random)) },
        1 => Revocation::Key {
            key: KeyId::from_bytes([random.below(6) as u8; 8]),
            before: if random.one_in(4) { None } else { Some(before) },
        },
        2 => Revocation::Subject { row: Row::from_bytes(id(random)), before },
        3 => Revocation::Tenant { row: Row::from_bytes([random.below(9) as u8; 16]), before },
        4 if random.one_in(40) => Revocation::Global { before: at(now - 30 * DAY) },
        _ => {
            let lineage = if random.one_in(3) {
                LineageId::new([random.below(9) as u8; 10], at(START))
            } else {
                random.lineage(now)
            };
            Revocation::Token { lineage }
        }
    };
    let day = match random.below(5) {
        0 => ExpiryDay::UNKNOWN,
        n => ExpiryDay::of(Some(at(now + n * days * DAY))),
    };
    (revocation, day)
}

/// Asks for something that is or was named, or for nothing of the kind.
pub(crate) fn random_query<'a>(
    random: &mut Random,
    known: &[Revocation],
    branches: &'a mut Vec<BranchId>,
) -> Query<'a> {
    let pick = |random: &mut Random| known.get(random.below(known.len().max(1) as u64) as usize).copied();
    let mut lineage = LineageId::new(random.bytes(), at(START - random.below(50 * DAY)));
    let (mut parent, mut key, mut tenant, mut subject) = (None, None, None, None);
    branches.clear();
    if !random.one_in(8) {
        branches.push(BranchId::from_bytes(random.bytes()));
    }
    for _ in 0..2 {
        match pick(random) {
            Some(Revocation::Token { lineage: other }) if random.one_in(3) => parent = Some(other),
            Some(Revocation::Token { lineage: other }) => lineage = other,
            Some(Revocation::Branch { branch }) => branches.push(branch),
            Some(Revocation::Key { key: other, .. }) => key = Some(other),
            Some(Revocation::Subject { row, .. }) => subject = Some(row),
            Some(Revocation::Tenant { row, .. }) => tenant = Some(row),
            Some(Revocation::Global { .. }) | None => {}
        }
    }
    let issued_at = if random.one_in(8) { None } else { lineage.minted() };
    Query { lineage, issued_at, parent, key, tenant, subject, branches }
}
