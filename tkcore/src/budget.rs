use crate::limits;

/// Work still allowed in one verification, in blocks of 64 bytes hashed or compared.
///
/// One budget is spent through the whole verification of a header: the chain, every discharge
/// and every caveat. It counts work and never wall time, so that a loaded machine refuses no
/// valid token.
#[derive(Debug, Clone)]
pub struct Budget {
    left: u32,
}

/// The budget is used up; the search ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetSpent;

impl Budget {
    /// A budget of `blocks` units of 64 bytes.
    #[must_use]
    pub const fn new(blocks: u32) -> Self {
        Self { left: blocks }
    }

    /// Takes `blocks` units.
    ///
    /// # Errors
    /// [`BudgetSpent`] when fewer are left; the budget is then empty, so that no later and
    /// cheaper step can go on.
    pub fn spend(&mut self, blocks: u32) -> Result<(), BudgetSpent> {
        match self.left.checked_sub(blocks) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(BudgetSpent)
            }
        }
    }

    /// Takes what `bytes` bytes of hashing or comparing cost, at least one unit.
    ///
    /// # Errors
    /// As [`Budget::spend`].
    pub fn spend_bytes(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        let blocks = bytes.div_ceil(64).max(1);
        self.spend(u32::try_from(blocks).unwrap_or(u32::MAX))
    }

    /// Units left.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(limits::VERIFY_BUDGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_unit_can_be_spent_and_no_more() {
        let mut budget = Budget::new(3);
        assert_eq!(budget.spend(3), Ok(()));
        assert_eq!(budget.spend(1), Err(BudgetSpent));
    }

    #[test]
    fn an_overdraft_empties_it() {
        let mut budget = Budget::new(3);
        assert_eq!(budget.spend(4), Err(BudgetSpent));
        assert_eq!(budget.spend(1), Err(BudgetSpent));
    }

    #[test]
    fn bytes_are_rounded_up_and_nothing_is_free() {
        let mut budget = Budget::new(10);
        assert_eq!(budget.spend_bytes(0), Ok(()));
        assert_eq!(budget.spend_bytes(64), Ok(()));
        assert_eq!(budget.spend_bytes(65), Ok(()));
        assert_eq!(budget.left(), 6);
        assert_eq!(budget.spend_bytes(usize::MAX), Err(BudgetSpent));
    }
}
