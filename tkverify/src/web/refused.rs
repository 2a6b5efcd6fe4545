//! What the peer is told of a refusal: a status, challenges, a problem with a stable code.

use std::borrow::Cow;
use std::fmt;

use tkcore::{Error, Malformed, NotKnowable, Owner, RequestError};

/// A refusal, ready to be answered. `Display` is for the log: it sees everything that is no
/// secret. What the peer gets (`status`, `challenges`, `retry_after`, `body`) says nothing that the
/// peer's own token does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(Cause);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// The verdict on what was presented.
    Token(Error),
    /// What the request asks for cannot be stated; `None`: the service does not know it.
    Unstated(Option<RequestError>),
}

impl Refused {
    /// The service does not know what the request asks for ([`Needs::Unknown`](super::Needs)).
    #[must_use]
    pub const fn unknown() -> Self {
        Self(Cause::Unstated(None))
    }

    /// A handler that needs a grant has no guard in front of it.
    #[cfg(any(feature = "axum", feature = "actix", feature = "tonic"))]
    pub(crate) const fn unguarded() -> Self {
        Self(Cause::Token(Error::Bug(tkcore::Bug("a handler wants a grant and no guard stands before it"))))
    }

    /// The verdict, unless the request itself could not be stated.
    #[must_use]
    pub const fn error(&self) -> Option<&Error> {
        match &self.0 {
            Cause::Token(error) => Some(error),
            Cause::Unstated(_) => None,
        }
    }

    /// The HTTP status: 401 (present another token), 403 (this token does not give that), 503
    /// (ask again later).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match &self.0 {
            Cause::Token(error) => error.http_status(),
            Cause::Unstated(_) => 403,
        }
    }

    /// A stable code: [`Error::code`], or `unstated`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match &self.0 {
            Cause::Token(error) => error.code(),
            Cause::Unstated(_) => "unstated",
        }
    }

    /// A sentence for the peer.
    #[must_use]
    pub fn sentence(&self) -> Cow<'static, str> {
        match &self.0 {
            Cause::Token(error) => error.for_peer(),
            Cause::Unstated(_) => Cow::Borrowed("the service cannot say what this request asks for"),
        }
    }

    /// The values of the `WWW-Authenticate` fields, one for each scheme that is taken; none when a
    /// token is not what is missing. The parameters are those of RFC 6750, section 3.
    #[must_use]
    pub fn challenges(&self) -> Vec<String> {
        let error = match &self.0 {
            Cause::Token(Error::Malformed(Malformed::Missing)) => None,
            Cause::Token(error) => match error.owner() {
                Owner::Holder => Some("invalid_token"),
                Owner::Request => Some("insufficient_scope"),
                _ => return Vec::new(),
            },
            Cause::Unstated(_) => return Vec::new(),
        };
        let parameters = error.map(|error| {
            let sentence = for_parameter(&self.sentence());
            format!(" error=\"{error}\", error_description=\"{sentence}\"")
        });
        let parameters = parameters.unwrap_or_default();
        ["Bearer", "Macaroon"].iter().map(|scheme| format!("{scheme}{parameters}")).collect()
    }

    /// After how many seconds it may be otherwise, for `Retry-After`.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        match &self.0 {
            // A place in the pool is free in the time of one ask.
            Cause::Token(Error::NotKnowable(NotKnowable::TooManyAsks)) => Some(1),
            // The pause of the feed's client and of the signer's after a try that failed.
            Cause::Token(Error::NotKnowable(_)) => Some(5),
            Cause::Token(_) | Cause::Unstated(_) => None,
        }
    }

    /// The media type of [`Refused::body`].
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// The body: a problem (RFC 9457) with `title`, `status`, `detail` and the stable `code`.
    #[must_use]
    pub fn body(&self) -> String {
        let status = self.status();
        let title = match status {
            401 => "Unauthorized",
            403 => "Forbidden",
            _ => "Service Unavailable",
        };
        let detail = self.sentence();
        serde_json::json!({ "title": title, "status": status, "code": self.code(), "detail": detail })
            .to_string()
    }

    /// Every header field of the answer: the media type, the challenges, when to come back, and
    /// that the answer is for nobody else.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields =
            vec![("content-type", Self::CONTENT_TYPE.to_owned()), ("cache-control", "no-store".to_owned())];
        fields.extend(self.challenges().into_iter().map(|challenge| ("www-authenticate", challenge)));
        fields.extend(self.retry_after().map(|seconds| ("retry-after", seconds.to_string())));
        fields
    }
}

/// What RFC 6750, section 3, allows in `error_description`: printable ASCII but for two characters.
fn for_parameter(sentence: &str) -> String {
    let safe = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    sentence.chars().map(safe).collect()
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(Cause::Token(error))
    }
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self(Cause::Unstated(Some(error)))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Token(error) => error.fmt(f),
            Cause::Unstated(Some(error)) => write!(f, "what the request asks for cannot be stated: {error}"),
            Cause::Unstated(None) => f.write_str("the service does not know what this request asks for"),
        }
    }
}

impl std::error::Error for Refused {}
