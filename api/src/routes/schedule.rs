//! `/admin/schedule`: the entries of beat, and what an operator may do with them.

use serde_json::json;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{Answer, handled};
use crate::{error::ApiError, request::Request, state::State};

const LONGEST_NAME: usize = 200;

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("admin" / "schedule").boxed();
    let get = path().and(super::get()).boxed();
    let post = path().and(warp::post()).boxed();
    handled(get, state, list).or(handled(post, state, act)).unify().boxed()
}

async fn list(request: Request) -> Answer {
    request.admin()?;
    super::json(&json!({ "entries": request.state.celery.schedule().await? }))
}

/// Sends an entry now, or switches it off or on.
async fn act(request: Request) -> Answer {
    request.admin()?;
    let (state, request_id) = (request.state.clone(), request.id.clone());
    let mut fields = request.fields()?;
    let entry = fields.text("entry", 1, LONGEST_NAME);
    let action = fields.choice("action", &["run", "pause", "resume"]);
    fields.finish()?;
    let done = match action {
        "run" => state.celery.run_entry(&entry).await?.map(|id| json!({ "entry": entry, "task_id": id })),
        action => {
            let enabled = action == "resume";
            let is_there = state.celery.switch_entry(&entry, enabled).await?;
            is_there.then(|| json!({ "entry": entry, "enabled": enabled }))
        }
    };
    let Some(done) = done else { return Err(ApiError::NotFound(format!("no entry {entry:?}"))) };
    log::info!(request_id, entry = entry.as_str(); "An entry of the schedule was changed or sent by hand");
    super::json(&done)
}
