use companion::{
    Companion,
    reminders::{self, Requeued},
    store::FeatureFlag,
};
use serde_json::{Map, Value, json};
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{Answer, handled};
use crate::{request::Request, state::State};

const RECENT: i64 = 100;
const MOST_IDS: usize = 500;
const LONGEST_KEY: usize = 64;

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let get = |path: BoxedFilter<()>| path.and(super::get()).boxed();
    let post = |path: BoxedFilter<()>| path.and(warp::post()).boxed();
    let features_path = || warp::path!("admin" / "features").boxed();
    handled(get(warp::path!("admin" / "queues").boxed()), state, queues)
        .or(handled(get(warp::path!("admin" / "workers").boxed()), state, workers))
        .unify()
        .or(handled(get(warp::path!("admin" / "reminders").boxed()), state, recent))
        .unify()
        .or(handled(post(warp::path!("admin" / "reminders" / "requeue").boxed()), state, requeue))
        .unify()
        .or(super::failed::routes(state))
        .unify()
        .or(handled(get(features_path()), state, features))
        .unify()
        .or(handled(post(features_path()), state, set_feature))
        .unify()
        .boxed()
}

async fn queues(request: Request) -> Answer {
    request.admin()?;
    let lengths = request.state.celery.queue_lengths().await?;
    let queues: Map<String, Value> =
        lengths.into_iter().map(|(queue, length)| (queue, json!(length))).collect();
    super::json(&json!({ "queues": queues }))
}

async fn workers(request: Request) -> Answer {
    request.admin()?;
    let names = request.state.celery.ping_workers().await?;
    let workers: Vec<Value> =
        names.into_iter().map(|name| json!({ "name": name, "status": "online" })).collect();
    super::json(&json!({ "workers": workers }))
}

async fn recent(request: Request) -> Answer {
    request.admin()?;
    let companion = &request.state.companion;
    let reminders = companion.store.recent_reminders(RECENT).await?;
    let counts = companion.store.reminder_counts().await?;
    let counts: Map<String, Value> =
        counts.into_iter().map(|count| (count.status.name().to_owned(), json!(count.count))).collect();
    let zone = companion.settings.tz;
    let rows = reminders.iter().map(|reminder| {
        let mut row = super::reminders::view(reminder, zone);
        row["user_id"] = json!(reminder.user_id);
        row["correlation_id"] = json!(reminder.correlation_id);
        row["failed_attempts"] = json!(reminder.delivery_attempts);
        row["last_attempt_at"] = json!(reminder.last_attempt_at.map(|at| at.to_rfc3339()));
        row
    });
    let failed_jobs = companion.store.count_failed_jobs().await?;
    let outbox = companion.store.overdue_messages().await?;
    super::json(&json!({
        "reminders": rows.collect::<Vec<_>>(),
        "counts": counts,
        "failed_jobs": failed_jobs,
        "outbox": outbox,
    }))
}

/// Queues the delivery of chosen reminders again, also of those that were given up.
async fn requeue(request: Request) -> Answer {
    request.admin()?;
    let (state, request_id) = (request.state.clone(), request.id.clone());
    let mut fields = request.fields()?;
    let ids = fields.ids("ids", MOST_IDS);
    fields.finish()?;
    let (mut queued, mut skipped) = (Vec::new(), Vec::new());
    for id in ids {
        match reminders::requeue(&state.companion, id, Some(&request_id)).await? {
            Requeued::Skipped(reason) => skipped.push(json!({ "id": id, "reason": reason })),
            Requeued::Queued(task) => queued.push(json!({ "id": id, "task_id": task })),
        }
    }
    state.publish_outbox().await;
    log::info!(request_id, queued = queued.len(), skipped = skipped.len(); "Reminders were queued by hand");
    super::json(&json!({ "queued": queued, "skipped": skipped }))
}

async fn features(request: Request) -> Answer {
    request.admin()?;
    let companion = &request.state.companion;
    let mut flags: Vec<Value> =
        companion.store.feature_flags().await?.iter().map(|flag| feature(flag, companion)).collect();
    let set_by_environment = companion.settings.feature_flags.iter();
    let without_row: Vec<Value> = set_by_environment
        .filter(|(key, _)| !flags.iter().any(|flag| flag["key"] == key.as_str()))
        .map(|(key, enabled)| json!({ "key": key, "enabled": enabled, "source": "environment" }))
        .collect();
    flags.extend(without_row);
    super::json(&json!({ "features": flags }))
}

async fn set_feature(request: Request) -> Answer {
    request.admin()?;
    let companion = request.state.companion.clone();
    let request_id = request.id.clone();
    let mut fields = request.fields()?;
    let key = fields.text("key", 1, LONGEST_KEY);
    let enabled = fields.boolean("enabled");
    fields.finish()?;
    let key = key.trim().to_ascii_lowercase();
    let flag = companion.store.set_feature_flag(&key, enabled).await?;
    log::info!(request_id, key, enabled; "A feature flag was set");
    super::json(&feature(&flag, &companion))
}

/// A flag as it is in force: the environment wins over the database.
fn feature(flag: &FeatureFlag, companion: &Companion) -> Value {
    let forced = companion.settings.feature_flags.get(&flag.key);
    json!({
        "key": flag.key,
        "enabled": forced.copied().unwrap_or(flag.enabled),
        "description": flag.description,
        "updated_at": flag.updated_at.to_rfc3339(),
        "source": if forced.is_some() { "environment" } else { "database" },
    })
}
