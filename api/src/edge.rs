//! What surrounds all routes on the way to the client: CORS, compression, and one answer to what HTTP itself refuses.

use bytes::Bytes;
use companion::settings::CorsOrigins;
use tower_http::{
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::{AllowOrigin, CorsLayer},
};
use uuid::Uuid;
use warp::http::{HeaderName, HeaderValue, Method, header};

/// Bodies from this size on are compressed for clients that accept it.
const COMPRESS_ABOVE: u64 = 1024;

/// Compresses what is worth it.
pub(crate) fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_ABOVE))
}

/// Lets pages of these origins use the API, as `CORS_ALLOW_ORIGINS` says.
pub(crate) fn cors(origins: &CorsOrigins) -> CorsLayer {
    let allowed = match origins {
        CorsOrigins::None => return CorsLayer::new(),
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::These(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    };
    let names =
        |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(names(&[
            "content-type",
            "x-api-key",
            "x-admin-token",
            "x-request-id",
            "idempotency-key",
            "if-none-match",
        ]))
        .expose_headers(names(&[
            "etag",
            "idempotency-replayed",
            "retry-after",
            "x-request-id",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-total-count",
            "x-next-cursor",
        ]))
        .max_age(std::time::Duration::from_secs(600))
}

/// Returns the answer that replaces one of the HTTP layer, which has no body and no request id.
///
/// hyper writes such an answer when it cannot read a request, and never anything else before a request was read.
pub(crate) fn explained(written: &[u8]) -> Option<Bytes> {
    let line = written.strip_prefix(b"HTTP/1.1 ")?;
    let end = line.iter().position(|byte| *byte == b'\r')?;
    let status = std::str::from_utf8(&line[..end]).ok()?;
    let detail = match status.get(..3)? {
        "400" => "The request is not valid HTTP.",
        "414" => "The path is too long.",
        "431" => "The headers are too large.",
        _ => return None,
    };
    let (id, body) = (Uuid::new_v4(), format!("{{\"detail\":\"{detail}\"}}"));
    log::debug!(request_id:% = id; "A request could not be read: {detail}");
    let answer = format!(
        "HTTP/1.1 {status}\r\n{}: application/json\r\n{}: {}\r\n{}: close\r\nx-request-id: {id}\r\n\r\n{body}",
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        body.len(),
        header::CONNECTION,
    );
    Some(answer.into())
}
