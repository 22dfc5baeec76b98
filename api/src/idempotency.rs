//! `Idempotency-Key`: a `POST` that is repeated takes effect once, and gets the answer of the first time.
//!
//! Keys belong to a user, or to the operators, and are kept for a day. Only answers that say that it worked are kept: what
//! was refused may be made anew, and what failed, or died with its process, is gone on with. The ids of what a request makes follow
//! from its key then, so that what is there already is not made again.

use companion::{
    auth,
    store::{Known, OnceKey},
};
use warp::{
    http::{HeaderValue, Method},
    reply::Response,
};

use crate::{error::ApiError, request::Request};

const LONGEST_KEY: usize = 255;
const ADMIN: &str = "/admin/";

/// The JSON of an answer, beside its body, which can be read only once.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) String);

/// Gives a request to its handler; if it carries a key, once.
///
/// Such work goes on when the client leaves, since the client will ask again what came of it.
pub(crate) async fn once<H, F>(mut request: Request, handler: H) -> Result<Response, ApiError>
where
    H: FnOnce(Request) -> F + Send + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let Some(key) = key(&request).await? else { return handler(request).await };
    let store = request.state.companion.store.clone();
    let once = match store.begin_once(&key).await? {
        Known::Begun(once) => once,
        Known::Answered(answer) => return Ok(replayed(answer)),
        Known::Running => return Err(ApiError::StillRunning),
        Known::Other => return Err(ApiError::KeyOfAnother),
    };
    let is_first = once.is_first;
    request.once = Some(once);
    let work = handler(request);
    let finished = tokio::spawn(async move {
        let answer = work.await;
        let noted = match (kept(&answer), &answer) {
            (Some(Text(text)), _) => store.keep_answer(&key, text).await,
            (None, answer) if !is_first || is_failure(answer) => store.give_back_once(&key).await,
            (None, _) => store.forget_once(&key).await,
        };
        if let Err(error) = noted {
            log::warn!(error:% = error; "The outcome of a request with an Idempotency-Key could not be kept");
        }
        answer
    });
    finished.await.unwrap_or_else(|_| Err(ApiError::Internal("a handler panicked".to_owned())))
}

/// Returns the request's key as one of its user, or of the operators; `None` without one.
async fn key(request: &Request) -> Result<Option<OnceKey>, ApiError> {
    let Some(key) = request.header("idempotency-key").filter(|_| request.method == Method::POST) else {
        return Ok(None);
    };
    let key = key.to_str().map(str::trim).unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(ApiError::IdempotencyKey);
    }
    let owner = if request.path.starts_with(ADMIN) {
        request.admin()?;
        "operators".to_owned()
    } else {
        request.user().await?.id.to_string()
    };
    let request_hash = auth::hash(&format!("{}\n{}", request.path, String::from_utf8_lossy(request.body())));
    Ok(Some(OnceKey { owner, key: key.to_owned(), request_hash }))
}

/// Tells a failure in the middle of the work, after which something may be there, from a refusal.
fn is_failure(answer: &Result<Response, ApiError>) -> bool {
    let status = answer.as_ref().map_or_else(ApiError::status, |answer| answer.status());
    status.is_server_error()
}

fn kept(answer: &Result<Response, ApiError>) -> Option<&Text> {
    let answer = answer.as_ref().ok().filter(|answer| answer.status().is_success())?;
    answer.extensions().get::<Text>()
}

fn replayed(answer: String) -> Response {
    let mut response = Response::new(answer.into());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}
