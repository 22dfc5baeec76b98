use serde_json::json;
use warp::{Filter, Reply, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{Answer, handled};
use crate::{error::ApiError, request::Request, state::State, vitals::Part};

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let health = handled(warp::path!("health").and(super::get()).boxed(), state, health);
    let healthz = handled(warp::path!("healthz").and(super::get()).boxed(), state, healthz);
    health.or(healthz).unify().boxed()
}

/// Liveness: the process answers.
async fn health(_: Request) -> Answer {
    super::json(&json!({ "status": "ok" }))
}

/// Readiness, and what it depends on. Without workers or beat the API still works, so that alone is no failure.
async fn healthz(request: Request) -> Answer {
    let state = &request.state;
    let panicked = || ApiError::Internal("the look at the parts panicked".to_owned());
    let health = state.health().await.ok_or_else(panicked)?;
    let ready = health.db.is_ok() && health.redis.is_ok() && !state.is_stopping();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "db": written(&health.db),
        "redis": written(&health.redis),
        "celery": written(&health.celery),
        "beat": written(&health.beat),
    });
    Ok(warp::reply::with_status(warp::reply::json(&body), status).into_response())
}

fn written(part: &Part) -> String {
    match part {
        Ok(()) => "ok".to_owned(),
        Err(reason) => format!("fail: {reason}"),
    }
}
