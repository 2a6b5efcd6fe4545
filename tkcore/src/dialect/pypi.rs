use alloc::string::String;
use alloc::vec::Vec;

use super::{Dialect, DialectRefusal, Latch};
use crate::budget::Budget;
use crate::json::Json;
use crate::request::{Access, Fact, Request};

/// The API tokens of PyPI: arrays `[0,exp,nbf]`, `[1,[names]]`, `[2,[ids]]`, `[3,user]`,
/// `[4,publisher]`, and the four maps that came before them (docs/spec/dialects.md, CV-110 to
/// CV-117).
///
/// Facts, all text: `project` (normalized name), `project-id`, `user`, `publisher`.
#[derive(Debug)]
pub struct PyPi<'r> {
    request: &'r Request<'r>,
    latch: Latch,
}

impl<'r> PyPi<'r> {
    /// For one request.
    #[must_use]
    pub fn new(request: &'r Request<'r>) -> Self {
        Self { request, latch: Latch::default() }
    }
}

/// A caveat, whichever way it was written.
enum Caveat {
    Expiration {
        expires_at: i128,
        not_before: i128,
    },
    ProjectNames(Vec<String>),
    ProjectIds(Vec<String>),
    User(String),
    /// The oldest form: whoever the user is.
    AnyUser,
    Publisher(String),
}

impl Dialect for PyPi<'_> {
    fn judge(&mut self, condition: &[u8], budget: &mut Budget) -> Result<(), DialectRefusal> {
        let request = self.request;
        self.latch.run(condition, budget, |text, budget| {
            let json = Json::read(text).ok_or(DialectRefusal::Malformed("JSON"))?;
            let caveat = read(json)?;
            for access in request.accesses() {
                budget.spend_bytes(text.len())?;
                one(&caveat, request, access)?;
            }
            Ok(())
        })
    }
}

fn read(json: Json) -> Result<Caveat, DialectRefusal> {
    match json {
        Json::Array(elements) => array(elements),
        Json::Object(members) => map(members),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Number(_) | Json::Text(_) => {
            Err(DialectRefusal::Malformed("not an array"))
        }
    }
}

/// Exactly the elements of the tag: what is left over would be a restriction that this version
/// does not know.
fn array(elements: Vec<Json>) -> Result<Caveat, DialectRefusal> {
    let wrong = DialectRefusal::Malformed("elements");
    let mut elements = elements.into_iter();
    let Some(Json::Int(tag)) = elements.next() else { return Err(DialectRefusal::Malformed("tag")) };
    let fields = (elements.next(), elements.next(), elements.next());
    match (tag, fields) {
        (0, (Some(Json::Int(expires_at)), Some(Json::Int(not_before)), None)) => {
            Ok(Caveat::Expiration { expires_at, not_before })
        }
        (1, (Some(names), None, None)) => texts(names).map(Caveat::ProjectNames),
        (2, (Some(ids), None, None)) => texts(ids).map(Caveat::ProjectIds),
        (3, (Some(Json::Text(user)), None, None)) => Ok(Caveat::User(user)),
        (4, (Some(Json::Text(publisher)), claims, None)) if are_claims(claims.as_ref()) => {
            Ok(Caveat::Publisher(publisher))
        }
        (0..=4, _) => Err(wrong),
        _ => Err(DialectRefusal::Unknown),
    }
}

/// The deprecated second field of tag 4: nothing, null, or the claims `ref` and `sha`. They
/// restrict nothing there either.
fn are_claims(claims: Option<&Json>) -> bool {
    match claims {
        None | Some(Json::Null) => true,
        Some(Json::Object(members)) => {
            members.len() == 2
                && members.iter().all(|(name, value)| {
                    matches!(name.as_str(), "ref" | "sha") && matches!(value, Json::Text(_))
                })
        }
        Some(Json::Bool(_) | Json::Int(_) | Json::Number(_) | Json::Text(_) | Json::Array(_)) => false,
    }
}

/// The four maps of old; no member more.
fn map(members: Vec<(String, Json)>) -> Result<Caveat, DialectRefusal> {
    let wrong = Err(DialectRefusal::Malformed("members"));
    let mut members = members;
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    match names.as_slice() {
        ["exp", "nbf"] => {
            let mut values = members.into_iter().map(|(_, value)| value);
            match (values.next(), values.next()) {
                (Some(Json::Int(expires_at)), Some(Json::Int(not_before))) => {
                    Ok(Caveat::Expiration { expires_at, not_before })
                }
                _ => wrong,
            }
        }
        ["project_ids"] => match members.into_iter().next() {
            Some((_, ids)) => texts(ids).map(Caveat::ProjectIds),
            None => wrong,
        },
        ["permissions", "version"] => {
            let mut values = members.into_iter().map(|(_, value)| value);
            match (values.next(), values.next()) {
                (Some(Json::Text(permission)), Some(Json::Int(1))) if permission == "user" => {
                    Ok(Caveat::AnyUser)
                }
                (Some(Json::Object(permissions)), Some(Json::Int(1))) => {
                    let mut permissions = permissions.into_iter();
                    match (permissions.next(), permissions.next()) {
                        (Some((name, names)), None) if name == "projects" => {
                            texts(names).map(Caveat::ProjectNames)
                        }
                        _ => wrong,
                    }
                }
                _ => wrong,
            }
        }
        _ => Err(DialectRefusal::Unknown),
    }
}

fn texts(json: Json) -> Result<Vec<String>, DialectRefusal> {
    let wrong = DialectRefusal::Malformed("list");
    let Json::Array(elements) = json else { return Err(wrong) };
    elements
        .into_iter()
        .map(|element| match element {
            Json::Text(text) => Ok(text),
            Json::Null
            | Json::Bool(_)
            | Json::Int(_)
            | Json::Number(_)
            | Json::Array(_)
            | Json::Object(_) => Err(wrong),
        })
        .collect()
}

fn one(caveat: &Caveat, request: &Request<'_>, access: &Access<'_>) -> Result<(), DialectRefusal> {
    let text = |name: &'static str| match request.fact_of(access, name) {
        Some(Fact::Text(text)) => Ok(text),
        _ => Err(DialectRefusal::Absent(name)),
    };
    match caveat {
        Caveat::Expiration { expires_at, not_before } => {
            let now = i128::from(request.now().seconds());
            admit(now >= *not_before && now < *expires_at, "time")
        }
        Caveat::ProjectNames(names) => {
            let project = text("project")?;
            admit(names.iter().any(|name| name == project), "project")
        }
        Caveat::ProjectIds(ids) => {
            let project = text("project-id")?;
            admit(ids.iter().any(|id| id == project), "project-id")
        }
        Caveat::User(user) => admit(text("user")? == user, "user"),
        Caveat::AnyUser => text("user").map(|_| ()),
        Caveat::Publisher(publisher) => {
            admit(text("publisher")? == publisher, "publisher")?;
            // A publisher's token is only good for a project.
            text("project").or_else(|_| text("project-id")).map(|_| ())
        }
    }
}

const fn admit(holds: bool, what: &'static str) -> Result<(), DialectRefusal> {
    if holds { Ok(()) } else { Err(DialectRefusal::NotAdmitted(what)) }
}
