/// Which message numbers of a session were used (PR-58): everything below the window counts as used,
/// so that a number can be marked once and no recorded message ever again.
///
/// 1,024 numbers: a client may have that many calls under way at once and out of order.
#[derive(Debug)]
pub struct Window {
    /// One past the highest number marked; 0: none.
    end: u64,
    /// Bit `n % WIDTH` for the numbers in `end - WIDTH .. end`.
    bits: [u64; WORDS],
}

const WORDS: usize = 16;
const WIDTH: u64 = 1024;

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// No number was used yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { end: 0, bits: [0; WORDS] }
    }

    /// Marks a number; `false` when it was marked before, lies below the window, or is the one
    /// that Noise reserves. Called after the message was found authentic: garbage marks nothing.
    pub fn mark(&mut self, number: u64) -> bool {
        let Some(after) = number.checked_add(1) else { return false };
        if after > self.end {
            self.slide(after);
        } else if self.end.saturating_sub(number) > WIDTH {
            return false;
        }
        let (word, bit) = place(number);
        let Some(word) = self.bits.get_mut(word) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Moves the end forward and clears the places of the numbers that enter the window.
    fn slide(&mut self, end: u64) {
        if end.saturating_sub(self.end) >= WIDTH {
            self.bits = [0; WORDS];
        } else {
            for number in self.end..end {
                let (word, bit) = place(number);
                if let Some(word) = self.bits.get_mut(word) {
                    *word &= !bit;
                }
            }
        }
        self.end = end;
    }
}

/// The word and the bit of a number.
fn place(number: u64) -> (usize, u64) {
    let slot = number % WIDTH;
    (usize::try_from(slot / 64).unwrap_or(0), 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PR-58.
    #[test]
    fn a_number_counts_once_in_any_order() {
        let mut window = Window::new();
        for number in [0, 5, 3, 1, 2, 4, 900, 6] {
            assert!(window.mark(number), "{number}");
            assert!(!window.mark(number), "{number}");
        }
    }

    #[test]
    fn the_edge_of_the_window_and_one_below_it() {
        let mut window = Window::new();
        assert!(window.mark(5000));
        assert!(window.mark(5001 - WIDTH));
        assert!(!window.mark(5000 - WIDTH));
        assert!(!window.mark(0));
    }

    #[test]
    fn a_jump_forgets_no_used_number() {
        let mut window = Window::new();
        for number in 0..WIDTH {
            assert!(window.mark(number));
        }
        assert!(window.mark(WIDTH + 10));
        assert!(!window.mark(WIDTH - 1));
        assert!(window.mark(WIDTH + 9));
        assert!(window.mark(u64::MAX - 1));
        assert!(!window.mark(WIDTH + 11));
        assert!(!window.mark(u64::MAX));
    }

    /// Against the plain meaning: a set of all numbers ever marked.
    #[test]
    fn agrees_with_a_set() {
        let mut window = Window::new();
        let mut seen = alloc::collections::BTreeSet::new();
        let mut state = 1u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let base = seen.last().copied().unwrap_or(0);
            let number = (base + (state >> 33) % 64).saturating_sub((state >> 20) % 1100);
            let expected = base < number + WIDTH && !seen.contains(&number);
            assert_eq!(window.mark(number), expected, "{number}");
            if expected {
                seen.insert(number);
            }
        }
    }
}
