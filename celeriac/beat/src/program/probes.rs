//! `/livez`, `/readyz` and `/metrics` of beat.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::health::Health;

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers for as long as it runs.
pub(super) async fn serve(listener: TcpListener, health: Health) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, it would fail at once again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let health = health.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &health);
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

fn answer(method: &Method, path: &str, health: &Health) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    match path {
        "/livez" => verdict(health.lives()),
        "/readyz" => verdict(health.is_ready()),
        "/metrics" => {
            let mut response = text(StatusCode::OK, health.metrics());
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()),
    }
}

fn verdict(verdict: Result<(), String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
