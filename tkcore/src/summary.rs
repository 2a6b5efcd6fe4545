//! What a token can still do at most: the bounds of all its caveats together, and whether they
//! contradict each other. For people and for attenuation; no decision is made from it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use crate::caveat::address;
use crate::caveat::word::{self, Kinds, Resources, Value, Words, as_text};
use crate::caveat::{About, Caveat, Operand, Operator, Vocabulary, path};
use crate::refusal::printable;
use crate::time::Timestamp;
use crate::verify::Verified;

/// What every request has to satisfy at least (docs/spec/caveats.md, CV-90).
///
/// Everything listed here holds for whatever is admitted; the converse is not promised, since
/// optional caveats and custom kinds are listed as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    expires: Option<Timestamp>,
    starts: Option<Timestamp>,
    bounds: BTreeMap<String, Bound>,
    others: BTreeSet<String>,
    contradictions: Vec<String>,
}

/// What is asked of one fact, or of the actions, that every request must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    kinds: Kinds,
    among: Option<BTreeSet<String>>,
    not: BTreeSet<String>,
    least: Option<i64>,
    most: Option<i64>,
    under: Option<String>,
    allows: Option<BTreeMap<String, BTreeSet<String>>>,
}

/// Pairs of networks looked at when two lists of addresses are intersected; longer lists stay as
/// the shorter of the two, which still bounds.
const PAIRS: usize = 65_536;

impl Summary {
    /// Puts caveats together; `expiry` is the token's own.
    pub fn of<'c>(
        caveats: impl IntoIterator<Item = &'c [u8]>,
        expiry: Option<Timestamp>,
        vocabulary: &Vocabulary,
    ) -> Self {
        let mut summary = Self { expires: expiry, ..Self::default() };
        for text in caveats {
            summary.add(text, vocabulary);
        }
        summary.conclude();
        summary
    }

    /// The earliest end: the token's own expiry or a `time` caveat.
    #[must_use]
    pub const fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// The latest start that a `time` caveat sets.
    #[must_use]
    pub const fn starts(&self) -> Option<Timestamp> {
        self.starts
    }

    /// What is asked of each name, by name.
    pub fn bounds(&self) -> impl Iterator<Item = (&str, &Bound)> {
        self.bounds.iter().map(|(name, bound)| (name.as_str(), bound))
    }

    /// Caveats that are listed as they stand: optional ones and custom kinds.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.others.iter().map(String::as_str)
    }

    /// Why no request can ever be admitted; empty when one may be.
    #[must_use]
    pub fn contradictions(&self) -> &[String] {
        &self.contradictions
    }

    /// Whether no request can ever be admitted.
    #[must_use]
    pub fn never_usable(&self) -> bool {
        !self.contradictions.is_empty()
    }

    fn add(&mut self, text: &[u8], vocabulary: &Vocabulary) {
        if let Some(custom) = vocabulary.custom(text) {
            match custom.text.map(|text| custom.kind.check(text)) {
                Ok(Ok(())) => drop(self.others.insert(printable(text).into())),
                Ok(Err(why)) => self.contradict(&printable(text), why),
                Err(error) => self.contradict(&printable(text), &error.to_string()),
            }
            return;
        }
        let caveat = match Caveat::from_bytes(text) {
            Ok(caveat) => caveat,
            Err(error) => return self.contradict(&printable(text), &error.to_string()),
        };
        if caveat.is_optional() {
            self.others.insert(text_of(caveat.as_str()));
            return;
        }
        if caveat.about() == About::Time
            && caveat.operator() != Operator::NotEqual
            && let Operand::One(_, Value::Time(at)) = caveat.operand()
        {
            self.time(caveat.operator(), at);
            return;
        }
        let bound = self.bounds.entry(caveat.name().to_string()).or_insert_with(Bound::any);
        bound.add(&caveat);
    }

    fn time(&mut self, operator: Operator, at: Timestamp) {
        let earlier = |now: Option<Timestamp>, new: Timestamp| Some(now.map_or(new, |now| now.min(new)));
        let later = |now: Option<Timestamp>, new: Timestamp| Some(now.map_or(new, |now| now.max(new)));
        match operator {
            Operator::Less | Operator::AtMost => self.expires = earlier(self.expires, at),
            Operator::More | Operator::AtLeast => self.starts = later(self.starts, at),
            Operator::Equal => {
                self.expires = earlier(self.expires, at);
                self.starts = later(self.starts, at);
            }
            Operator::NotEqual | Operator::In | Operator::NotIn | Operator::Under | Operator::Allows => {}
        }
    }

    fn contradict(&mut self, what: &str, why: &str) {
        self.contradictions.push(alloc::format!("`{what}`: {why}"));
    }

    fn conclude(&mut self) {
        if let (Some(starts), Some(expires)) = (self.starts, self.expires)
            && starts > expires
        {
            self.contradictions
                .push(alloc::format!("it begins at {starts}, when it has expired at {expires}"));
        }
        let actions = self.bounds.get("action").and_then(|bound| bound.among.clone());
        for (name, bound) in &mut self.bounds {
            if let Some(why) = bound.conclude(actions.as_ref()) {
                self.contradictions.push(alloc::format!("`{name}`: {why}"));
            }
        }
    }
}

fn text_of(text: &str) -> String {
    printable(text.as_bytes()).into()
}

impl Bound {
    const fn any() -> Self {
        Self {
            kinds: Kinds::ALL,
            among: None,
            not: BTreeSet::new(),
            least: None,
            most: None,
            under: None,
            allows: None,
        }
    }

    fn add(&mut self, caveat: &Caveat<'_>) {
        match caveat.operand() {
            Operand::One(raw, value) => {
                self.kinds = self.kinds.and(value.kinds());
                self.one(caveat.operator(), as_text(raw), value);
            }
            Operand::List(raw, kinds) => {
                self.kinds = self.kinds.and(kinds);
                let listed: BTreeSet<String> = Words::new(raw).map(owned).collect();
                if caveat.operator() == Operator::NotIn {
                    self.not.extend(listed);
                } else {
                    self.narrow(listed, kinds);
                }
            }
            Operand::Resources(raw, kinds) => {
                self.kinds = self.kinds.and(kinds);
                let grants = Resources::new(raw)
                    .map(|(resource, actions)| (owned(resource), Words::new(actions).map(owned).collect()));
                self.allow(grants.collect());
            }
        }
    }

    fn one(&mut self, operator: Operator, raw: &str, value: Value) {
        let number = match value {
            Value::Int(value) => Some(value),
            Value::Time(at) => i64::try_from(at.millis()).ok(),
            Value::Text | Value::Ip(_) | Value::Net(_) | Value::Path | Value::QuotedPath => None,
        };
        let at_most = |now: Option<i64>, new: i64| Some(now.map_or(new, |now| now.min(new)));
        let at_least = |now: Option<i64>, new: i64| Some(now.map_or(new, |now| now.max(new)));
        match (operator, number) {
            (Operator::Equal, _) => self.narrow(BTreeSet::from([raw.to_string()]), value.kinds()),
            (Operator::NotEqual, _) => drop(self.not.insert(raw.to_string())),
            // Bounds are kept inclusive. Beyond the last integer nothing is left.
            (Operator::Less, Some(number)) => match number.checked_sub(1) {
                Some(number) => self.most = at_most(self.most, number),
                None => self.kinds = self.kinds.and(Kinds::TEXT).and(Kinds::PATH),
            },
            (Operator::More, Some(number)) => match number.checked_add(1) {
                Some(number) => self.least = at_least(self.least, number),
                None => self.kinds = self.kinds.and(Kinds::TEXT).and(Kinds::PATH),
            },
            (Operator::AtMost, Some(number)) => self.most = at_most(self.most, number),
            (Operator::AtLeast, Some(number)) => self.least = at_least(self.least, number),
            (Operator::Under, _) => self.below(plain(raw)),
            (
                Operator::Less
                | Operator::AtMost
                | Operator::More
                | Operator::AtLeast
                | Operator::In
                | Operator::NotIn
                | Operator::Allows,
                _,
            ) => {}
        }
        if matches!(operator, Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast) {
            self.kinds = self.kinds.and(Kinds::INT.or(Kinds::TIME));
        }
        if operator == Operator::Under {
            self.kinds = self.kinds.and(Kinds::PATH);
        }
    }

    fn narrow(&mut self, listed: BTreeSet<String>, kinds: Kinds) {
        let Some(among) = &self.among else {
            self.among = Some(listed);
            return;
        };
        let addresses = kinds.holds(Kinds::IP) && self.kinds.holds(Kinds::IP);
        let met = if !addresses {
            among.intersection(&listed).cloned().collect()
        } else if among.len().saturating_mul(listed.len()) > PAIRS {
            if among.len() < listed.len() { among.clone() } else { listed }
        } else {
            among
                .iter()
                .flat_map(|a| listed.iter().filter_map(|b| address::narrower(a, b)))
                .map(str::to_string)
                .collect()
        };
        self.among = Some(met);
    }

    fn below(&mut self, base: &str) {
        match &self.under {
            Some(earlier) if path::is_under(base.as_bytes(), earlier.as_bytes()) => {
                self.under = Some(base.to_string())
            }
            Some(earlier) if path::is_under(earlier.as_bytes(), base.as_bytes()) => {}
            // Two trees that do not meet: no path is left.
            Some(_) => self.kinds = self.kinds.and(Kinds::TEXT).and(Kinds::INT),
            None => self.under = Some(base.to_string()),
        }
    }

    fn allow(&mut self, grants: BTreeMap<String, BTreeSet<String>>) {
        self.allows = Some(match self.allows.take() {
            None => grants,
            Some(earlier) => earlier
                .into_iter()
                .filter_map(|(resource, actions)| {
                    let more = grants.get(&resource)?;
                    let both: BTreeSet<String> = actions.intersection(more).cloned().collect();
                    (!both.is_empty()).then_some((resource, both))
                })
                .collect(),
        });
    }

    /// Takes what is certain into account, and says why nothing is left, if so.
    fn conclude(&mut self, actions: Option<&BTreeSet<String>>) -> Option<&'static str> {
        if self.kinds.is_empty() {
            return Some("no value satisfies all caveats about it");
        }
        if let (Some(least), Some(most)) = (self.least, self.most)
            && least > most
        {
            return Some("its bounds leave no number");
        }
        if let Some(among) = &mut self.among {
            let (least, most, under, not) = (self.least, self.most, &self.under, &self.not);
            among.retain(|word| {
                let number = word::integer(word.as_bytes());
                let within = number.is_none_or(|number| {
                    least.is_none_or(|least| least <= number) && most.is_none_or(|most| number <= most)
                });
                let below = under
                    .as_ref()
                    .is_none_or(|under| path::is_under(plain(word).as_bytes(), under.as_bytes()));
                !not.contains(word) && within && below
            });
            if among.is_empty() {
                return Some("no value is left");
            }
            // What the list says already is not said twice. A network can hold an excluded one.
            if !self.kinds.holds(Kinds::IP) {
                self.not.clear();
                self.under = None;
            }
        }
        if let Some(allows) = &mut self.allows {
            if let Some(among) = &self.among {
                allows.retain(|resource, _| among.contains(resource));
            }
            allows.retain(|resource, _| !self.not.contains(resource));
            if let Some(actions) = actions {
                allows.retain(|_, allowed| !allowed.is_disjoint(actions));
            }
            if allows.is_empty() {
                return Some("no resource is left on which an action is allowed");
            }
        }
        None
    }
}

fn owned(word: &[u8]) -> String {
    as_text(word).into()
}

fn plain(raw: &str) -> &str {
    raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw)
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut part = |f: &mut fmt::Formatter<'_>, what: &str, list: &mut dyn Iterator<Item = &String>| {
            if !core::mem::take(&mut first) {
                f.write_str("; ")?;
            }
            f.write_str(what)?;
            list.enumerate()
                .try_for_each(|(at, word)| write!(f, "{}{}", if at > 0 { "," } else { " " }, text_of(word)))
        };
        if let Some(among) = &self.among {
            part(f, "one of", &mut among.iter())?;
        }
        if !self.not.is_empty() {
            part(f, "none of", &mut self.not.iter())?;
        }
        let number = |number: i64| {
            let time = u64::try_from(number).ok().and_then(Timestamp::from_millis);
            match time.filter(|_| !self.kinds.holds(Kinds::INT)) {
                Some(time) => time.to_string(),
                None => number.to_string(),
            }
        };
        if let Some(least) = self.least {
            part(f, "at least", &mut core::iter::once(&number(least)))?;
        }
        if let Some(most) = self.most {
            part(f, "at most", &mut core::iter::once(&number(most)))?;
        }
        if let Some(under) = &self.under {
            part(f, "at or below", &mut core::iter::once(under))?;
        }
        for (resource, actions) in self.allows.iter().flatten() {
            part(f, &alloc::format!("on {} only", text_of(resource)), &mut actions.iter())?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expires {
            Some(at) => writeln!(f, "expires {at}")?,
            None => writeln!(f, "never expires")?,
        }
        if let Some(at) = self.starts {
            writeln!(f, "begins {at}")?;
        }
        for (name, bound) in &self.bounds {
            writeln!(f, "{name}: {bound}")?;
        }
        for other in &self.others {
            writeln!(f, "also: {other}")?;
        }
        for contradiction in &self.contradictions {
            writeln!(f, "can never be used: {contradiction}")?;
        }
        Ok(())
    }
}

impl Verified<'_> {
    /// The bounds of this token with its discharges.
    #[must_use]
    pub fn summary(&self, vocabulary: &Vocabulary) -> Summary {
        let caveats = self.first_party().map(|caveat| caveat.text);
        Summary::of(caveats, self.identifier().expiry, vocabulary)
    }
}

/// What appending a caveat would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// It restricts further, as far as can be told.
    Restricts,
    /// It changes nothing: what it asks for is asked for already. A warning.
    ChangesNothing,
    /// This version could never clear the token again; says why. Refuse, unless forced.
    NeverClears(String),
}

/// Looks at a caveat before it is appended (docs/spec/caveats.md, CV-91). `caveats` are those that
/// the token has, `expiry` its own; `now` finds bounds that have passed already.
#[must_use]
pub fn advise<'c>(
    caveats: impl IntoIterator<Item = &'c [u8]> + Clone,
    expiry: Option<Timestamp>,
    new: &'c str,
    vocabulary: &Vocabulary,
    now: Option<Timestamp>,
) -> Advice {
    let before = Summary::of(caveats.clone(), expiry, vocabulary);
    let all = caveats.into_iter().chain(core::iter::once(new.as_bytes()));
    let after = Summary::of(all, expiry, vocabulary);
    if let Some(why) = after.contradictions.iter().find(|why| !before.contradictions.contains(why)) {
        return Advice::NeverClears(why.clone());
    }
    if let (Some(now), Some(expires)) = (now, after.expires)
        && after.expires != before.expires
        && expires <= now
    {
        return Advice::NeverClears(alloc::format!("it would have expired at {expires}"));
    }
    if before == after { Advice::ChangesNothing } else { Advice::Restricts }
}
