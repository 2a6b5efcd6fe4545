use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use std::time::Duration;

/// An answer about to be sent.
#[derive(Debug)]
pub(crate) struct Reply(Response<Full<Bytes>>);

impl Reply {
    /// Bytes of a type.
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self(response)
    }

    /// A line for people; nobody may keep it.
    pub(crate) fn text(status: StatusCode, line: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", line).cache("no-store")
    }

    /// No body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = status;
        Self(response)
    }

    pub(crate) fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        Self::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
            .set(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn cache(self, control: &'static str) -> Self {
        self.set(CACHE_CONTROL, HeaderValue::from_static(control))
    }

    /// Seconds until it is worth asking again.
    pub(crate) fn retry_after(self, seconds: &'static str) -> Self {
        self.set(RETRY_AFTER, HeaderValue::from_static(seconds))
    }

    pub(crate) fn etag(self, tag: &str) -> Self {
        self.set_text(ETAG, tag)
    }

    pub(crate) fn content_range(self, range: &str) -> Self {
        self.set_text(CONTENT_RANGE, range)
    }

    pub(crate) fn accepts_ranges(self) -> Self {
        self.set(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
    }

    /// What is not one header value is left out: a client without a tag fetches in full.
    fn set_text(self, name: HeaderName, value: &str) -> Self {
        let Ok(value) = HeaderValue::from_str(value) else { return self };
        self.set(name, value)
    }

    fn set(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        self.0
    }
}

/// Reads a body of at most `limit` bytes, in time.
pub(crate) async fn body(incoming: Incoming, limit: usize, patience: Duration) -> Result<Bytes, Reply> {
    let too_large = || Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "body too large\n");
    // An announced length past the limit is refused before a byte is read.
    if usize::try_from(incoming.size_hint().lower()).map_or(true, |announced| announced > limit) {
        return Err(too_large());
    }
    match tokio::time::timeout(patience, Limited::new(incoming, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Reply::text(StatusCode::BAD_REQUEST, "the body broke off\n")),
        Err(_) => Err(Reply::text(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n")),
    }
}
