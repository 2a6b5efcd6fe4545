use super::time::{Instant, Offset};
use super::{Dialect, DialectRefusal, Latch, ip, name_and_argument};
use crate::budget::Budget;
use crate::request::{Access, Fact, Request};

/// The macaroons of the Lightning daemon LND: `time-before`, `ipaddr`, `iprange`, `lnd-custom`
/// (docs/spec/dialects.md, CV-100 to CV-104).
///
/// Facts: `ip` (address), and `lnd-custom` (set): the custom conditions that the service vouches
/// for. An element is a whole condition, `name condition`, or a name alone, for which the
/// service checks the condition itself, as LND's interceptors do.
#[derive(Debug)]
pub struct Lnd<'r> {
    request: &'r Request<'r>,
    latch: Latch,
}

impl<'r> Lnd<'r> {
    /// For one request.
    #[must_use]
    pub fn new(request: &'r Request<'r>) -> Self {
        Self { request, latch: Latch::default() }
    }
}

impl Dialect for Lnd<'_> {
    fn judge(&mut self, condition: &[u8], budget: &mut Budget) -> Result<(), DialectRefusal> {
        let request = self.request;
        self.latch.run(condition, budget, |text, budget| {
            for access in request.accesses() {
                budget.spend_bytes(text.len())?;
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
        "ipaddr" => {
            let address = ip::address(argument).ok_or(DialectRefusal::Malformed("address"))?;
            admit(client(request, access)? == address, "ip")
        }
        "iprange" => {
            let network = ip::Network::read(argument).ok_or(DialectRefusal::Malformed("network"))?;
            admit(network.holds(client(request, access)?), "ip")
        }
        "lnd-custom" => {
            if argument.is_empty() || argument.trim() != argument {
                return Err(DialectRefusal::Malformed("custom condition"));
            }
            let Some(Fact::Set(vouched)) = request.fact_of(access, "lnd-custom") else {
                return Err(DialectRefusal::Absent("lnd-custom"));
            };
            let (name, _) = name_and_argument(argument);
            admit(vouched.iter().any(|known| *known == argument || *known == name), "lnd-custom")
        }
        _ => Err(DialectRefusal::Unknown),
    }
}

fn client(request: &Request<'_>, access: &Access<'_>) -> Result<core::net::IpAddr, DialectRefusal> {
    match request.fact_of(access, "ip") {
        Some(Fact::Ip(ip)) => Ok(ip),
        _ => Err(DialectRefusal::Absent("ip")),
    }
}

const fn admit(holds: bool, what: &'static str) -> Result<(), DialectRefusal> {
    if holds { Ok(()) } else { Err(DialectRefusal::NotAdmitted(what)) }
}
