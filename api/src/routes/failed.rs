//! What an engineer has to decide: jobs that were given up, and deliveries that may have arrived.

use companion::{
    reminders::{self, Closed, Requeued},
    store::FailedJob,
};
use serde_json::{Value, json};
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{Answer, handled};
use crate::{request::Request, state::State};

const MOST_ROWS: i64 = 500;
const MOST_IDS: usize = 500;

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let get = |path: BoxedFilter<()>| path.and(super::get()).boxed();
    let post = |path: BoxedFilter<()>| path.and(warp::post()).boxed();
    handled(get(warp::path!("admin" / "failed-jobs").boxed()), state, failed_jobs)
        .or(handled(post(warp::path!("admin" / "failed-jobs" / "requeue").boxed()), state, requeue))
        .unify()
        .or(handled(get(warp::path!("admin" / "uncertain").boxed()), state, uncertain))
        .unify()
        .or(handled(post(warp::path!("admin" / "uncertain" / "resend").boxed()), state, resend))
        .unify()
        .or(handled(post(warp::path!("admin" / "uncertain" / "accept").boxed()), state, accept))
        .unify()
        .boxed()
}

/// Open jobs that were given up, the latest failure first.
async fn failed_jobs(request: Request) -> Answer {
    request.admin()?;
    let store = &request.state.companion.store;
    let (jobs, total) = (store.failed_jobs(false, MOST_ROWS).await?, store.count_failed_jobs().await?);
    super::json(&json!({ "failed_jobs": jobs.iter().map(job).collect::<Vec<_>>(), "total": total }))
}

fn job(job: &FailedJob) -> Value {
    json!({
        "id": job.id,
        "job_name": job.job_name,
        "payload": *job.payload,
        "error_message": job.error_message,
        "attempts": job.attempts,
        "last_error_at": job.last_error_at.to_rfc3339(),
        "created_at": job.created_at.to_rfc3339(),
    })
}

async fn requeue(request: Request) -> Answer {
    request.admin()?;
    let state = request.state.clone();
    let companion = &state.companion;
    let (mut queued, mut closed, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids(request)? {
        match reminders::requeue_failed_job(companion, id).await? {
            Closed::Queued(task) => queued.push(json!({ "id": id, "task_id": task })),
            Closed::Closed(reason) => closed.push(json!({ "id": id, "reason": reason })),
            Closed::Skipped(reason) => skipped.push(json!({ "id": id, "reason": reason })),
        }
    }
    state.publish_outbox().await;
    super::json(&json!({ "queued": queued, "closed": closed, "skipped": skipped }))
}

/// Deliveries of which nobody knows whether they arrived, the oldest first.
async fn uncertain(request: Request) -> Answer {
    request.admin()?;
    let deliveries = request.state.companion.store.uncertain_deliveries(MOST_ROWS).await?;
    let row = |delivery: &companion::store::UncertainDelivery| {
        json!({
            "reminder_id": delivery.reminder_id,
            "user_id": delivery.user_id,
            "channel": delivery.channel,
            "status": delivery.reminder_status,
            "utc_ts": delivery.utc_ts.to_rfc3339(),
            "started_at": delivery.started_at.to_rfc3339(),
        })
    };
    super::json(&json!({ "uncertain": deliveries.iter().map(row).collect::<Vec<_>>() }))
}

/// Sends reminders again that may have been delivered.
async fn resend(request: Request) -> Answer {
    request.admin()?;
    let state = request.state.clone();
    let companion = &state.companion;
    let (mut queued, mut skipped) = (Vec::new(), Vec::new());
    for id in ids(request)? {
        match reminders::resend_uncertain(companion, id).await? {
            Requeued::Queued(task) => queued.push(json!({ "id": id, "task_id": task })),
            Requeued::Skipped(reason) => skipped.push(json!({ "id": id, "reason": reason })),
        }
    }
    state.publish_outbox().await;
    super::json(&json!({ "queued": queued, "skipped": skipped }))
}

/// Takes reminders that may have been delivered for sent.
async fn accept(request: Request) -> Answer {
    request.admin()?;
    let companion = request.state.companion.clone();
    let (mut accepted, mut skipped) = (Vec::new(), Vec::new());
    for id in ids(request)? {
        match reminders::accept_uncertain(&companion, id).await? {
            true => accepted.push(json!({ "id": id })),
            false => {
                skipped.push(json!({ "id": id, "reason": "no uncertain delivery of it, or being delivered" }))
            }
        }
    }
    super::json(&json!({ "accepted": accepted, "skipped": skipped }))
}

fn ids(request: Request) -> Result<Vec<uuid::Uuid>, crate::error::ApiError> {
    let mut fields = request.fields()?;
    let ids = fields.ids("ids", MOST_IDS);
    fields.finish()?;
    Ok(ids)
}
