//! One connection, from its first byte to its end.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use warp::{Filter, reply::Response};

use crate::connections::{Activity, Place};

/// Answers the requests of one client until it leaves, says nothing for too long, or the API stops.
pub(crate) async fn serve<F>(stream: TcpStream, place: Place, routes: F, stopping: CancellationToken)
where
    F: Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
{
    let activity = Arc::clone(&place.activity);
    let answers = TowerToHyperService::new(warp::service(routes));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        activity.begin();
        let (answer, activity) = (answers.call(request), Arc::clone(&activity));
        async move {
            let answer = answer.await;
            activity.end();
            answer
        }
    });
    let activity = Arc::clone(&place.activity);
    let stream = Watched { stream, activity: Arc::clone(&activity) };
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

/// A stream that notes when its client sends something.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
