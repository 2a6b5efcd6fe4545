use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
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
    /// Bytes of a type, for nobody to keep unless it is said.
    pub(crate) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut response = Self::empty(status).with(CONTENT_TYPE, content_type);
        *response.0.body_mut() = Whole(Some(body.into()).filter(|body| !body.is_empty()));
        response
    }

    /// A line for people.
    pub(crate) fn text(status: StatusCode, line: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", line)
    }

    /// No body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Whole(None));
        *response.status_mut() = status;
        Self(response).with(CACHE_CONTROL, "no-store")
    }

    pub(crate) fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    pub(crate) fn wrong_method(allowed: &str) -> Self {
        Self::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").with(ALLOW, allowed)
    }

    /// What is not one header value is left out: a client without a tag fetches in full.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
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
