use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use hyper::{Response, StatusCode};

/// An answer about to be sent.
#[derive(Debug)]
pub(crate) struct Reply(Response<Whole>);

/// The body of an answer: all of it at once.
#[derive(Debug)]
pub(crate) struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let len = self.0.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
    }
}

impl Reply {
    /// Bytes of a type.
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut response = Response::new(Whole(Some(body).filter(|body| !body.is_empty())));
        *response.status_mut() = status;
        Self(response).set(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// A line for people; nobody may keep it.
    pub(crate) fn text(status: StatusCode, line: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", line).cache("no-store")
    }

    /// No body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Whole(None));
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

    pub(super) fn into_response(self) -> Response<Whole> {
        self.0
    }
}

/// Reads a body of at most `limit` bytes, in time.
pub(crate) async fn body(incoming: Incoming, limit: usize, patience: Duration) -> Result<Vec<u8>, Reply> {
    match tokio::time::timeout(patience, collect(incoming, limit)).await {
        Ok(collected) => collected,
        Err(_) => Err(Reply::text(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n")),
    }
}

async fn collect(mut incoming: Incoming, limit: usize) -> Result<Vec<u8>, Reply> {
    let too_large = || Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "body too large\n");
    // An announced length past the limit is refused before a byte is read.
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut whole = Vec::with_capacity(announced);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let Ok(frame) = frame else {
            return Err(Reply::text(StatusCode::BAD_REQUEST, "the body broke off\n"));
        };
        let data = frame.into_data().unwrap_or_default();
        if whole.len().saturating_add(data.len()) > limit {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}
