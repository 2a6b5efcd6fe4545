use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: the inner service's, or the problem that says why not.
    #[derive(Debug)]
    pub struct GuardBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = InnerProjection]
    enum Inner<B> {
        Service { #[pin] body: B },
        Problem { text: Option<Vec<u8>> },
    }
}

impl<B> GuardBody<B> {
    pub(super) const fn service(body: B) -> Self {
        Self { inner: Inner::Service { body } }
    }

    /// Nothing at all for an empty text.
    pub(super) fn problem(text: String) -> Self {
        let text = Some(text.into_bytes()).filter(|text| !text.is_empty());
        Self { inner: Inner::Problem { text } }
    }
}

impl<B: Body> Body for GuardBody<B>
where
    B::Data: From<Vec<u8>>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().inner.project() {
            InnerProjection::Service { body } => body.poll_frame(context),
            InnerProjection::Problem { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Service { body } => body.is_end_stream(),
            Inner::Problem { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Service { body } => body.size_hint(),
            Inner::Problem { text } => {
                let bytes = text.as_ref().map_or(0, Vec::len);
                SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
        }
    }
}
