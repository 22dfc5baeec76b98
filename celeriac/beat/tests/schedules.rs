//! Schedules against what Celery 5.7 computes: the golden samples, and those of `vectors/capture.py`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use celeriac::Timezone;
use celeriac_beat::schedule::{CronField, Crontab, Interval, Schedule, Terms};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

#[test]
fn crontab_fields_are_read_as_celery_reads_them() {
    for case in cases(include_str!("../../../compat-tests/vectors/beat/crontab_parser.json")) {
        let (count, low) = (case[0].as_u64().unwrap() as u32, case[1].as_u64().unwrap() as u32);
        let parsed = CronField::parse(&case[2], low..=low + count - 1);
        match case[4].as_str() {
            None => assert_eq!(json!(parsed.unwrap().numbers()), case[3], "{case}"),
            Some(error) => {
                let (_, message) = error.split_once(": ").unwrap();
                assert_eq!(parsed.unwrap_err().to_string().replace('"', "'"), message, "{case}");
            }
        }
    }
}

#[test]
fn crontabs_run_next_when_celery_says() {
    for case in cases(include_str!("../../../compat-tests/vectors/beat/crontab_next.json")) {
        let zone: Timezone = case["timezone"].as_str().unwrap().parse().unwrap();
        let crontab = crontab(&case["crontab"]);
        let mut last = time(&case["last_run_at"]);
        for next in case["next_runs"].as_array().unwrap() {
            let run = crontab.next_after(last, zone);
            assert_eq!(run, time(&next[0]), "{case}");
            assert_eq!((run - last).as_seconds_f64(), next[1].as_f64().unwrap(), "{case}");
            last = run;
        }
    }
}

#[test]
fn schedules_are_due_when_celery_says() {
    for case in cases(include_str!("../../../compat-tests/vectors/beat/is_due.json")) {
        let now = time(&case["now"]);
        let (schedule, last) = if case["every"].is_null() {
            let last = format!("{}+00:00", case["last_run_at"].as_str().unwrap());
            (Schedule::Crontab(Box::new(crontab(&case["crontab"]))), time(&json!(last)))
        } else {
            let ago = TimeDelta::microseconds((case["last_run_seconds_ago"].as_f64().unwrap() * 1e6) as i64);
            (interval(&case), now - ago)
        };
        assert_state(&schedule, last, now, &Terms::default(), &case);
    }
}

#[test]
fn relative_intervals_are_rounded_as_celery_rounds_them_also_when_clocks_change() {
    for case in cases(include_str!("vectors/relative.json")) {
        let terms =
            Terms { timezone: case["timezone"].as_str().unwrap().parse().unwrap(), ..Terms::default() };
        let every = seconds(&case["every"]);
        let schedule = Schedule::Interval(Interval { every, relative: true });
        assert_state(&schedule, time(&case["last_run_at"]), time(&case["now"]), &terms, &case);
    }
}

#[test]
fn crontab_runs_missed_for_longer_than_the_deadline_are_skipped() {
    for case in cases(include_str!("vectors/deadline.json")) {
        let schedule = Schedule::Crontab(Box::new(crontab(&case)));
        let terms = Terms { cron_starting_deadline: Some(seconds(&case["deadline"])), ..Terms::default() };
        assert_state(&schedule, time(&case["last_run_at"]), time(&case["now"]), &terms, &case);
    }
}

#[test]
fn solar_events_are_within_seconds_of_those_of_ephem() {
    for case in cases(include_str!("vectors/solar.json")) {
        let schedule = Schedule::from_json(&case).unwrap();
        let Schedule::Solar(solar) = schedule else { panic!("{case}") };
        let ours = solar.next_after(time(&case["last_run_at"]));
        let apart = (ours - time(&case["next"])).as_seconds_f64().abs();
        // Where the sun passes the horizon at a narrow angle, a little height is much time.
        let allowed = match case["lat"].as_f64().unwrap().abs() {
            latitude if latitude > 60.0 => 120.0,
            latitude if latitude > 50.0 => 60.0,
            _ => 10.0,
        };
        assert!(apart < allowed, "{ours} is {apart} s off: {case}");
    }
}

#[test]
fn a_last_run_in_the_repeated_hour_of_autumn_does_not_run_again_and_again() {
    let zone = "Europe/Warsaw".parse::<Timezone>().unwrap();
    let quarters = Crontab::from_text("*/15 * * * *").unwrap();
    let second_two_twenty = time(&json!("2026-10-25T02:20:00+01:00"));
    assert_eq!(quarters.next_after(second_two_twenty, zone), time(&json!("2026-10-25T03:00:00+01:00")));
}

#[test]
fn impossible_dates_and_wrong_fields_are_refused() {
    for (text, part) in [
        ("0 0 30 2 *", "no month of"),
        ("0 0 31 4,6 *", "no month of"),
        ("60 * * * *", "field minute: Invalid end range: 60 > 59."),
        ("* * * * 7", "field day_of_week: Invalid end range: 7 > 6."),
        ("* * *", "five fields"),
    ] {
        let error = Crontab::from_text(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(Crontab::from_text("0 0 29 2 *").is_ok());
    for value in
        [json!(0), json!(-5), json!({"every": "x"}), json!({"__type__": "rrule"}), json!(null), json!({})]
    {
        assert!(Schedule::from_json(&value).is_err(), "{value}");
    }
    for value in
        [json!({"event": "noon", "lat": 0, "lon": 0}), json!({"event": "sunset", "lat": 91, "lon": 0})]
    {
        assert!(Schedule::from_json(&value).is_err(), "{value}");
    }
}

#[test]
fn schedules_survive_json() {
    for value in [
        json!({"__type__": "interval", "every": 90.5, "relative": true}),
        json!({"__type__": "crontab", "minute": "*/5", "hour": [1, 2], "day_of_week": "mon-fri", "day_of_month": 1,
               "month_of_year": "*"}),
        json!({"__type__": "solar", "event": "sunset", "lat": 52.23, "lon": 21.01}),
    ] {
        assert_eq!(Schedule::from_json(&value).unwrap().to_json(), value);
    }
    assert_eq!(Schedule::from_json(&json!(60)).unwrap(), Schedule::every(Duration::from_secs(60)));
    assert_eq!(
        Schedule::from_json(&json!("0 1 * * *")).unwrap().to_json(),
        json!({"__type__": "crontab", "minute": "0", "hour": "1", "day_of_week": "*", "day_of_month": "*",
               "month_of_year": "*"})
    );
}

fn assert_state(schedule: &Schedule, last: DateTime<Utc>, now: DateTime<Utc>, terms: &Terms, case: &Value) {
    let state = schedule.is_due(last, now, terms);
    assert_eq!(state.is_due, case["is_due"].as_bool().unwrap(), "{state:?}: {case}");
    let apart = (state.next.as_seconds_f64() - case["next"].as_f64().unwrap()).abs();
    assert!(apart < 1e-5, "{state:?}: {case}");
}

fn cases(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn crontab(fields: &Value) -> Crontab {
    let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let [minute, hour, weekday, day, month] =
        ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"].map(field);
    Crontab::new(minute, hour, weekday, day, month).unwrap()
}

fn interval(case: &Value) -> Schedule {
    Schedule::Interval(Interval {
        every: seconds(&case["every"]),
        relative: case["relative"].as_bool().unwrap(),
    })
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap())
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}
