//! One connection, from its first byte to its end.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client_address::Peer,
    connections::{Activity, Place},
    edge,
};

/// Answers the requests of one client until it leaves, says nothing for too long, or the API stops.
pub(crate) async fn serve<S, B>(
    (stream, peer): (TcpStream, SocketAddr),
    place: Place,
    routes: S,
    stopping: CancellationToken,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::clone(&place.activity);
    let answers = TowerToHyperService::new(routes);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        activity.begin();
        request.extensions_mut().insert(Peer(peer));
        let (answer, activity) = (answers.call(request), Arc::clone(&activity));
        async move {
            let answer = answer.await;
            activity.end();
            answer
        }
    });
    let activity = Arc::clone(&place.activity);
    let stream = Watched { stream, activity: Arc::clone(&activity), answer: Bytes::new() };
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    log::debug!(error:% = error; "A connection broke: {error}");
                }
                return;
            }
            () = activity.closing.cancelled() => {
                if !activity.is_busy() {
                    log::debug!("A silent connection was closed");
                    return;
                }
                // The client was just in time, but this connection's place is wanted after the answer.
                connection.as_mut().graceful_shutdown();
                if let Err(error) = connection.await {
                    log::debug!(error:% = error; "A connection broke: {error}");
                }
                return;
            }
            () = stopping.cancelled(), if !told => {
                told = true;
                if activity.awaits_head() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A stream that notes when its client sends something, and explains what the HTTP layer refuses.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// The rest of an explanation that is not written yet.
    answer: Bytes,
}

impl Watched {
    /// Puts an explanation in the place of an answer of the HTTP layer; `true` when `bytes` were one.
    fn explain(&mut self, bytes: &[u8]) -> bool {
        let answer = self.activity.awaits_head().then(|| edge::explained(bytes)).flatten();
        let explained = answer.is_some();
        self.answer = answer.unwrap_or_default();
        explained
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.answer))?;
            self.answer.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        if self.explain(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(cx))?;
        if slices.first().is_some_and(|first| self.explain(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
