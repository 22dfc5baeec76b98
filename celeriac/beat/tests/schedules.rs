//! Schedules against what Celery 5.7 computes: the golden samples, and those of `vectors/capture.py`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use celeriac::Timezone;
use celeriac_beat::schedule::{CronField, Crontab, Interval, Schedule, Terms};
use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};
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
            if run < time(&next[0]) {
                // Celery passes over the second one of two hours of the same name.
                let offset = |time: DateTime<Utc>| zone.offset_from_utc_datetime(&time.naive_utc()).fix();
                let [before, after] = [offset(last - TimeDelta::hours(3)), offset(run)];
                assert!(after.local_minus_utc() < before.local_minus_utc(), "{case}");
                break;
            }
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
        let value = json!({"event": case["event"], "lat": case["lat"], "lon": case["lon"]});
        let schedule = Schedule::from_json(&value).unwrap();
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
    assert_eq!(quarters.next_after(second_two_twenty, zone), time(&json!("2026-10-25T02:30:00+01:00")));
    let daily = Crontab::from_text("10 2 * * *").unwrap();
    assert_eq!(daily.next_after(second_two_twenty, zone), time(&json!("2026-10-26T02:10:00+01:00")));
}

#[test]
fn what_runs_every_minute_or_hour_runs_through_the_repeated_hour_and_what_runs_at_a_time_runs_once() {
    for (zone, text, from, to, runs) in [
        ("Europe/Paris", "* * * * *", "2020-10-25T01:59:30+02:00", "2020-10-25T03:00:00+01:00", 121),
        ("US/Pacific", "0 * * * *", "2026-11-01T00:30:00-07:00", "2026-11-01T02:30:00-08:00", 3),
        ("Australia/Lord_Howe", "*/10 * * * *", "2026-04-05T01:25:00+11:00", "2026-04-05T02:00:00+10:30", 7),
        ("Europe/Berlin", "* 2 * * *", "2026-10-25T01:59:00+02:00", "2026-10-25T04:00:00+01:00", 120),
        ("Europe/Berlin", "20 2 * * *", "2026-10-25T01:59:00+02:00", "2026-10-25T04:00:00+01:00", 1),
        ("Europe/Berlin", "*/30 2 * * *", "2026-10-25T01:59:00+02:00", "2026-10-25T04:00:00+01:00", 2),
        ("Antarctica/Troll", "0 * * * *", "2026-10-25T00:30:00+02:00", "2026-10-25T04:00:00+00:00", 6),
    ] {
        let (zone, crontab) = (zone.parse::<Timezone>().unwrap(), Crontab::from_text(text).unwrap());
        let (from, to) = (time(&json!(from)), time(&json!(to)));
        let all = std::iter::successors(Some(from), |last| Some(crontab.next_after(*last, zone)));
        let found: Vec<_> = all.skip(1).take_while(|run| *run <= to).collect();
        assert_eq!(found.len(), runs, "{text} in {}: {found:?}", zone.name());
    }
}

#[test]
fn blanks_beside_numbers_are_passed_over_as_in_python() {
    for (spec, numbers) in [("0, 30", vec![0, 30]), (" 1", vec![1]), ("1 ", vec![1]), ("5,\t6\n", vec![5, 6])]
    {
        let field = CronField::parse(&json!(spec), 0..=59).unwrap();
        assert_eq!(field.numbers().iter().copied().collect::<Vec<u32>>(), numbers, "{spec:?}");
    }
    for spec in ["* ", " 1-5", "1 -5", " mon", "", " "] {
        assert!(CronField::parse(&json!(spec), 0..=59).is_err(), "{spec:?}");
    }
}

#[test]
fn the_sun_rises_and_sets_once_a_year_at_the_poles() {
    for (event, lat, last, month) in [
        ("sunset", 90.0, "2012-01-20T00:00:00Z", "2012-09"),
        ("sunrise", 90.0, "2012-01-20T00:00:00Z", "2012-03"),
        ("dawn_astronomical", 90.0, "2024-07-24T00:00:00Z", "2025-01"),
        ("dawn_civil", -90.0, "2024-01-01T00:00:00Z", "2024-09"),
        ("sunset", -90.0, "2024-01-01T00:00:00Z", "2024-03"),
    ] {
        let schedule = Schedule::from_json(&json!({"event": event, "lat": lat, "lon": 12.0})).unwrap();
        let next = schedule.next_after(time(&json!(last)), Timezone::UTC).unwrap();
        assert!(next.to_rfc3339().starts_with(month), "{event} at {lat}: {next}");
    }
}

#[test]
fn periods_are_heeded_and_unknown_keys_are_refused() {
    let minutes = Schedule::from_json(&json!({"every": 5, "period": "minutes"})).unwrap();
    assert_eq!(minutes, Schedule::every(Duration::from_secs(300)));
    for (value, part) in [
        (json!({"every": 5, "period": "fortnights"}), "period \"fortnights\" is not one of"),
        (json!({"every": 5, "unit": "minutes"}), "unknown key \"unit\""),
        (json!({"minute": 5, "day": 1}), "unknown key \"day\""),
        (json!({"clocked": "soon"}), "clocked \"soon\" is not a time"),
        (json!({"rrule": "FREQ=OFTEN", "dtstart": "2026-01-01"}), "rrule"),
        (json!("RRULE:FREQ=DAILY"), "the start is missing"),
    ] {
        let error = Schedule::from_json(&value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn recurrence_rules_and_clocked_schedules_run_when_they_say() {
    let next = |value: Value, last: &str| {
        let schedule = Schedule::from_json(&value).unwrap();
        schedule.next_after(time(&json!(last)), Timezone::UTC).map(|next| next.to_rfc3339())
    };
    let clocked = json!({"clocked": "2026-12-24T18:00:00+01:00"});
    assert_eq!(next(clocked.clone(), "2026-12-24T16:00:00Z").as_deref(), Some("2026-12-24T17:00:00+00:00"));
    assert_eq!(next(clocked, "2026-12-24T17:00:00Z"), None);
    let text = json!("DTSTART;TZID=Europe/Warsaw:20260328T090000\nRRULE:FREQ=DAILY;COUNT=3");
    assert_eq!(next(text.clone(), "2026-03-28T12:00:00Z").as_deref(), Some("2026-03-29T07:00:00+00:00"));
    assert_eq!(next(text, "2026-03-30T12:00:00Z"), None);
    let start = time(&json!("2020-01-01T00:00:00Z")).timestamp();
    let secondly = json!({"__type__": "rrule", "freq": 6, "dtstart": start, "dtstart_tz": 0, "interval": 7, "wkst": null,
                          "count": null, "byweekday": null});
    // 7 s steps from the start: six years later at the same phase.
    let last = time(&json!("2026-05-01T10:00:00Z"));
    let expected = start + ((last.timestamp() - start) / 7 + 1) * 7;
    let found = Schedule::from_json(&secondly).unwrap().next_after(last, Timezone::UTC).unwrap();
    assert_eq!(found.timestamp(), expected);
    let weekly = json!({"__type__": "rrule", "freq": 2, "dtstart": start, "dtstart_tz": 330.0, "interval": 1,
                        "byweekday": [{"__type__": "weekday", "wkday": 0}, 4], "byhour": 9, "byminute": [30], "bysecond": 0});
    // Monday and Friday at 09:30, five and a half hours ahead of UTC.
    assert_eq!(next(weekly.clone(), "2026-05-01T10:00:00Z").as_deref(), Some("2026-05-04T04:00:00+00:00"));
    assert_eq!(next(weekly, "2026-05-04T04:00:00Z").as_deref(), Some("2026-05-08T04:00:00+00:00"));
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
        json!({"__type__": "clocked", "clocked": "2026-12-24T17:00:00+00:00"}),
        json!({"rrule": "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;COUNT=3"}),
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
    let apart = (state.next.unwrap().as_seconds_f64() - case["next"].as_f64().unwrap()).abs();
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
