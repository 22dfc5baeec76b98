use companion::{
    reminders::{self, Canceled},
    store::{Reminder, ReminderPart, ReminderStatus},
};
use serde_json::{Value, json};
use warp::{Filter, filters::BoxedFilter, http::HeaderValue, reply::Response};

use super::Answer;
use crate::{
    error::ApiError,
    request::Request,
    state::State,
    validate::{Query, path_id},
};

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let list = warp::path!("reminders")
        .and(super::get())
        .and(warp::query::<Vec<(String, String)>>())
        .and(crate::request::request(state))
        .then(|query: Vec<(String, String)>, request: Request| {
            super::answered(request, move |request| list(request, query))
        })
        .boxed();
    let cancel = warp::path!("reminders" / String / "cancel")
        .and(warp::post())
        .and(crate::request::request(state))
        .then(|id: String, request: Request| super::answered(request, move |request| cancel(request, id)))
        .boxed();
    list.or(cancel).unify().boxed()
}

/// Most reminders in one answer, and as many as there are without `limit`.
const MOST: i64 = 1000;

/// Answers with a list, newest first, as clients have always known it. Its headers tell how many reminders there are, and
/// the cursor with which the list goes on.
async fn list(request: Request, query: Vec<(String, String)>) -> Answer {
    let user = request.user().await?;
    let companion = &request.state.companion;
    let mut query = Query::new(query);
    let limit = query.number("limit", 1, MOST).unwrap_or(MOST);
    let after = query.id("cursor");
    let status = query.one_of("status", ReminderStatus::ALL, ReminderStatus::name);
    query.finish()?;
    let part = ReminderPart { limit, after, status };
    let page = reminders::list(companion, &user, &part).await?;
    let zone = companion.settings.tz;
    let is_reachable = companion.reaches(&user);
    let row = |reminder: &Reminder| {
        let mut row = view(reminder, zone);
        if !is_reachable && reminder.status == ReminderStatus::Scheduled {
            row["warning"] = json!(companion::notify::UNREACHABLE);
        }
        row
    };
    let mut response = super::tagged_json(&page.reminders.iter().map(row).collect::<Vec<_>>())?;
    response.headers_mut().insert("x-total-count", page.total.into());
    if let Some(next) = page.next {
        let next = HeaderValue::from_str(&next.to_string())
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        response.headers_mut().insert("x-next-cursor", next);
    }
    Ok(response)
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
        Canceled::BeingSent => {
            super::json(&json!({ "status": "noop", "message": "Reminder is being sent." }))
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
