use alloc::string::String;
use alloc::vec::Vec;

use super::time::{Instant, Offset};
use super::{Dialect, DialectRefusal, Latch, ip};
use crate::budget::Budget;
use crate::request::{Access, Fact, Request};

/// The macaroons of the storage system dCache: `root:`, `path:`, `home:`, `activity:`, `before:`,
/// `ip:`, `max-upload:`, and the identity in `id:` and `iid:` (docs/spec/dialects.md, CV-120 to
/// CV-129).
///
/// Actions are dCache's activities. Facts: `path` (path, absolute in the namespace), `ip`
/// (address), `upload-size` (integer, bytes).
///
/// Conditions refer back: paths are relative to those before them. After each one the request
/// is judged against what is then allowed, which only ever shrinks.
#[derive(Debug)]
pub struct DCache<'r> {
    request: &'r Request<'r>,
    latch: Latch,
    root: Segments,
    /// Relative to `root`.
    visible: Segments,
    activities: Option<Activities>,
    identity: bool,
    issue: bool,
}

/// The activities, by the names dCache gives them.
const ACTIVITIES: [&str; 8] =
    ["LIST", "DOWNLOAD", "MANAGE", "UPLOAD", "DELETE", "READ_METADATA", "UPDATE_METADATA", "STAGE"];

/// Implied by any other activity, for requests; not for later `activity:` conditions.
const READ_METADATA: &str = "READ_METADATA";

type Segments = Vec<String>;

/// A set of activities, a flag for each.
type Activities = [bool; ACTIVITIES.len()];

impl<'r> DCache<'r> {
    /// For one request.
    #[must_use]
    pub fn new(request: &'r Request<'r>) -> Self {
        Self {
            request,
            latch: Latch::default(),
            root: Segments::new(),
            visible: Segments::new(),
            activities: None,
            identity: false,
            issue: false,
        }
    }

    fn next(&mut self, text: &str) -> Result<(), DialectRefusal> {
        let (key, value) = text.split_once(':').ok_or(DialectRefusal::Malformed("no colon"))?;
        let request = self.request;
        match key {
            "before" => {
                let end = Instant::read(value, Offset::Utc).ok_or(DialectRefusal::Malformed("time"))?;
                admit(end.of_now(request.now()).is_le(), "time")
            }
            "ip" => ip_condition(value, request),
            "path" => {
                extend(&mut self.visible, value);
                self.paths()
            }
            "root" => {
                self.reroot(value)?;
                self.paths()
            }
            // Where a client begins; it restricts nothing.
            "home" => Ok(()),
            "activity" => self.activity(value),
            "max-upload" => max_upload(value, request),
            "id" => {
                if self.identity {
                    return Err(DialectRefusal::Widens("a second identity"));
                }
                self.identity = true;
                identity(value)
            }
            "iid" => {
                if self.issue {
                    return Err(DialectRefusal::Widens("a second issue id"));
                }
                self.issue = true;
                Ok(())
            }
            _ => Err(DialectRefusal::Unknown),
        }
    }

    /// A new root below the present one. What was visible so far is seen from there.
    fn reroot(&mut self, value: &str) -> Result<(), DialectRefusal> {
        let mut below = Segments::new();
        extend(&mut below, value);
        let common = below.len().min(self.visible.len());
        if below.iter().take(common).ne(self.visible.iter().take(common)) {
            return Err(DialectRefusal::Widens("root outside of the path"));
        }
        self.visible.drain(..common);
        self.root.append(&mut below);
        Ok(())
    }

    fn paths(&self) -> Result<(), DialectRefusal> {
        if self.root.is_empty() && self.visible.is_empty() {
            return Ok(());
        }
        for access in self.request.accesses() {
            let Some(Fact::Path(path)) = self.request.fact_of(access, "path") else {
                return Err(DialectRefusal::Absent("path"));
            };
            let mut segments = Segments::new();
            extend(&mut segments, path.as_str());
            let in_root = segments.starts_with(&self.root);
            let rest = segments.get(self.root.len()..).unwrap_or(&[]);
            let visible = rest.starts_with(&self.visible);
            // The way down to what is visible can be looked at, nothing more.
            let on_the_way = self.visible.starts_with(rest)
                && access.actions().iter().all(|action| *action == READ_METADATA);
            admit(in_root && (visible || on_the_way), "path")?;
        }
        Ok(())
    }

    fn activity(&mut self, value: &str) -> Result<(), DialectRefusal> {
        let mut listed: Activities = [false; ACTIVITIES.len()];
        for name in value.split(',').map(str::trim) {
            let flag = ACTIVITIES.iter().zip(&mut listed).find(|(known, _)| **known == name);
            let (_, flag) = flag.ok_or(DialectRefusal::Malformed("activity"))?;
            *flag = true;
        }
        if let Some(earlier) = &self.activities
            && listed.iter().zip(earlier).any(|(new, old)| *new && !*old)
        {
            return Err(DialectRefusal::Widens("activity"));
        }
        self.activities = Some(listed);
        for access in self.request.accesses() {
            for action in access.actions() {
                let allowed = *action == READ_METADATA
                    || ACTIVITIES.iter().zip(&listed).any(|(known, listed)| known == action && *listed);
                admit(allowed, "activity")?;
            }
        }
        Ok(())
    }
}

impl Dialect for DCache<'_> {
    fn judge(&mut self, condition: &[u8], budget: &mut Budget) -> Result<(), DialectRefusal> {
        let mut latch = self.latch;
        let result = latch.run(condition, budget, |text, budget| {
            let paths = self.root.len().saturating_add(self.visible.len()).saturating_add(text.len());
            for access in self.request.accesses() {
                let stated = match self.request.fact_of(access, "path") {
                    Some(Fact::Path(path)) => path.as_str().len(),
                    _ => 0,
                };
                budget.spend_bytes(paths.saturating_add(stated))?;
            }
            self.next(text)
        });
        self.latch = latch;
        result
    }
}

/// Appends a path, absolute or not; `..` never leaves what it is appended to.
fn extend(segments: &mut Segments, path: &str) {
    let floor = segments.len();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => segments.truncate(segments.len().saturating_sub(1).max(floor)),
            name => segments.push(name.into()),
        }
    }
}

fn ip_condition(value: &str, request: &Request<'_>) -> Result<(), DialectRefusal> {
    let subnets: Vec<&str> = value.split(',').map(str::trim).filter(|subnet| !subnet.is_empty()).collect();
    if subnets.iter().any(|subnet| ip::address(subnet).is_none() && ip::Network::read(subnet).is_none()) {
        return Err(DialectRefusal::Malformed("subnet"));
    }
    for access in request.accesses() {
        let Some(Fact::Ip(client)) = request.fact_of(access, "ip") else {
            return Err(DialectRefusal::Absent("ip"));
        };
        let inside = |subnet: &&str| match ip::address(subnet) {
            Some(address) => address == client,
            None => ip::Network::read(subnet).is_some_and(|network| network.holds(client)),
        };
        admit(subnets.iter().any(inside), "ip")?;
    }
    Ok(())
}

/// An upload must state its size, and it must fit.
fn max_upload(value: &str, request: &Request<'_>) -> Result<(), DialectRefusal> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let most: i64 = Some(value)
        .filter(|_| digits)
        .and_then(|value| value.parse().ok())
        .filter(|most| *most > 0)
        .ok_or(DialectRefusal::Malformed("max-upload"))?;
    for access in request.accesses() {
        match request.fact_of(access, "upload-size") {
            Some(Fact::Int(size)) => admit((0..=most).contains(&size), "upload-size")?,
            Some(_) => return Err(DialectRefusal::Absent("upload-size")),
            None if uploads(access) => return Err(DialectRefusal::Absent("upload-size")),
            None => {}
        }
    }
    Ok(())
}

fn uploads(access: &Access<'_>) -> bool {
    access.actions().contains(&"UPLOAD")
}

/// `uid;gid,gid;name`: who the macaroon's maker was. It restricts nothing here, and must be
/// well formed.
fn identity(value: &str) -> Result<(), DialectRefusal> {
    let wrong = DialectRefusal::Malformed("identity");
    let mut parts = value.splitn(3, ';');
    let (Some(uid), Some(gids), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong);
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok();
    if number(uid) && gids.split(',').all(number) && !name.trim().is_empty() { Ok(()) } else { Err(wrong) }
}

const fn admit(holds: bool, what: &'static str) -> Result<(), DialectRefusal> {
    if holds { Ok(()) } else { Err(DialectRefusal::NotAdmitted(what)) }
}
