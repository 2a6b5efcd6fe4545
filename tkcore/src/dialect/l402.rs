use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Dialect, DialectRefusal, Latch};
use crate::budget::Budget;
use crate::caveat::word::integer;
use crate::request::{Access, Fact, Request};

/// The macaroons of L402 (formerly LSAT): `services`, `SERVICE_capabilities`,
/// `SERVICE_valid_until` (docs/spec/dialects.md, CV-140 to CV-145).
///
/// Facts: `service` (text), `capability` (text, or a set of which all are needed), `tier`
/// (integer, if the service tells tiers apart).
#[derive(Debug)]
pub struct L402<'r> {
    request: &'r Request<'r>,
    unknown: Unknown,
    latch: Latch,
    services: Option<Vec<Box<str>>>,
    capabilities: Vec<(Box<str>, Vec<Box<str>>)>,
    valid_until: Vec<(Box<str>, i64)>,
    /// A `services` condition so far has named the service of every access.
    named: bool,
}

/// What becomes of a condition that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refuse,
    Skip,
}

impl<'r> L402<'r> {
    /// For one request; an unknown condition refuses.
    #[must_use]
    pub fn new(request: &'r Request<'r>) -> Self {
        Self::with(request, Unknown::Refuse)
    }

    /// As the original does it: a condition nobody knows is skipped, so whoever attenuates with
    /// one attenuates nothing. For tokens that carry such conditions already.
    #[must_use]
    pub fn legacy_skipping_unknown(request: &'r Request<'r>) -> Self {
        Self::with(request, Unknown::Skip)
    }

    const fn with(request: &'r Request<'r>, unknown: Unknown) -> Self {
        Self {
            request,
            unknown,
            latch: Latch { refused: false },
            services: None,
            capabilities: Vec::new(),
            valid_until: Vec::new(),
            named: false,
        }
    }

    fn next(&mut self, text: &str, budget: &mut Budget) -> Result<(), DialectRefusal> {
        let Some((condition, value)) = text.split_once('=') else { return self.unknown_condition() };
        let request = self.request;
        if condition == "services" {
            return self.services(value, budget);
        }
        if let Some(service) = condition.strip_suffix("_capabilities") {
            let concerned = self.concerns(service)?;
            let capabilities: Vec<Box<str>> = value.split(',').map(Box::from).collect();
            let earlier = self.capabilities.iter_mut().find(|(known, _)| **known == *service);
            if let Some((_, earlier)) = &earlier {
                within(&capabilities, earlier, "capability", budget)?;
            }
            for access in request.accesses().iter().filter(|access| concerned.holds(request, access, service))
            {
                capable(request, access, &capabilities, budget)?;
            }
            match earlier {
                Some((_, earlier)) => *earlier = capabilities,
                None => self.capabilities.push((service.into(), capabilities)),
            }
            return Ok(());
        }
        if let Some(service) = condition.strip_suffix("_valid_until") {
            let concerned = self.concerns(service)?;
            let until = integer(value.as_bytes()).ok_or(DialectRefusal::Malformed("time"))?;
            let earlier = self.valid_until.iter_mut().find(|(known, _)| **known == *service);
            if earlier.as_ref().is_some_and(|(_, earlier)| *earlier < until) {
                return Err(DialectRefusal::Widens("time"));
            }
            let now = i64::try_from(request.now().seconds()).unwrap_or(i64::MAX);
            let ours = request.accesses().iter().any(|access| concerned.holds(request, access, service));
            if ours && now >= until {
                return Err(DialectRefusal::NotAdmitted("time"));
            }
            match earlier {
                Some((_, earlier)) => *earlier = until,
                None => self.valid_until.push((service.into(), until)),
            }
            return Ok(());
        }
        self.unknown_condition()
    }

    const fn unknown_condition(&self) -> Result<(), DialectRefusal> {
        match self.unknown {
            Unknown::Refuse => Err(DialectRefusal::Unknown),
            Unknown::Skip => Ok(()),
        }
    }

    /// Whether a condition scoped to `service` concerns the request. One of another service's
    /// scope is passed over only once the token has named ours; otherwise the token was never
    /// for us, and appending a `services` condition must not change that.
    fn concerns(&self, service: &str) -> Result<Concern, DialectRefusal> {
        let mut ours = true;
        for access in self.request.accesses() {
            ours &= target(self.request, access)? == service;
        }
        match (ours, self.named || self.unknown == Unknown::Skip) {
            (true, _) => Ok(Concern::All),
            (false, true) => Ok(Concern::OfThatService),
            (false, false) => Err(DialectRefusal::NotAdmitted("the token does not name this service")),
        }
    }

    fn services(&mut self, value: &str, budget: &mut Budget) -> Result<(), DialectRefusal> {
        let mut names: Vec<Box<str>> = Vec::new();
        let mut listed: Vec<(&str, i64)> = Vec::new();
        for service in value.split(',') {
            let (name, tier) = service.split_once(':').ok_or(DialectRefusal::Malformed("service"))?;
            // A tier is one byte; the original lets 256 wrap round to 0.
            let tier = integer(tier.as_bytes()).filter(|tier| (0..=255).contains(tier));
            let tier = tier.ok_or(DialectRefusal::Malformed("tier"))?;
            if name.is_empty() {
                return Err(DialectRefusal::Malformed("service"));
            }
            budget.spend_bytes(listed.len())?;
            if listed.iter().any(|(known, _)| *known == name) {
                return Err(DialectRefusal::Malformed("a service twice"));
            }
            listed.push((name, tier));
            names.push(name.into());
        }
        if let Some(earlier) = &self.services {
            within(&names, earlier, "service", budget)?;
        }
        for access in self.request.accesses() {
            let target = target(self.request, access)?;
            let Some((_, tier)) = listed.iter().find(|(name, _)| *name == target) else {
                return Err(DialectRefusal::NotAdmitted("service"));
            };
            match self.request.fact_of(access, "tier") {
                None => {}
                Some(Fact::Int(wanted)) if wanted == *tier => {}
                Some(_) => return Err(DialectRefusal::NotAdmitted("tier")),
            }
        }
        self.services = Some(names);
        self.named = true;
        Ok(())
    }
}

/// Which accesses a scoped condition is about.
#[derive(Debug, Clone, Copy)]
enum Concern {
    All,
    OfThatService,
}

impl Concern {
    fn holds(self, request: &Request<'_>, access: &Access<'_>, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::OfThatService => target(request, access) == Ok(service),
        }
    }
}

impl Dialect for L402<'_> {
    fn judge(&mut self, condition: &[u8], budget: &mut Budget) -> Result<(), DialectRefusal> {
        let mut latch = self.latch;
        let result = latch.run(condition, budget, |text, budget| {
            budget.spend_bytes(text.len().saturating_mul(self.request.accesses().len()))?;
            // Earlier conditions are searched for one of the same service.
            let earlier = self.capabilities.len().saturating_add(self.valid_until.len());
            budget.spend_bytes(earlier.saturating_mul(8))?;
            self.next(text, budget)
        });
        self.latch = latch;
        result
    }
}

fn target<'r>(request: &Request<'r>, access: &Access<'r>) -> Result<&'r str, DialectRefusal> {
    match request.fact_of(access, "service") {
        Some(Fact::Text(service)) => Ok(service),
        _ => Err(DialectRefusal::Absent("service")),
    }
}

fn capable(
    request: &Request<'_>,
    access: &Access<'_>,
    listed: &[Box<str>],
    budget: &mut Budget,
) -> Result<(), DialectRefusal> {
    let has = |capability: &str| !capability.is_empty() && listed.iter().any(|known| **known == *capability);
    let all = match request.fact_of(access, "capability") {
        Some(Fact::Text(capability)) => has(capability),
        Some(Fact::Set(capabilities)) if !capabilities.is_empty() => {
            budget.spend_bytes(listed.len().saturating_mul(capabilities.len()))?;
            capabilities.iter().all(|capability| has(capability))
        }
        _ => return Err(DialectRefusal::Absent("capability")),
    };
    if all { Ok(()) } else { Err(DialectRefusal::NotAdmitted("capability")) }
}

/// A later condition lists nothing that an earlier one did not.
fn within(
    later: &[Box<str>],
    earlier: &[Box<str>],
    what: &'static str,
    budget: &mut Budget,
) -> Result<(), DialectRefusal> {
    let mut sorted: Vec<&str> = earlier.iter().map(|name| &**name).collect();
    budget.spend_bytes(later.len().saturating_add(earlier.len()).saturating_mul(8))?;
    sorted.sort_unstable();
    if later.iter().all(|name| sorted.binary_search(&&**name).is_ok()) {
        Ok(())
    } else {
        Err(DialectRefusal::Widens(what))
    }
}
