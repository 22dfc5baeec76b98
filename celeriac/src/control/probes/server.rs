//! The HTTP server of the probes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::metrics::metrics;
use super::watch::Watch;
use crate::events::Dispatcher;

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until told to stop.
pub(in crate::control) async fn serve(
    listener: TcpListener,
    watch: Arc<Watch>,
    events: Dispatcher,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!(error:% = error; "A probe's connection was not accepted: {error}");
                    // Out of file descriptors, it would fail at once again.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        let (watch, events) = (Arc::clone(&watch), events.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &watch, &events);
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
                log::debug!(error:% = error; "A probe's connection failed: {error}");
            }
            drop(place);
        });
    }
}

fn answer(method: &Method, path: &str, watch: &Watch, events: &Dispatcher) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => verdict(watch.stalled().into_iter().collect()),
        "/readyz" => match watch.unready() {
            reasons if reasons.is_empty() => {
                let limits = watch.limits().into_iter().map(|limit| format!("limited: {limit}\n"));
                text(StatusCode::OK, "ok\n".to_owned() + &limits.collect::<String>())
            }
            reasons => verdict(reasons),
        },
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics(watch, events));
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()),
    }
}

fn verdict(reasons: Vec<String>) -> Response<Full<Bytes>> {
    if reasons.is_empty() {
        return text(StatusCode::OK, "ok\n".to_owned());
    }
    text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
