use companion::{chat::ChatError, store::StoreError};
use serde_json::{Value, json};
use warp::{
    Reply,
    http::{StatusCode, header},
    reply::Response,
};

use crate::celery::CeleryError;

/// Everything that is not an answer. Its body is `{"detail": ...}`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("no valid API key")]
    ApiKey,
    #[error("no valid admin token")]
    AdminToken,
    #[error("the admin routes are closed")]
    AdminClosed,
    #[error("{0}")]
    NotFound(String),
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error("the body has the content type {0:?}")]
    ContentType(String),
    #[error("the body is too large")]
    TooLarge,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the body could not be read")]
    BodyLost,
    #[error("the request is not valid")]
    Invalid(Vec<Value>),
    #[error("too many requests, for {0} s")]
    RateLimited(u64),
    #[error("too many wrong keys, for {0} s")]
    TooManyWrongKeys(u64),
    #[error("the Idempotency-Key cannot be used")]
    IdempotencyKey,
    #[error("the request with this Idempotency-Key is still being worked on")]
    StillRunning,
    #[error("the Idempotency-Key was used for another request")]
    KeyOfAnother,
    #[error("neither the database nor Redis tells the counters")]
    NoCounters,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Celery(#[from] CeleryError),
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::ApiKey | Self::AdminToken => StatusCode::UNAUTHORIZED,
            Self::AdminClosed => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyLost | Self::IdempotencyKey => StatusCode::BAD_REQUEST,
            Self::StillRunning => StatusCode::CONFLICT,
            Self::KeyOfAnother => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited(_) | Self::TooManyWrongKeys(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(error) if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Celery(_) | Self::NoCounters => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client is told; causes within the service stay in its log.
    fn detail(&self) -> Value {
        match self {
            Self::ApiKey => "Invalid API key.".into(),
            Self::AdminToken => "Invalid admin token.".into(),
            Self::AdminClosed => "Admin routes are closed: ADMIN_API_KEY is not set.".into(),
            Self::NotFound(what) => what.as_str().into(),
            Self::MethodNotAllowed => "Method Not Allowed".into(),
            Self::ContentType(found) => {
                format!("Unsupported content type {found:?}; expected application/json.").into()
            }
            Self::TooLarge => {
                format!("The body is larger than {} bytes.", crate::request::MAX_BODY_BYTES).into()
            }
            Self::BodyTimeout => "The body did not arrive in time.".into(),
            Self::BodyLost => "The body could not be read.".into(),
            Self::Invalid(problems) => Value::Array(problems.clone()),
            Self::RateLimited(seconds) => json!({ "error": "rate_limited", "retry_after_seconds": seconds }),
            Self::TooManyWrongKeys(seconds) => {
                json!({ "error": "too_many_wrong_keys", "retry_after_seconds": seconds })
            }
            Self::Store(error) if error.is_retryable() => {
                "The database is not available, please try again.".into()
            }
            Self::IdempotencyKey => "Idempotency-Key must have 1 to 255 visible ASCII characters.".into(),
            Self::StillRunning => {
                "A request with this Idempotency-Key is still being worked on, please try again.".into()
            }
            Self::KeyOfAnother => "This Idempotency-Key was used for another request; use a new one.".into(),
            Self::NoCounters => "The counters cannot be read, please try again.".into(),
            Self::Celery(_) => "The task queue is not available, please try again.".into(),
            Self::Store(_) | Self::Internal(_) => "Internal Server Error".into(),
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let body = warp::reply::json(&json!({ "detail": self.detail() }));
        let mut response = warp::reply::with_status(body, self.status()).into_response();
        let retry_after = match &self {
            Self::RateLimited(seconds) | Self::TooManyWrongKeys(seconds) => Some(*seconds),
            Self::StillRunning => Some(1),
            error if error.status() == StatusCode::SERVICE_UNAVAILABLE => Some(5),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::Store(error) => Self::Store(error),
            unknown @ ChatError::UnknownPersona(_) => Self::NotFound(unknown.to_string()),
            other => Self::Internal(other.to_string()),
        }
    }
}
