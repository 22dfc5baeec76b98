//! Random schedules against what Celery itself computes for them.
//!
//! `ORACLE_CASES` (2,000; the long form is 20,000) and `ORACLE_SEED` choose the cases; the seed is printed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac::Timezone;
use celeriac_beat::schedule::{Crontab, Interval, Schedule, Terms};
use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};
use compat_tests::PythonEnv;
use serde_json::{Value, json};

#[test]
fn random_schedules_run_when_celery_says() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = given("ORACLE_CASES").unwrap_or(2000);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = given("ORACLE_SEED").unwrap_or(now);
    println!("ORACLE_SEED={seed} ORACLE_CASES={cases}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle.py");
    let output = PythonEnv::get()
        .python([script, &seed.to_string(), &cases.to_string()])
        // The time zones of the pinned package, which are of the year of those that are built in here.
        .env("PYTHONTZPATH", "")
        .deadline(Duration::from_secs(1200))
        .run()
        .success();
    let (mut compared, mut apart) = (0_u64, 0_u64);
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let case: Value = serde_json::from_str(line).unwrap();
        match case["kind"].as_str().unwrap() {
            "solar" => solar(&case),
            "interval" => interval(&case),
            _ if is_put_back(&case, "last") || is_put_back(&case, "now") => apart += 1,
            _ => crontab(&case),
        }
        compared += 1;
    }
    assert_eq!(compared, cases);
    // Where clocks are put back, beat goes another way than Celery, which `docs/beat.md` says.
    println!("{compared} cases, {apart} of them where a clock is put back");
    assert!(apart * 4 < compared, "{apart} of {compared}");
}

fn crontab(case: &Value) {
    let field = |name: &str| &case["fields"][name];
    let [minute, hour, weekday, day, month] =
        ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"].map(field);
    match Crontab::new(minute, hour, weekday, day, month) {
        Ok(made) => compare(&Schedule::Crontab(Box::new(made)), case),
        Err(error) => assert!(case.get("error").is_some(), "{error}: {case}"),
    }
}

fn interval(case: &Value) {
    let every = Duration::from_secs_f64(case["every"].as_f64().unwrap());
    compare(&Schedule::Interval(Interval { every, relative: case["relative"].as_bool().unwrap() }), case);
}

fn compare(schedule: &Schedule, case: &Value) {
    assert!(case.get("error").is_none(), "Celery refuses it: {case}");
    let terms = Terms { timezone: zone(case), ..Terms::default() };
    let state = schedule.is_due(time(case, "last"), time(case, "now"), &terms);
    assert_eq!(json!(state.is_due), case["is_due"], "{state:?}: {case}");
    let apart = state.next.unwrap().as_seconds_f64() - case["next"].as_f64().unwrap();
    assert!(apart.abs() < 1e-3, "{state:?}: {case}");
}

fn solar(case: &Value) {
    let schedule =
        Schedule::from_json(&json!({"event": case["event"], "lat": case["lat"], "lon": case["lon"]}))
            .unwrap();
    let next = schedule.next_after(time(case, "last"), Timezone::UTC).unwrap();
    let apart = (next - time(case, "next")).as_seconds_f64().abs();
    let allowed = if case["lat"].as_f64().unwrap().abs() > 50.0 { 60.0 } else { 10.0 };
    // An event just before or after the last run is this one for the one, the next one for the other.
    let is_other = (time(case, "next") - time(case, "last")).as_seconds_f64() < allowed
        || (next - time(case, "last")).as_seconds_f64() < allowed;
    assert!(apart < allowed || is_other, "{apart} s apart: {case}");
}

/// Whether the clock is put back within hours of a time of the case.
fn is_put_back(case: &Value, name: &str) -> bool {
    let (zone, at) = (zone(case), time(case, name).naive_utc());
    let offset =
        |hours| zone.offset_from_utc_datetime(&(at + TimeDelta::hours(hours))).fix().local_minus_utc();
    (-4..4).any(|hour| offset(hour + 1) < offset(hour))
}

fn zone(case: &Value) -> Timezone {
    case["timezone"].as_str().unwrap().parse().unwrap()
}

fn time(case: &Value, name: &str) -> DateTime<Utc> {
    case[name].as_str().unwrap().parse().unwrap()
}
