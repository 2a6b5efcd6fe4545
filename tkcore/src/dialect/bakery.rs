use super::time::{Instant, Offset};
use super::{Dialect, DialectRefusal, Latch, name_and_argument};
use crate::budget::Budget;
use crate::request::{Access, Fact, Request};

/// The standard checkers of the macaroon bakery, without a namespace prefix: `time-before`,
/// `declared`, `allow`, `deny`, `error` (docs/spec/dialects.md, CV-130 to CV-133).
///
/// Operations are the request's actions. A declared fact is a text fact under its own name;
/// unlike in the bakery, where a caveat declares what it then checks, the service states it.
#[derive(Debug)]
pub struct Bakery<'r> {
    request: &'r Request<'r>,
    latch: Latch,
}

impl<'r> Bakery<'r> {
    /// For one request.
    #[must_use]
    pub fn new(request: &'r Request<'r>) -> Self {
        Self { request, latch: Latch::default() }
    }
}

impl Dialect for Bakery<'_> {
    fn judge(&mut self, condition: &[u8], budget: &mut Budget) -> Result<(), DialectRefusal> {
        let request = self.request;
        self.latch.run(condition, budget, |text, budget| {
            for access in request.accesses() {
                budget.spend_bytes(text.len().saturating_mul(access.actions().len()))?;
                one(text, request, access)?;
            }
            Ok(())
        })
    }
}

fn one(text: &str, request: &Request<'_>, access: &Access<'_>) -> Result<(), DialectRefusal> {
    let (name, argument) = name_and_argument(text);
    match name {
        "time-before" => {
            let end = Instant::read(argument, Offset::Any).ok_or(DialectRefusal::Malformed("time"))?;
            admit(end.of_now(request.now()).is_lt(), "time")
        }
        "declared" => {
            let (key, value) = argument.split_once(' ').ok_or(DialectRefusal::Malformed("no value"))?;
            match request.fact_of(access, key) {
                Some(Fact::Text(fact)) => admit(fact == value, "declared value"),
                _ => Err(DialectRefusal::Absent("declared")),
            }
        }
        "allow" => admit(access.actions().iter().all(|action| lists(argument, action)), "operation"),
        "deny" => admit(!access.actions().iter().any(|action| lists(argument, action)), "operation"),
        "error" => Err(DialectRefusal::NotAdmitted("an error caveat never holds")),
        _ => Err(DialectRefusal::Unknown),
    }
}

fn lists(operations: &str, action: &str) -> bool {
    operations.split_whitespace().any(|operation| operation == action)
}

const fn admit(holds: bool, what: &'static str) -> Result<(), DialectRefusal> {
    if holds { Ok(()) } else { Err(DialectRefusal::NotAdmitted(what)) }
}
