//! A caveat in words, for people.

use alloc::string::String;
use core::fmt::{self, Write as _};

use super::word::{Resources, Words, as_text};
use super::{About, Caveat, Operand, Operator};
use crate::refusal::printable;

/// A caveat in words; made by [`Caveat::meaning`].
#[derive(Debug, Clone, Copy)]
pub struct Meaning<'a> {
    caveat: Caveat<'a>,
}

impl<'a> Caveat<'a> {
    /// What it says, in a sentence of printable text.
    #[must_use]
    pub const fn meaning(&self) -> Meaning<'a> {
        Meaning { caveat: *self }
    }
}

impl fmt::Display for Meaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caveat = &self.caveat;
        let name = caveat.name();
        let mut words = String::new();
        let who = match caveat.about() {
            About::Time => "the time of the request",
            About::Action => "every action",
            About::Tenant => "the tenant",
            About::Subject => "the token's subject",
            About::Audience => "the token's audience",
            About::Fact => "",
        };
        if who.is_empty() {
            write!(words, "`{name}`")?;
        } else {
            words.push_str(who);
        }
        let value = caveat.value();
        match caveat.operand() {
            Operand::One(..) => write!(words, " {} {value}", verb(caveat.operator()))?,
            Operand::List(list, _) => {
                write!(words, " {} ", verb(caveat.operator()))?;
                join(&mut words, list)?;
            }
            Operand::Resources(list, _) => {
                for (at, (resource, actions)) in Resources::new(list).enumerate() {
                    let or = if at == 0 { " is" } else { ", or" };
                    write!(words, "{or} {} for ", as_text(resource))?;
                    join(&mut words, actions)?;
                }
            }
        }
        match (caveat.otherwise(), caveat.is_optional()) {
            (Some(list), _) => {
                write!(words, ", if the request states `{name}`; otherwise every action is ")?;
                join(&mut words, list.as_bytes())?;
            }
            (None, true) => write!(words, ", if the request states `{name}`; otherwise it does not matter")?,
            (None, false) => {}
        }
        write!(f, "only if {}", printable(words.as_bytes()))
    }
}

const fn verb(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "is",
        Operator::NotEqual => "is not",
        Operator::Less => "is below",
        Operator::AtMost => "is at most",
        Operator::More => "is above",
        Operator::AtLeast => "is at least",
        Operator::In => "is, or lies in,",
        Operator::NotIn => "neither is nor lies in",
        Operator::Under => "is, or lies below,",
        Operator::Allows => "is",
    }
}

fn join(to: &mut String, list: &[u8]) -> fmt::Result {
    Words::new(list)
        .enumerate()
        .try_for_each(|(at, word)| write!(to, "{}{}", if at == 0 { "" } else { " or " }, as_text(word)))
}
