//! The routes, one file for each area.

mod admin;
mod chat;
mod health;
mod metrics;
mod reminders;
mod users;

use std::{convert::Infallible, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use serde::Serialize;
use warp::{
    Filter, Rejection, Reply,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, Method},
    path::FullPath,
    reject::MethodNotAllowed,
    reply::Response,
};

use crate::{
    access::Arrival,
    error::ApiError,
    request::{self, REQUEST_ID, Request},
    state::State,
};

type Answer = Result<Response, ApiError>;

/// All routes of the API.
pub fn all(
    state: State,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let routes = health::routes(&state)
        .or(metrics::routes(&state))
        .unify()
        .or(chat::routes(&state))
        .unify()
        .or(reminders::routes(&state))
        .unify()
        .or(users::routes(&state))
        .unify()
        .or(admin::routes(&state))
        .unify()
        .recover(unmatched)
        .unify();
    let arrival = |method: Method, path: FullPath, headers: HeaderMap| Arrival::new(method, &path, &headers);
    warp::method()
        .and(warp::path::full())
        .and(request::headers())
        .map(arrival)
        .and(routes)
        .map(move |arrival: Arrival, response: Response| arrival.answered(response, &state))
}

/// Ends a route whose path has no parameters.
fn handled<H, F>(matched: BoxedFilter<()>, state: &State, handler: H) -> BoxedFilter<(Response,)>
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    matched
        .and(request::request(state))
        .then(move |request: Request| answered(request, handler.clone()))
        .boxed()
}

/// Gives a request to its handler and makes a response of whatever comes of it.
async fn answered<H, F>(request: Request, handler: H) -> Response
where
    H: FnOnce(Request) -> F,
    F: Future<Output = Answer>,
{
    let id = request.id.clone();
    let answer = AssertUnwindSafe(handler(request)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| Err(ApiError::Internal("a handler panicked".to_owned())));
    let mut response = answer.unwrap_or_else(|error| refused(error, &id));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn refused(error: ApiError, request_id: &str) -> Response {
    match error.status().as_u16() {
        500.. => log::error!(request_id = request_id, error:% = error; "A request failed: {error}"),
        _ => log::debug!(request_id = request_id, error:% = error; "A request was refused: {error}"),
    }
    error.into_response()
}

/// What no route takes.
async fn unmatched(rejection: Rejection) -> Result<Response, Infallible> {
    let error = match rejection {
        rejection if rejection.is_not_found() => ApiError::NotFound("Not Found".to_owned()),
        rejection if rejection.find::<MethodNotAllowed>().is_some() => ApiError::MethodNotAllowed,
        rejection => ApiError::Internal(format!("an unexpected rejection: {rejection:?}")),
    };
    Ok(refused(error, ""))
}

fn json(body: &impl Serialize) -> Answer {
    Ok(warp::reply::json(body).into_response())
}
