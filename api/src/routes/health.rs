use std::time::Duration;

use serde_json::json;
use warp::{Filter, Reply, filters::BoxedFilter, http::StatusCode, reply::Response};

use super::{Answer, handled};
use crate::{celery::CeleryError, request::Request, state::State};

const PATIENCE: Duration = Duration::from_secs(3);
const DATABASE: Duration = Duration::from_millis(900);

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let health = handled(warp::path!("health").and(super::get()).boxed(), state, health);
    let healthz = handled(warp::path!("healthz").and(super::get()).boxed(), state, healthz);
    health.or(healthz).unify().boxed()
}

/// Liveness: the process answers.
async fn health(_: Request) -> Answer {
    super::json(&json!({ "status": "ok" }))
}

/// Readiness, and what it depends on. Without workers the API still works, so that alone is no failure.
async fn healthz(request: Request) -> Answer {
    let state = &request.state;
    let (db, redis, celery) = tokio::join!(
        patient(async { state.companion.store.check(DATABASE).await.map_err(|fault| fault.to_string()) }),
        patient(async { state.companion.redis.ping().await.map_err(|error| error.to_string()) }),
        patient(async { ping_workers(state).await.map_err(|error| error.to_string()) }),
    );
    let ready = db.is_ok() && redis.is_ok() && !state.is_stopping();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "db": written(db), "redis": written(redis), "celery": written(celery) });
    Ok(warp::reply::with_status(warp::reply::json(&body), status).into_response())
}

async fn ping_workers(state: &State) -> Result<(), CeleryError> {
    match state.celery.ping_any_worker().await? {
        true => Ok(()),
        false => Err(CeleryError::NoWorkers),
    }
}

async fn patient(check: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(PATIENCE, check)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

fn written(result: Result<(), String>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(reason) => format!("fail: {}", reason.lines().next().unwrap_or_default()),
    }
}
