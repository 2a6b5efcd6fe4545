use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::GuardBody;
use super::guard::Answer;
use crate::web::{Refused, Wait};

pin_project! {
    /// The answer of a service behind a [`Guard`](super::Guard).
    pub struct GuardFuture<S: Service<Request<B>>, B> {
        #[pin]
        state: State<S, S::Future, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F, B> {
        Through { #[pin] answer: F },
        Refused { answer: Option<Response<String>> },
        Waiting { waiting: Option<Waiting<S, B>> },
    }
}

struct Waiting<S, B> {
    wait: Box<Wait>,
    service: S,
    request: Request<B>,
    answer: Answer,
}

impl<S: Service<Request<B>>, B> GuardFuture<S, B> {
    pub(super) const fn through(answer: S::Future) -> Self {
        Self { state: State::Through { answer } }
    }

    pub(super) fn refused(refused: &Refused, answer: Answer) -> Self {
        Self { state: State::Refused { answer: Some(answer(refused)) } }
    }

    pub(super) const fn waiting(wait: Box<Wait>, service: S, request: Request<B>, answer: Answer) -> Self {
        let waiting = Some(Waiting { wait, service, request, answer });
        Self { state: State::Waiting { waiting } }
    }
}

impl<S, B, R> Future for GuardFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<GuardBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Through { answer } => {
                    return answer.poll(context).map_ok(|answer| answer.map(GuardBody::service));
                }
                StateProjection::Refused { answer } => match answer.take() {
                    Some(answer) => return Poll::Ready(Ok(answer.map(GuardBody::problem))),
                    // Polled again after it was done: there is nothing more to say.
                    None => return Poll::Pending,
                },
                StateProjection::Waiting { waiting } => {
                    let Some(one) = waiting else { return Poll::Pending };
                    let verdict = ready!(one.wait.poll(context));
                    let Some(Waiting { mut service, mut request, answer, .. }) = waiting.take() else {
                        return Poll::Pending;
                    };
                    match verdict {
                        Ok(grant) => {
                            request.extensions_mut().insert(grant);
                            State::Through { answer: service.call(request) }
                        }
                        Err(refused) => State::Refused { answer: Some(answer(&refused)) },
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Request<B>>, B> std::fmt::Debug for GuardFuture<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardFuture").finish_non_exhaustive()
    }
}
