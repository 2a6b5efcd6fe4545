//! Repetitions in lists, without allocation and without quadratic work.

use super::word::{Resources, Words, same};
use crate::limits;

/// Elements compared one with another while a list is read; longer lists are sorted afterwards.
const FEW: usize = 8;

/// Most elements that fit one caveat: a byte and a separator each.
const MOST: usize = limits::CAVEAT_BYTES / 2;

/// Watches the elements of one list for a repetition.
pub(super) struct Distinct<'a> {
    list: &'a [u8],
    few: [(u16, u16); FEW],
    count: usize,
}

impl<'a> Distinct<'a> {
    /// For a list at the start of `list`.
    pub(super) const fn new(list: &'a [u8]) -> Self {
        Self { list, few: [(0, 0); FEW], count: 0 }
    }

    /// Takes note of an element that lies in the list from here to there; `false` when it is one
    /// of the first [`FEW`] again.
    #[inline(always)]
    pub(super) fn add(&mut self, from: usize, to: usize) -> bool {
        let at = self.count;
        self.count = at.wrapping_add(1);
        if at != 0 && self.is_repeated(from, to) {
            return false;
        }
        if let (Some(slot), Ok(from), Ok(to)) = (self.few.get_mut(at), u16::try_from(from), u16::try_from(to))
        {
            *slot = (from, to);
        }
        true
    }

    #[inline]
    fn is_repeated(&self, from: usize, to: usize) -> bool {
        let at = |from, to| self.list.get(from..to).unwrap_or(&[]);
        let element = at(from, to);
        let seen = self.few.get(..self.count.wrapping_sub(1)).unwrap_or(&self.few);
        seen.iter().any(|(from, to)| {
            usize::from(to.wrapping_sub(*from)) == element.len()
                && same(at(usize::from(*from), usize::from(*to)), element)
        })
    }

    /// Whether no word of the whole list stands in it twice.
    #[inline]
    pub(super) fn all_words(&self, list: &[u8]) -> bool {
        self.count <= FEW || sorted_distinct(list, Words::new(list))
    }

    /// Whether no resource of the whole list stands in it twice.
    #[inline]
    pub(super) fn all_resources(&self, list: &[u8]) -> bool {
        self.count <= FEW || sorted_distinct(list, Resources::new(list).map(|(resource, _)| resource))
    }
}

/// Where an element lies in the list that it was cut from.
#[inline]
fn span(list: &[u8], element: &[u8]) -> Option<(u16, u16)> {
    let from = element.as_ptr().addr().checked_sub(list.as_ptr().addr())?;
    let to = from.checked_add(element.len())?;
    Some((u16::try_from(from).ok()?, u16::try_from(to).ok()?))
}

#[inline(never)]
fn sorted_distinct<'a>(list: &'a [u8], elements: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut spans = [(0u16, 0u16); MOST];
    let mut count = 0usize;
    for (slot, element) in spans.iter_mut().zip(elements) {
        let Some(span) = span(list, element) else { return false };
        *slot = span;
        count = count.saturating_add(1);
    }
    let element = |span: &(u16, u16)| list.get(usize::from(span.0)..usize::from(span.1));
    let Some(spans) = spans.get_mut(..count) else { return false };
    spans.sort_unstable_by(|a, b| element(a).cmp(&element(b)));
    spans.windows(2).all(|pair| match pair {
        [a, b] => element(a) != element(b),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::super::{Caveat, ParseFault};
    use super::*;

    fn list(elements: &[String]) -> String {
        std::format!("x in {}", elements.join(","))
    }

    #[test]
    fn a_repetition_is_found_wherever_it_stands() {
        for count in [2, FEW, FEW + 1, FEW + 2, 300] {
            let elements: Vec<String> = (0..count).map(|n| std::format!("{}", n * 7 % 1009)).collect();
            assert!(Caveat::parse(&list(&elements)).is_ok(), "{count}");
            for (from, to) in [(0, count - 1), (count - 1, 0), (count / 2, 0)] {
                let mut elements = elements.clone();
                elements[to] = elements[from].clone();
                let repeated = from != to;
                assert_eq!(Caveat::parse(&list(&elements)).is_err(), repeated, "{count}: {from} to {to}");
            }
        }
    }

    #[test]
    fn the_longest_list_that_fits_a_caveat() {
        // Single characters beyond ASCII take two bytes and a comma each.
        let mut text = String::from("x in a");
        let mut letter = 0xa1u32;
        while text.len() + 3 <= limits::CAVEAT_BYTES {
            let c = char::from_u32(letter).unwrap();
            letter += 1;
            if c.len_utf8() == 2 && !super::super::word::is_hidden(c) {
                text.push(',');
                text.push(c);
            }
        }
        assert!(Caveat::parse(&text).is_ok());
        text.push_str(",a");
        assert_eq!(Caveat::parse(&text).unwrap_err().fault(), ParseFault::TooLong);
    }
}
