//! `name` `?`-or-nothing, one space, operator, one space, value, and `else` with a list after an
//! optional name (CV-10 to CV-15).

use super::error::{ParseError, ParseFault};
use super::list::Distinct;
use super::word::{self, Kinds, Stop, Value};
use super::{About, Caveat, Form, Operator, name_len};
use crate::limits;

/// What stands before the list of the `else` part.
const ELSE: &[u8] = b" else ";

/// Sees the parts of a caveat while it is read, so that whoever looks for a value in a list need
/// not walk the list again.
pub(super) trait Watch<'a> {
    /// What the caveat is about, before anything behind it is read.
    fn name(&mut self, about: About, name: &'a [u8]);
    /// One element of the list behind `in` or `not-in`.
    fn element(&mut self, word: &'a [u8], value: Value);
}

/// Nobody looks for anything.
impl Watch<'_> for () {
    #[inline(always)]
    fn name(&mut self, _: About, _: &[u8]) {}
    #[inline(always)]
    fn element(&mut self, _: &[u8], _: Value) {}
}

/// Reads a caveat; gives what was watched back with it. Always in place: moving a caveat out of a
/// function costs as much as judging it.
#[inline(always)]
pub(super) fn read<'a, W: Watch<'a>>(text: &'a [u8], mut watch: W) -> Result<(Caveat<'a>, W), ParseError> {
    if text.len() > limits::CAVEAT_BYTES {
        return Err(ParseError::new(ParseFault::TooLong, limits::CAVEAT_BYTES));
    }
    let len = name_len(text);
    if len == 0 || len > limits::NAME_BYTES {
        return Err(ParseError::new(ParseFault::Name, len.min(limits::NAME_BYTES)));
    }
    let Some((name, rest)) = text.split_at_checked(len) else {
        return Err(ParseError::new(ParseFault::Name, 0));
    };
    let mut scan = Scan { text, rest };
    let about = About::of(name);
    watch.name(about, name);
    let optional = rest.first() == Some(&b'?');
    if optional {
        match about {
            About::Time | About::Action | About::Tenant => return scan.fail(ParseFault::NeverAbsent),
            About::Subject | About::Audience | About::Fact => scan.advance(1),
        }
    }
    if scan.rest.first().is_some_and(|byte| *byte != b' ') {
        return scan.fail(ParseFault::Name);
    }
    scan.space()?;
    let operator = scan.operator()?;
    fits_name(about, operator).map_err(|fault| ParseError::new(fault, scan.at().saturating_sub(1)))?;
    scan.space()?;
    let value_at = scan.at();
    let (form, number, kinds) = match operator {
        Operator::In | Operator::NotIn => (Form::List, 0, scan.list(kinds_for(about), b',', &mut watch)?),
        Operator::Allows => (Form::Resources, 0, scan.resources(about)?),
        Operator::Equal
        | Operator::NotEqual
        | Operator::Less
        | Operator::AtMost
        | Operator::More
        | Operator::AtLeast
        | Operator::Under => scan.single(about, operator)?,
    };
    let value = span(value_at, scan.at());
    let otherwise = if scan.rest.is_empty() { (0, 0) } else { scan.otherwise(optional)? };
    let (name_len, _) = span(len, 0);
    let caveat = Caveat { text, number, name_len, value, otherwise, about, operator, kinds, form, optional };
    Ok((caveat, watch))
}

/// Both fit: a caveat is at most [`limits::CAVEAT_BYTES`] long.
#[inline]
fn span(from: usize, to: usize) -> (u16, u16) {
    (u16::try_from(from).unwrap_or(u16::MAX), u16::try_from(to).unwrap_or(u16::MAX))
}

/// Whether the operator has a meaning for what the name stands for.
#[inline(always)]
const fn fits_name(about: About, operator: Operator) -> Result<(), ParseFault> {
    let fits = match about {
        About::Fact => true,
        About::Time => !matches!(operator, Operator::Under | Operator::Allows),
        About::Action => {
            matches!(operator, Operator::Equal | Operator::NotEqual | Operator::In | Operator::NotIn)
        }
        About::Tenant | About::Subject | About::Audience => matches!(
            operator,
            Operator::Equal | Operator::NotEqual | Operator::In | Operator::NotIn | Operator::Allows
        ),
    };
    if fits { Ok(()) } else { Err(ParseFault::OperatorForName) }
}

/// The types a value may have behind this operator, whatever the name.
const fn kinds_of(operator: Operator) -> Kinds {
    match operator {
        Operator::Equal | Operator::NotEqual | Operator::In | Operator::NotIn => Kinds::ALL,
        Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => Kinds::INT.or(Kinds::TIME),
        Operator::Under => Kinds::PATH,
        Operator::Allows => Kinds::TEXT.or(Kinds::INT).or(Kinds::PATH),
    }
}

/// The types that the name can have.
const fn kinds_for(about: About) -> Kinds {
    match about {
        About::Time => Kinds::TIME,
        About::Action | About::Tenant | About::Subject | About::Audience => Kinds::TEXT,
        About::Fact => Kinds::ALL,
    }
}

struct Scan<'a> {
    text: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    const fn at(&self) -> usize {
        self.text.len().saturating_sub(self.rest.len())
    }

    const fn error(&self, fault: ParseFault) -> ParseError {
        ParseError::new(fault, self.at())
    }

    const fn fail<T>(&self, fault: ParseFault) -> Result<T, ParseError> {
        Err(self.error(fault))
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or(&[]);
    }

    #[inline(always)]
    fn space(&mut self) -> Result<(), ParseError> {
        match self.rest {
            [b' ', next, ..] if *next != b' ' => {
                self.advance(1);
                Ok(())
            }
            [b' ', _, ..] => Err(ParseError::new(ParseFault::Space, self.at().saturating_add(1))),
            [b' '] => Err(ParseError::new(ParseFault::ValueMissing, self.text.len())),
            [] => self.fail(ParseFault::ValueMissing),
            [..] => self.fail(ParseFault::Space),
        }
    }

    #[inline(always)]
    fn operator(&mut self) -> Result<Operator, ParseError> {
        let Some((operator, len)) = Operator::read(self.rest) else { return self.fail(ParseFault::Operator) };
        self.advance(len);
        Ok(operator)
    }

    /// The one value of an operator that takes no list.
    #[inline(always)]
    fn single(&mut self, about: About, operator: Operator) -> Result<(Form, i64, Kinds), ParseError> {
        let at = self.at();
        let value = self.word(Stop::Value)?;
        let kinds = value.kinds();
        let (form, number) = match value {
            Value::Text => (Form::Text, 0),
            Value::Int(number) => (Form::Int, number),
            Value::Time(at) => (Form::Time, i64::try_from(at.millis()).unwrap_or(i64::MAX)),
            Value::Ip(_) => (Form::Ip, 0),
            Value::Path => (Form::Path, 0),
            Value::QuotedPath => (Form::QuotedPath, 0),
            Value::Net(_) => return Err(ParseError::new(ParseFault::ValueForOperator, at)),
        };
        if kinds.and(kinds_of(operator)).is_empty() {
            return Err(ParseError::new(ParseFault::ValueForOperator, at));
        }
        if kinds.and(kinds_for(about)).is_empty() {
            return Err(ParseError::new(ParseFault::ValueForName, at));
        }
        Ok((form, number, kinds))
    }

    /// What stands behind the value: the list after `else`, or nothing.
    #[inline(never)]
    fn otherwise(&mut self, optional: bool) -> Result<(u16, u16), ParseError> {
        if !self.rest.starts_with(ELSE) {
            return self.fail(ParseFault::Surplus);
        }
        if !optional {
            return self.fail(ParseFault::ElseWithoutOptional);
        }
        self.advance(ELSE.len());
        let from = self.at();
        self.list(Kinds::TEXT, b',', &mut ())?;
        if !self.rest.is_empty() {
            return self.fail(ParseFault::Surplus);
        }
        Ok(span(from, self.at()))
    }

    /// What was read since `before`.
    fn since(&self, before: &'a [u8]) -> &'a [u8] {
        before.get(..before.len().saturating_sub(self.rest.len())).unwrap_or(&[])
    }

    #[inline(always)]
    fn word(&mut self, stop: Stop) -> Result<Value, ParseError> {
        match word::read(self.rest, stop) {
            Ok((value, len)) => {
                self.advance(len);
                Ok(value)
            }
            Err((fault, at)) => Err(ParseError::new(fault, self.at().saturating_add(at))),
        }
    }

    /// Words between separators, at least one, none twice. A function of its own, so that its loop
    /// has the registers.
    #[inline(never)]
    fn list(
        &mut self,
        allowed: Kinds,
        separator: u8,
        watch: &mut impl Watch<'a>,
    ) -> Result<Kinds, ParseError> {
        let list = self.rest;
        let start = self.at();
        let error = |fault, at: usize| ParseError::new(fault, start.saturating_add(at));
        let mut kinds = Kinds::ALL;
        let mut distinct = Distinct::new(list);
        let mut from = 0usize;
        loop {
            let rest = list.get(from..).unwrap_or(&[]);
            let (value, len) =
                word::read(rest, Stop::Value).map_err(|(fault, at)| error(fault, from.saturating_add(at)))?;
            watch.element(rest.get(..len).unwrap_or(rest), value);
            if value.kinds().and(allowed).is_empty() {
                return Err(error(ParseFault::ValueForName, from));
            }
            kinds = kinds.and(value.kinds());
            if kinds.is_empty() {
                return Err(error(ParseFault::MixedTypes, from));
            }
            let to = from.saturating_add(len);
            if !distinct.add(from, to) {
                return Err(error(ParseFault::Repeated, from));
            }
            if list.get(to) != Some(&separator) {
                self.advance(to);
                break;
            }
            from = to.saturating_add(1);
        }
        if !distinct.all_words(self.since(list)) {
            return Err(error(ParseFault::Repeated, 0));
        }
        Ok(kinds)
    }

    /// `resource:action|action`, between commas, no resource twice.
    #[inline(never)]
    fn resources(&mut self, about: About) -> Result<Kinds, ParseError> {
        let before = self.rest;
        let allowed = kinds_of(Operator::Allows).and(kinds_for(about));
        let mut kinds = Kinds::ALL;
        let mut distinct = Distinct::new(before);
        loop {
            let at = self.at();
            let from = before.len().wrapping_sub(self.rest.len());
            let value = self.word(Stop::Colon)?;
            if value.kinds().and(allowed).is_empty() {
                return Err(ParseError::new(ParseFault::ValueForOperator, at));
            }
            kinds = kinds.and(value.kinds());
            if kinds.is_empty() {
                return Err(ParseError::new(ParseFault::MixedTypes, at));
            }
            if !distinct.add(from, before.len().wrapping_sub(self.rest.len())) {
                return Err(ParseError::new(ParseFault::Repeated, at));
            }
            if self.rest.first() != Some(&b':') {
                return self.fail(ParseFault::ActionsMissing);
            }
            self.advance(1);
            self.list(Kinds::TEXT, b'|', &mut ())?;
            if self.rest.first() != Some(&b',') {
                break;
            }
            self.advance(1);
        }
        let raw = self.since(before);
        if !distinct.all_resources(raw) {
            return Err(ParseError::new(ParseFault::Repeated, self.at().saturating_sub(raw.len())));
        }
        Ok(kinds)
    }
}
