//! The figures of a day.

use celeriac::prelude::*;
use chrono::{Days, NaiveDate, Utc};
use companion::Companion;

/// Computes the metrics of a day, yesterday's by default.
#[celeriac::task(name = "app.tasks.analytics.compute_daily_metrics", acks_late)]
pub(crate) async fn compute_daily_metrics(
    ctx: Context,
    companion: State<Companion>,
    target_date_iso: Option<String>,
) -> TaskResult<Value> {
    let date = match &target_date_iso {
        Some(text) => text.parse::<NaiveDate>().map_err(|_| {
            TaskError::builtin(
                "ValueError",
                format!("target_date_iso is {text:?}, expected a date such as 2026-01-31"),
            )
        })?,
        None => Utc::now().date_naive() - Days::new(1),
    };
    let metrics = companion::analytics::compute_daily_metrics(&companion, date)
        .await
        .retry(ctx.retry().countdown(60).max_retries(60))?;
    Ok(celeriac::value!({
        "metrics_date": metrics.metrics_date.to_string(),
        "cohort_size": metrics.cohort_size,
        "retained_day1": metrics.retained_day1,
        "retained_day7": metrics.retained_day7,
        "active_users": metrics.active_users,
    }))
}
