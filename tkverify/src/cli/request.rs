//! A request described in a file, for people who look for the caveat that is in the way.

use std::path::Path;

use serde_json::{Map, Value};
use tkcore::{Access, Fact, PathFact, Request, Timestamp};

use super::{Exit, Failure};

/// Longest request file: far more than the facts that a request may have.
const MOST: u64 = 1 << 20;

const NEXT: &str = "write {\"tenant\":…,\"actions\":[…],\"facts\":{\"name\":{\"text\"|\"int\"|\"ip\"|\"path\"|\"time\"|\"set\":…}}}";

/// What the file says, which a [`Request`] borrows from.
#[derive(Debug)]
pub(super) struct RequestFile {
    tenant: String,
    audience: Option<String>,
    now: Option<Timestamp>,
    shared: Described,
    accesses: Vec<Described>,
}

#[derive(Debug, Default)]
struct Described {
    actions: Vec<String>,
    facts: Vec<(String, Stated)>,
}

#[derive(Debug)]
enum Stated {
    Text(String),
    Int(i64),
    Time(Timestamp),
    Ip(std::net::IpAddr),
    Path(String),
    Set(Vec<String>),
}

impl RequestFile {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        use std::io::Read as _;
        let local = |e: std::io::Error| {
            Failure::new(Exit::Local, format!("{}: {e}", path.display()), "check the path of --request")
        };
        let mut text = String::new();
        std::fs::File::open(path).map_err(local)?.take(MOST).read_to_string(&mut text).map_err(local)?;
        Self::parse(&text)
            .map_err(|what| Failure::new(Exit::Usage, format!("{}: {what}", path.display()), NEXT))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
        let members = value.as_object().ok_or("not a JSON object")?;
        only(members, &["tenant", "audience", "now", "actions", "facts", "accesses"])?;
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| format!("`{name}` is not a text")),
        };
        let now = text("now")?.map(|now| Timestamp::from_rfc3339(now).map_err(|e| format!("`now`: {e}")));
        let accesses = match members.get("accesses") {
            None => Vec::new(),
            Some(list) => list
                .as_array()
                .ok_or("`accesses` is not a list")?
                .iter()
                .map(|access| {
                    let members = access.as_object().ok_or("an access is not an object")?;
                    only(members, &["actions", "facts"])?;
                    Described::read(members)
                })
                .collect::<Result<_, String>>()?,
        };
        Ok(Self {
            tenant: text("tenant")?.ok_or("no `tenant`")?.to_owned(),
            audience: text("audience")?.map(str::to_owned),
            now: now.transpose()?,
            shared: Described::read(members)?,
            accesses,
        })
    }

    /// Builds the request and hands it over; `now` is what the file leaves open.
    pub(super) fn with<T>(&self, now: Timestamp, then: impl FnOnce(&Request<'_>) -> T) -> Result<T, Failure> {
        let shared = self.shared.sets();
        let sets: Vec<Vec<Vec<&str>>> = self.accesses.iter().map(Described::sets).collect();
        let mut builder = Request::builder(&self.tenant, self.now.unwrap_or(now));
        if let Some(audience) = &self.audience {
            builder = builder.audience(audience);
        }
        for action in &self.shared.actions {
            builder = builder.action(action);
        }
        for ((name, stated), set) in self.shared.facts.iter().zip(&shared) {
            builder = builder.fact(name, stated.fact(set)?);
        }
        for (access, sets) in self.accesses.iter().zip(&sets) {
            let Some((first, more)) = access.actions.split_first() else {
                return Err(Failure::new(Exit::Usage, "an access without an action", NEXT));
            };
            let mut described = Access::to(first);
            for action in more {
                described = described.and(action);
            }
            for ((name, stated), set) in access.facts.iter().zip(sets) {
                described = described.fact(name, stated.fact(set)?);
            }
            builder = builder.access(described);
        }
        let request = builder.build().map_err(|e| Failure::new(Exit::Usage, e, NEXT))?;
        Ok(then(&request))
    }
}

impl Described {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        let actions = match members.get("actions") {
            None => Vec::new(),
            Some(list) => texts(list).ok_or("`actions` is not a list of texts")?,
        };
        let facts = match members.get("facts") {
            None => Vec::new(),
            Some(facts) => facts
                .as_object()
                .ok_or("`facts` is not an object")?
                .iter()
                .map(|(name, fact)| match Stated::read(fact) {
                    Ok(fact) => Ok((name.clone(), fact)),
                    Err(what) => Err(format!("fact `{}`: {what}", name.escape_debug())),
                })
                .collect::<Result<_, String>>()?,
        };
        Ok(Self { actions, facts })
    }

    /// The sets as lists that can be borrowed; an empty list for every other fact.
    fn sets(&self) -> Vec<Vec<&str>> {
        self.facts
            .iter()
            .map(|(_, stated)| match stated {
                Stated::Set(elements) => elements.iter().map(String::as_str).collect(),
                Stated::Text(_) | Stated::Int(_) | Stated::Time(_) | Stated::Ip(_) | Stated::Path(_) => {
                    Vec::new()
                }
            })
            .collect()
    }
}

impl Stated {
    fn read(fact: &Value) -> Result<Self, String> {
        let members = fact.as_object().ok_or("not an object with one type")?;
        let mut members = members.iter();
        let (Some((kind, value)), None) = (members.next(), members.next()) else {
            return Err("not an object with one type".to_owned());
        };
        let text = || value.as_str().ok_or_else(|| format!("{kind} is not a text"));
        Ok(match kind.as_str() {
            "text" => Self::Text(text()?.to_owned()),
            "int" => Self::Int(value.as_i64().ok_or("not a 64-bit integer")?),
            "ip" => Self::Ip(text()?.parse().map_err(|_| "not an IP address")?),
            "path" => Self::Path(text()?.to_owned()),
            "time" => Self::Time(Timestamp::from_rfc3339(text()?).map_err(|e| e.to_string())?),
            "set" => Self::Set(texts(value).ok_or("not a list of texts")?),
            other => return Err(format!("unknown type `{}`", other.escape_debug())),
        })
    }

    fn fact<'r>(&'r self, set: &'r [&'r str]) -> Result<Fact<'r>, Failure> {
        Ok(match self {
            Self::Text(text) => Fact::Text(text),
            Self::Int(number) => Fact::Int(*number),
            Self::Time(at) => Fact::Time(*at),
            Self::Ip(ip) => Fact::Ip(*ip),
            Self::Path(path) => {
                Fact::Path(PathFact::new(path).map_err(|e| Failure::new(Exit::Usage, e, NEXT))?)
            }
            Self::Set(_) => Fact::Set(set),
        })
    }
}

fn texts(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A member that nobody knows would be a fact that nobody states.
fn only(members: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("unknown member `{}`", name.escape_debug())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_several_accesses() {
        let file = RequestFile::parse(
            r#"{"tenant":"acme","audience":"builds","now":"2026-11-23T12:00:00Z","facts":{"region":{"text":"eu"}},
                "accesses":[{"actions":["read"],"facts":{"app":{"int":17},"tags":{"set":["a","b"]}}},
                            {"actions":["write","list"],"facts":{"ip":{"ip":"10.0.0.1"},"path":{"path":"/a"},"at":{"time":"2026-11-23T12:00:00Z"}}}]}"#,
        )
        .unwrap();
        let accesses = file
            .with(Timestamp::EPOCH, |request| {
                assert_eq!(request.now(), Timestamp::from_rfc3339("2026-11-23T12:00:00Z").unwrap());
                assert_eq!(request.audience(), Some("builds"));
                request.accesses().len()
            })
            .unwrap();
        assert_eq!(accesses, 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "not JSON"),
            ("[]", "not a JSON object"),
            ("{}", "no `tenant`"),
            (r#"{"tenant":5}"#, "`tenant`"),
            (r#"{"tenant":"a","action":["read"]}"#, "unknown member `action`"),
            (r#"{"tenant":"a","actions":"read"}"#, "`actions`"),
            (r#"{"tenant":"a","facts":{"x":{"text":"a","int":1}}}"#, "fact `x`"),
            (r#"{"tenant":"a","facts":{"x":{"number":1}}}"#, "unknown type"),
            (r#"{"tenant":"a","now":"today"}"#, "`now`"),
        ] {
            let error = RequestFile::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in [r#"{"tenant":"a"}"#, r#"{"tenant":"a","actions":["x"],"facts":{"time":{"text":"b"}}}"#] {
            let file = RequestFile::parse(text).unwrap();
            assert!(file.with(Timestamp::EPOCH, |_| ()).is_err(), "{text}");
        }
    }
}
