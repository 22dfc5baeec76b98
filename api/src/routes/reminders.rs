use companion::{
    reminders::{self, Canceled},
    store::Reminder,
};
use serde_json::{Value, json};
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{Answer, handled};
use crate::{error::ApiError, request::Request, state::State, validate::path_id};

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let list = handled(warp::path!("reminders").and(warp::get()).boxed(), state, list);
    let cancel = warp::path!("reminders" / String / "cancel")
        .and(warp::post())
        .and(crate::request::request(state))
        .then(|id: String, request: Request| super::answered(request, move |request| cancel(request, id)))
        .boxed();
    list.or(cancel).unify().boxed()
}

async fn list(request: Request) -> Answer {
    let user = request.user().await?;
    let companion = &request.state.companion;
    let reminders = reminders::list(companion, &user).await?;
    let zone = companion.settings.tz;
    super::json(&reminders.iter().map(|reminder| view(reminder, zone)).collect::<Vec<_>>())
}

async fn cancel(request: Request, id: String) -> Answer {
    let user = request.user().await?;
    let id = path_id("reminder_id", &id)?;
    match reminders::cancel(&request.state.companion, &user, id).await? {
        Canceled::Canceled => super::json(&json!({ "status": "canceled" })),
        Canceled::Noop(status) => {
            let message = format!("Reminder is already {}.", status.name());
            super::json(&json!({ "status": "noop", "message": message }))
        }
        Canceled::NotFound => Err(ApiError::NotFound("Reminder not found.".to_owned())),
    }
}

/// A reminder as clients see it: `run_ts` and `local_ts` in the zone of the service, the rest in UTC.
pub(super) fn view(reminder: &Reminder, zone: celeriac::Timezone) -> Value {
    let local = |at: chrono::DateTime<chrono::Utc>| at.with_timezone(&zone).to_rfc3339();
    json!({
        "id": reminder.id,
        "text": reminder.text,
        "status": reminder.status,
        "run_ts": local(reminder.run_ts),
        "local_ts": local(reminder.local_ts),
        "utc_ts": reminder.utc_ts.to_rfc3339(),
        "sent_at": reminder.sent_at.map(|at| at.to_rfc3339()),
        "calendar_event_id": reminder.calendar_event_id,
    })
}
