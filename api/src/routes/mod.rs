//! The routes, one file for each area.

mod admin;
mod chat;
mod failed;
mod health;
mod metrics;
mod reminders;
mod schedule;
mod users;

use std::{convert::Infallible, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use serde::Serialize;
use warp::{
    Filter, Rejection, Reply,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reject::MethodNotAllowed,
    reply::Response,
};

use crate::{
    access::Arrival,
    client_address::Peer,
    error::ApiError,
    idempotency,
    request::{self, REQUEST_ID, Request},
    route::Route,
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
        .or(schedule::routes(&state))
        .unify()
        .or(options())
        .unify()
        .recover(unmatched)
        .unify();
    let arriving = state.clone();
    let arrival = move |method: Method, path: FullPath, headers: HeaderMap, peer: Option<Peer>| {
        Arrival::new(method, &path, &headers, peer, &arriving)
    };
    warp::method()
        .and(warp::path::full())
        .and(request::headers())
        .and(warp::ext::optional::<Peer>())
        .map(arrival)
        .and(routes)
        .map(move |arrival: Arrival, response: Response| arrival.answered(response, &state))
}

/// Matches `GET`, and `HEAD`, whose answers leave out the body on their way to the client.
fn get() -> BoxedFilter<()> {
    warp::get().or(warp::head()).unify().boxed()
}

/// Tells which methods a path takes.
fn options() -> BoxedFilter<(Response,)> {
    // The path first: a method is wrong only where there is something.
    warp::path::full()
        .and_then(async |path: FullPath| Route::of(path.as_str()).ok_or_else(warp::reject::not_found))
        .and(warp::options())
        .map(|route: &Route| {
            warp::reply::with_header(StatusCode::NO_CONTENT, header::ALLOW, route.allow()).into_response()
        })
        .boxed()
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
    H: FnOnce(Request) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let id = request.id.clone();
    let answer = AssertUnwindSafe(idempotency::once(request, handler)).catch_unwind().await;
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
    let text = serde_json::to_string(body).map_err(|error| ApiError::Internal(error.to_string()))?;
    let mut response = Response::new(text.clone().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.extensions_mut().insert(idempotency::Text(text));
    Ok(response)
}

/// As [`json`], with a tag by which a client learns that it has this answer already.
fn tagged_json(body: &impl Serialize) -> Answer {
    let text = serde_json::to_string(body).map_err(|error| ApiError::Internal(error.to_string()))?;
    // Weak, since the same answer may be compressed or not.
    let tag = format!("W/\"{}\"", &companion::auth::hash(&text)[..32]);
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(
        header::ETAG,
        HeaderValue::from_str(&tag).map_err(|error| ApiError::Internal(error.to_string()))?,
    );
    Ok(response)
}
