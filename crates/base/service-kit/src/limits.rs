//! What keeps a connection from being held for ever: it counts its calls, and a request's body has to come in time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// Bytes a second that a body has to bring on average: what the slowest mobile line does. A body of the greatest size
/// may take its time, one that trickles may not.
const SLOWEST: u64 = 4096;

/// The calls of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Calls(watch::Sender<usize>);

/// A call in progress; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Call(watch::Sender<usize>);

impl Calls {
    pub(crate) fn new() -> (Self, watch::Receiver<usize>) {
        let (sender, receiver) = watch::channel(0);
        (Self(sender), receiver)
    }

    pub(crate) fn begin(&self) -> Call {
        self.0.send_modify(|calls| *calls += 1);
        Call(self.0.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

/// Returns when there was no call for so long.
pub(crate) async fn idle_for(busy: &mut watch::Receiver<usize>, time: Duration) {
    loop {
        // An error means that the connection itself is gone, and with it whoever waits here.
        if busy.wait_for(|calls| *calls == 0).await.is_err() {
            return;
        }
        match tokio::time::timeout(time, busy.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// An answer's body with the call it belongs to.
#[derive(Debug)]
pub(crate) struct Counted {
    body: Body,
    _call: Call,
}

impl Counted {
    pub(crate) fn wrap(body: Body, call: Call) -> Body {
        Body::new(Self { body, _call: call })
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body that has to come in time.
pub(crate) struct Timely<B> {
    body: B,
    end: Pin<Box<Sleep>>,
    /// Longest time without a byte.
    grace: Duration,
    /// The end without what was earned.
    basis: Instant,
    bytes: u64,
}

/// The body trickled.
#[derive(Debug, thiserror::Error)]
#[error("the request's body came too slowly")]
pub(crate) struct TooSlow;

impl Timely<Incoming> {
    /// A body without content needs no clock.
    pub(crate) fn wrap(body: Incoming, grace: Duration) -> Body {
        if body.is_end_stream() {
            return Body::new(body);
        }
        Body::new(Self::new(body, grace))
    }
}

impl<B> Timely<B> {
    fn new(body: B, grace: Duration) -> Self {
        // With less than this a body is too late.
        let basis = Instant::now() + grace;
        Self {
            body,
            end: Box::pin(tokio::time::sleep_until(basis)),
            grace,
            basis,
            bytes: 0,
        }
    }
}

impl<B> HttpBody for Timely<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Box::new(TooSlow))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes += data.len() as u64;
            let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / SLOWEST);
            // What was earned is for a slow line, not for a pause.
            let end = (self.basis + earned).min(Instant::now() + self.grace);
            self.end.as_mut().reset(end);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
