//! The access log and the metrics of HTTP.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use warp::{path::FullPath, reply::Response};

use crate::{
    client_address::{Peer, client_address},
    request::{REQUEST_ID, request_id},
    route::Route,
    state::State,
};

/// A request before it is routed.
pub(crate) struct Arrival {
    started: Instant,
    method: Method,
    path: String,
    request_id: String,
    client: Option<IpAddr>,
    if_none_match: Option<HeaderValue>,
}

impl Arrival {
    pub(crate) fn new(
        method: Method,
        path: &FullPath,
        headers: &HeaderMap,
        peer: Option<Peer>,
        state: &State,
    ) -> Self {
        Self {
            started: Instant::now(),
            method,
            path: path.as_str().to_owned(),
            request_id: request_id(headers),
            client: client_address(peer, headers, &state.companion.settings.trusted_proxies),
            if_none_match: headers.get(header::IF_NONE_MATCH).cloned(),
        }
    }

    /// Adds the headers that all answers share and writes the access log.
    pub(crate) fn answered(self, mut response: Response, state: &State) -> Response {
        let route = Route::of(&self.path);
        if self.is_unchanged(&response) {
            *response.body_mut() = "".into();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(header::CONTENT_TYPE);
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        let fallback = || HeaderValue::from_str(&self.request_id).ok();
        let id = response.headers().get(REQUEST_ID).cloned().or_else(fallback);
        let headers = response.headers_mut();
        if let Some(id) = &id {
            headers.insert(REQUEST_ID, id.clone());
        }
        for (name, value) in SECURITY_HEADERS {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Some(allow) = route.and_then(|route| HeaderValue::from_str(&route.allow()).ok())
        {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        self.log(&response, route.map_or("other", |route| route.path), id.as_ref(), state);
        response
    }

    /// Whether the client has this answer already, as its `If-None-Match` says.
    fn is_unchanged(&self, response: &Response) -> bool {
        let (Some(known), Some(tag)) = (&self.if_none_match, response.headers().get(header::ETAG)) else {
            return false;
        };
        let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else { return false };
        response.status() == StatusCode::OK
            && matches!(self.method, Method::GET | Method::HEAD)
            && known.split(',').any(|known| ["*", tag].contains(&known.trim()))
    }

    fn log(&self, response: &Response, route: &str, id: Option<&HeaderValue>, state: &State) {
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let (status, elapsed) = (response.status().as_u16(), self.started.elapsed());
        state.http.count(&self.method, route, status, elapsed);
        let level = match (status, route) {
            (500.., _) => log::Level::Error,
            (_, "/health" | "/healthz" | "/metrics") => log::Level::Debug,
            _ => log::Level::Info,
        };
        let duration_ms = elapsed.as_millis() as u64;
        let client = self.client.map(|address| address.to_string()).unwrap_or_default();
        log::log!(level, request_id = id, client, status, duration_ms; "{} {} {status}", self.method, self.path);
    }
}

/// Headers that keep browsers from guessing, framing and keeping what they were given.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

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
