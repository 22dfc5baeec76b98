//! The figures of a day: who signed up, who came back, who was active.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};

use crate::{
    Companion,
    store::{DailyMetrics, StoreError},
};

/// Computes and keeps the metrics of a day (UTC), and returns them. May be repeated.
///
/// The cohort of a day are those who signed up on it. Since their return is only known days later, the rows of the day
/// before and of seven days before are computed again as well, where they exist.
///
/// # Errors
/// When the database is not available.
pub async fn compute_daily_metrics(
    companion: &Companion,
    date: NaiveDate,
) -> Result<DailyMetrics, StoreError> {
    for days in [7, 1] {
        let earlier = date - Days::new(days);
        if companion.store.daily_metrics(earlier).await?.is_some() {
            compute(companion, earlier).await?;
        }
    }
    compute(companion, date).await
}

async fn compute(companion: &Companion, date: NaiveDate) -> Result<DailyMetrics, StoreError> {
    let store = &companion.store;
    let today = Utc::now().date_naive();
    let after = |days| date + Days::new(days);
    let cohort_size = store.cohort_size(span(date)).await?;
    let retained_day1 = store.retained(span(date), span(after(1))).await?;
    let retained_day7 = store.retained(span(date), span(after(7))).await?;
    let rate = |retained: i64, day: NaiveDate| {
        (cohort_size > 0 && day < today).then(|| retained as f64 / cohort_size as f64)
    };
    let metrics = DailyMetrics {
        metrics_date: date,
        cohort_size: saturated(cohort_size),
        retained_day1: saturated(retained_day1),
        retained_day7: saturated(retained_day7),
        active_users: saturated(store.active_users(span(date)).await?),
        retention_rate_day1: rate(retained_day1, after(1)),
        retention_rate_day7: rate(retained_day7, after(7)),
    };
    store.upsert_daily_metrics(&metrics).await?;
    Ok(metrics)
}

fn span(date: NaiveDate) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = date.and_time(NaiveTime::MIN).and_utc();
    (start, start + Days::new(1))
}

fn saturated(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
