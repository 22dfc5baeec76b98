//! `Idempotency-Key`: a request that is repeated takes effect once, and gets the answer of the first time.
//!
//! Keys belong to a user, or to the operators, and are kept for a day. Only answers that say that it worked are kept: what
//! failed may be repeated.

use companion::{
    auth,
    store::{Known, OnceKey},
};
use serde_json::Value;
use warp::{http::HeaderValue, reply::Response};

use crate::{error::ApiError, request::Request, state::State};

const LONGEST_KEY: usize = 255;

impl Request {
    /// Returns the request's key as one of this owner; `None` without one.
    pub(crate) fn once_key(&self, owner: impl ToString, path: &str) -> Result<Option<OnceKey>, ApiError> {
        let Some(key) = self.header("idempotency-key") else { return Ok(None) };
        let key = key.to_str().map(str::trim).unwrap_or_default();
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(ApiError::IdempotencyKey);
        }
        let request_hash = auth::hash(&format!("{path}\n{}", String::from_utf8_lossy(self.body())));
        Ok(Some(OnceKey { owner: owner.to_string(), key: key.to_owned(), request_hash }))
    }
}

/// What to do for a request.
pub(crate) enum Begun {
    /// Nothing: this is its answer.
    Replay(Response),
    /// The work.
    Work(Box<Work>),
}

/// The work of a request, at most once for each key.
pub(crate) struct Work {
    state: State,
    key: Option<OnceKey>,
}

/// Begins a request. Without a key there is always work.
pub(crate) async fn begin(state: &State, key: Option<OnceKey>) -> Result<Begun, ApiError> {
    if let Some(key) = &key {
        match state.companion.store.begin_once(key).await? {
            Known::New => {}
            Known::Answered(answer) => return replayed(&answer).map(Begun::Replay),
            Known::Running => return Err(ApiError::StillRunning),
            Known::Other => return Err(ApiError::KeyOfAnother),
        }
    }
    Ok(Begun::Work(Box::new(Work { state: state.clone(), key })))
}

impl Work {
    /// Does the work and keeps its answer. With a key it goes on when the client leaves, who will ask again what came of it.
    pub(crate) async fn finish<F>(self, work: F) -> Result<Value, ApiError>
    where
        F: Future<Output = Result<Value, ApiError>> + Send + 'static,
    {
        let Self { state, key: Some(key) } = self else { return work.await };
        let finished = tokio::spawn(async move {
            let answer = work.await;
            let store = &state.companion.store;
            let noted = match &answer {
                Ok(answer) => store.keep_answer(&key, &answer.to_string()).await,
                Err(_) => store.forget_once(&key).await,
            };
            if let Err(error) = noted {
                log::warn!(error:% = error; "The outcome of a request with an Idempotency-Key could not be kept");
            }
            answer
        });
        finished.await.unwrap_or_else(|_| Err(ApiError::Internal("a handler panicked".to_owned())))
    }

    /// Leaves the work undone.
    pub(crate) async fn leave(self) {
        if let Some(key) = &self.key
            && let Err(error) = self.state.companion.store.forget_once(key).await
        {
            log::warn!(error:% = error; "An Idempotency-Key could not be given up");
        }
    }
}

fn replayed(answer: &str) -> Result<Response, ApiError> {
    let mut response = Response::new(answer.to_owned().into());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}
