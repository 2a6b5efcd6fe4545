//! `name` `?`-or-nothing, one space, operator, one space, value, and `else` with a list after an
//! optional name (CV-10 to CV-15).

use super::error::{ParseError, ParseFault};
use super::list::Distinct;
use super::word::{self, Kinds, Stop, Value};
use super::{About, Caveat, Form, Operator, name_len};
use crate::limits;

/// What stands before the list of the `else` part.
const ELSE: &[u8] = b" else ";

/// Reads a caveat and hands it over. The caller goes on inside `then`, because moving a caveat out
/// of a result costs as much as judging it.
#[inline(always)]
pub(super) fn then<'a, R>(text: &'a [u8], then: impl FnOnce(Caveat<'a>) -> R) -> Result<R, ParseError> {
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
    let (form, number, kinds) = scan.operand(about, operator)?;
    let value = span(value_at, scan.at());
    let mut otherwise = (0, 0);
    if !scan.rest.is_empty() {
        if !scan.rest.starts_with(ELSE) {
            return scan.fail(ParseFault::Surplus);
        }
        if !optional {
            return scan.fail(ParseFault::ElseWithoutOptional);
        }
        scan.advance(ELSE.len());
        let from = scan.at();
        scan.list(Kinds::TEXT, b',')?;
        otherwise = span(from, scan.at());
        if !scan.rest.is_empty() {
            return scan.fail(ParseFault::Surplus);
        }
    }
    let (name_len, _) = span(len, 0);
    Ok(then(Caveat { text, number, name_len, value, otherwise, about, operator, kinds, form, optional }))
}

/// Both fit: a caveat is at most [`limits::CAVEAT_BYTES`] long.
#[inline]
fn span(from: usize, to: usize) -> (u16, u16) {
    (u16::try_from(from).unwrap_or(u16::MAX), u16::try_from(to).unwrap_or(u16::MAX))
}

/// Whether the operator has a meaning for what the name stands for.
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
        let bytes = self.rest;
        // The longest operator has six bytes; looking further would be in vain.
        let len = bytes.iter().take(7).position(|byte| *byte == b' ').unwrap_or(bytes.len());
        let Some((word, rest)) = self.rest.split_at_checked(len) else {
            return self.fail(ParseFault::Operator);
        };
        let operator = Operator::read(word).ok_or(self.error(ParseFault::Operator))?;
        self.rest = rest;
        Ok(operator)
    }

    #[inline(always)]
    fn operand(&mut self, about: About, operator: Operator) -> Result<(Form, i64, Kinds), ParseError> {
        match operator {
            Operator::In | Operator::NotIn => Ok((Form::List, 0, self.list(kinds_for(about), b',')?)),
            Operator::Allows => Ok((Form::Resources, 0, self.resources(about)?)),
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::AtMost
            | Operator::More
            | Operator::AtLeast
            | Operator::Under => {
                let at = self.at();
                let value = self.word(Stop::Value)?;
                let kinds = value.kinds();
                let (form, number) = match value {
                    Value::Text => (Form::Text, 0),
                    Value::Int(number) => (Form::Int, number),
                    Value::Time(at) => (Form::Time, i64::try_from(at.millis()).unwrap_or(i64::MAX)),
                    Value::Ip => (Form::Ip, 0),
                    Value::Path => (Form::Path, 0),
                    Value::QuotedPath => (Form::QuotedPath, 0),
                    Value::Net => return Err(ParseError::new(ParseFault::ValueForOperator, at)),
                };
                if kinds.and(kinds_of(operator)).is_empty() {
                    return Err(ParseError::new(ParseFault::ValueForOperator, at));
                }
                if kinds.and(kinds_for(about)).is_empty() {
                    return Err(ParseError::new(ParseFault::ValueForName, at));
                }
                Ok((form, number, kinds))
            }
        }
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

    /// Words between separators, at least one, none twice.
    #[inline(always)]
    fn list(&mut self, allowed: Kinds, separator: u8) -> Result<Kinds, ParseError> {
        let before = self.rest;
        let mut kinds = Kinds::ALL;
        let mut distinct = Distinct::new(before);
        loop {
            let at = self.at();
            let from = before.len().wrapping_sub(self.rest.len());
            let value = self.word(Stop::Value)?;
            if value.kinds().and(allowed).is_empty() {
                return Err(ParseError::new(ParseFault::ValueForName, at));
            }
            kinds = kinds.and(value.kinds());
            if kinds.is_empty() {
                return Err(ParseError::new(ParseFault::MixedTypes, at));
            }
            if !distinct.add(from, before.len().wrapping_sub(self.rest.len())) {
                return Err(ParseError::new(ParseFault::Repeated, at));
            }
            if self.rest.first() != Some(&separator) {
                break;
            }
            self.advance(1);
        }
        let raw = self.since(before);
        if !distinct.all_words(raw) {
            return Err(ParseError::new(ParseFault::Repeated, self.at().saturating_sub(raw.len())));
        }
        Ok(kinds)
    }

    /// `resource:action|action`, between commas, no resource twice.
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
            self.list(Kinds::TEXT, b'|')?;
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
