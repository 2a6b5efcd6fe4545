//! Places of one kind, of which everybody may have some and those who are known a part of their own.

/// What is known of who presents a token, before the signer is asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Standing {
    /// Nothing.
    Stranger,
    /// The signer has vouched for a token with this very identifier. Identifiers are no secret: the
    /// token may be a sibling of the one that is remembered, or a forgery by who has seen one.
    Claimed,
    /// It extends a token that the signer has vouched for, with a tail that only its holder can have.
    Proven,
}

/// One place; bytes are counted as so many.
pub(super) const PLACE: usize = 1;

/// How much of a bound is taken, by standing.
#[derive(Debug)]
pub(super) struct Places {
    bound: usize,
    strangers: usize,
    claimed: usize,
    proven: usize,
}

impl Places {
    pub(super) const fn new(bound: usize) -> Self {
        Self { bound, strangers: 0, claimed: 0, proven: 0 }
    }

    pub(super) const fn taken(&self) -> usize {
        self.unproven().saturating_add(self.proven)
    }

    /// Whether `count` more may be taken. A quarter is not for strangers, and half of that, rounded
    /// up, for those alone whose standing is proven.
    pub(super) fn has_room(&self, standing: Standing, count: usize) -> bool {
        let quarter = self.bound / 4;
        let unproven = self.bound.saturating_sub(quarter.div_ceil(2));
        let within = |taken: usize, bound: usize| taken.saturating_add(count) <= bound;
        let all = within(self.taken(), self.bound);
        match standing {
            Standing::Proven => all,
            Standing::Claimed => all && within(self.unproven(), unproven),
            Standing::Stranger => {
                all && within(self.unproven(), unproven)
                    && within(self.strangers, self.bound.saturating_sub(quarter))
            }
        }
    }

    pub(super) const fn take(&mut self, standing: Standing, count: usize) {
        let taken = self.of(standing);
        *taken = taken.saturating_add(count);
    }

    pub(super) const fn give(&mut self, standing: Standing, count: usize) {
        let taken = self.of(standing);
        *taken = taken.saturating_sub(count);
    }

    const fn unproven(&self) -> usize {
        self.strangers.saturating_add(self.claimed)
    }

    const fn of(&mut self, standing: Standing) -> &mut usize {
        match standing {
            Standing::Stranger => &mut self.strangers,
            Standing::Claimed => &mut self.claimed,
            Standing::Proven => &mut self.proven,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(places: &mut Places, standing: Standing) -> usize {
        let mut count = 0;
        while places.has_room(standing, PLACE) {
            places.take(standing, PLACE);
            count += 1;
        }
        count
    }

    #[test]
    fn each_standing_leaves_the_better_ones_their_part() {
        for (bound, of_strangers, of_claims, of_proofs) in
            [(32, 24, 4, 4), (8, 6, 1, 1), (4, 3, 0, 1), (3, 3, 0, 0), (1, 1, 0, 0), (0, 0, 0, 0)]
        {
            let mut places = Places::new(bound);
            assert_eq!(fill(&mut places, Standing::Stranger), of_strangers, "{bound}");
            assert_eq!(fill(&mut places, Standing::Claimed), of_claims, "{bound}");
            assert_eq!(fill(&mut places, Standing::Proven), of_proofs, "{bound}");
            assert_eq!(places.taken(), bound);
        }
        // Claims alone do not reach what is for proofs either.
        assert_eq!(fill(&mut Places::new(32), Standing::Claimed), 28);
    }

    #[test]
    fn a_place_that_is_given_back_is_had_by_whom_it_was_for() {
        let mut places = Places::new(8);
        fill(&mut places, Standing::Stranger);
        fill(&mut places, Standing::Claimed);
        places.give(Standing::Claimed, PLACE);
        assert!(!places.has_room(Standing::Stranger, PLACE) && places.has_room(Standing::Claimed, PLACE));
        // More than one at a time: all of it or nothing.
        assert!(places.has_room(Standing::Proven, 2) && !places.has_room(Standing::Proven, 3));
        assert!(!places.has_room(Standing::Proven, usize::MAX));
    }
}
