use std::{convert::Infallible, net::IpAddr, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use companion::{
    auth,
    store::{Once, User},
};
use futures_util::{Stream, StreamExt, pin_mut};
use serde_json::Value;
use uuid::Uuid;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, Method, header},
    path::FullPath,
};

use crate::{
    client_address::{Peer, client_address},
    error::ApiError,
    state::State,
    validate::{Fields, invalid_json, missing_body},
};

/// The largest body that is read.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;
pub(crate) const REQUEST_ID: &str = "x-request-id";

const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_REQUEST_ID: usize = 128;

/// A request, after its path and method have been matched.
pub(crate) struct Request {
    pub(crate) state: State,
    /// The correlation id.
    pub(crate) id: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Of a request with an `Idempotency-Key`.
    pub(crate) once: Option<Once>,
    headers: HeaderMap,
    client: Option<IpAddr>,
    body: Result<Bytes, ApiError>,
}

/// Reads what every handler needs.
pub(crate) fn request(state: &State) -> BoxedFilter<(Request,)> {
    let state = state.clone();
    warp::method()
        .and(warp::path::full())
        .and(headers())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::stream())
        .then(move |method: Method, path: FullPath, headers: HeaderMap, peer: Option<Peer>, body| {
            let state = state.clone();
            async move {
                let client = client_address(peer, &headers, &state.companion.settings.trusted_proxies);
                let (id, path) = (request_id(&headers), path.as_str().to_owned());
                Request { state, id, method, path, once: None, headers, client, body: read(body).await }
            }
        })
        .boxed()
}

/// The client's request id where it can be repeated in a header and in logs, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).map(str::trim);
    let usable = |id: &&str| {
        !id.is_empty() && id.len() <= LONGEST_REQUEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    given.filter(usable).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

impl Request {
    /// The user whose API key the request carries.
    pub(crate) async fn user(&self) -> Result<User, ApiError> {
        let key = self.headers.get("x-api-key").and_then(|key| key.to_str().ok()).ok_or(ApiError::ApiKey)?;
        let (guesses, hash) = (&self.state.guesses, auth::hash(key));
        self.refuse_guessing(&hash)?;
        match auth::authenticate(&self.state.companion.store, key).await? {
            Some(user) => {
                guesses.right(&hash);
                Ok(user)
            }
            None => {
                guesses.wrong(self.client, &hash);
                Err(ApiError::ApiKey)
            }
        }
    }

    /// Refuses a key from an address that has sent many wrong ones, unless the key is known to be right.
    fn refuse_guessing(&self, key_hash: &str) -> Result<(), ApiError> {
        match self.state.guesses.wait(self.client, key_hash) {
            Some(seconds) => Err(ApiError::TooManyWrongKeys(seconds)),
            None => Ok(()),
        }
    }

    /// That the request carries the admin token.
    pub(crate) fn admin(&self) -> Result<(), ApiError> {
        let expected = self.state.companion.settings.admin_api_key.as_ref().ok_or(ApiError::AdminClosed)?;
        let given = self.headers.get("x-admin-token").and_then(|token| token.to_str().ok());
        let Some(given) = given else { return Err(ApiError::AdminToken) };
        let (guesses, hash) = (&self.state.guesses, auth::hash(given));
        self.refuse_guessing(&hash)?;
        if auth::equal(given, expected.expose()) {
            guesses.right(&hash);
            return Ok(());
        }
        guesses.wrong(self.client, &hash);
        Err(ApiError::AdminToken)
    }

    /// A header of the request.
    pub(crate) fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// The body, as far as it could be read.
    pub(crate) fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// The fields of the JSON object in the body.
    pub(crate) fn fields(self) -> Result<Fields, ApiError> {
        let body = self.body?;
        if let Some(found) = self.headers.get(header::CONTENT_TYPE) {
            let found = String::from_utf8_lossy(found.as_bytes()).into_owned();
            let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let json = essence == "application/json"
                || (essence.starts_with("application/") && essence.ends_with("+json"));
            if !json {
                return Err(ApiError::ContentType(found));
            }
        }
        if body.is_empty() {
            return Err(missing_body());
        }
        let value: Value = serde_json::from_slice(&body).map_err(|error| invalid_json(&error))?;
        Fields::of(value)
    }
}

async fn read(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Bytes, ApiError> {
    let collect = async {
        pin_mut!(body);
        let mut bytes = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|_| ApiError::BodyLost)?;
            if bytes.len() + part.remaining() > MAX_BODY_BYTES {
                return Err(ApiError::TooLarge);
            }
            let mut part = part;
            let length = part.remaining();
            bytes.extend_from_slice(&part.copy_to_bytes(length));
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(BODY_TIMEOUT, collect).await.unwrap_or(Err(ApiError::BodyTimeout))
}

/// A filter that never rejects, for what stands in front of all routes.
pub(crate) fn headers() -> impl Filter<Extract = (HeaderMap,), Error = Infallible> + Clone {
    warp::header::headers_cloned()
}
