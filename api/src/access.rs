//! The access log and the metrics of HTTP.

use std::time::{Duration, Instant};

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use warp::http::{HeaderMap, HeaderValue, Method};
use warp::{path::FullPath, reply::Response};

use crate::{
    request::{REQUEST_ID, request_id},
    state::State,
};

/// What is known of a request before it is routed.
pub(crate) struct Arrival {
    started: Instant,
    method: Method,
    path: String,
    request_id: String,
}

impl Arrival {
    pub(crate) fn new(method: Method, path: &FullPath, headers: &HeaderMap) -> Self {
        Self {
            started: Instant::now(),
            method,
            path: path.as_str().to_owned(),
            request_id: request_id(headers),
        }
    }

    /// Adds the request id to the answer, if the handler has not, and writes the access log.
    pub(crate) fn answered(self, mut response: Response, state: &State) -> Response {
        let fallback = || HeaderValue::from_str(&self.request_id).ok();
        let id = response.headers().get(REQUEST_ID).cloned().or_else(fallback);
        if let Some(id) = &id {
            response.headers_mut().insert(REQUEST_ID, id.clone());
        }
        let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let (status, elapsed) = (response.status().as_u16(), self.started.elapsed());
        let route = route(&self.path);
        state.http.count(&self.method, route, status, elapsed);
        let level = match (status, route) {
            (500.., _) => log::Level::Error,
            (_, "/health" | "/healthz" | "/metrics") => log::Level::Debug,
            _ => log::Level::Info,
        };
        let duration_ms = elapsed.as_millis() as u64;
        log::log!(level, request_id = id, status, duration_ms; "{} {} {status}", self.method, self.path);
        response
    }
}

/// The route of a path, for metrics: few names, whatever is asked for.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 12] = [
        "/health",
        "/healthz",
        "/metrics",
        "/metrics/basic",
        "/chat",
        "/reminders",
        "/users/push-token",
        "/admin/queues",
        "/admin/workers",
        "/admin/reminders",
        "/admin/reminders/requeue",
        "/admin/features",
    ];
    match ROUTES.into_iter().find(|route| *route == path) {
        Some(route) => route,
        None if path.starts_with("/reminders/") && path.ends_with("/cancel") => "/reminders/{id}/cancel",
        None => "other",
    }
}

/// Counts requests and their durations.
#[derive(Clone)]
pub(crate) struct HttpMetrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let invariant = "the names of the metrics are constant and valid";
        let requests = Opts::new("http_requests_total", "Requests answered, by method, route and status.");
        let requests = IntCounterVec::new(requests, &["method", "route", "status"]).expect(invariant);
        let durations =
            HistogramOpts::new("http_request_duration_seconds", "Time to answer a request, by route.");
        let durations = HistogramVec::new(durations, &["route"]).expect(invariant);
        let registry = Registry::new();
        registry.register(Box::new(requests.clone())).expect(invariant);
        registry.register(Box::new(durations.clone())).expect(invariant);
        Self { registry, requests, durations }
    }
}

impl HttpMetrics {
    fn count(&self, method: &Method, route: &str, status: u16, elapsed: Duration) {
        let method = match method.as_str() {
            known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known,
            _ => "other",
        };
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.durations.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    }

    /// In the text form of Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
