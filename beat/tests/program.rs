//! The program `companion-beat` against a real Redis.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashSet};
use std::process::Command;
use std::time::Instant;

use compat_tests::{Process, RedisServer, Signal, eventually, scratch_dir, secs};
use redis::Commands;
use serde_json::{Value, json};

const TICK: &str = r#"{"tick": {"task": "vec.add", "schedule": 1, "args": [1, 2],
                                "options": {"queue": "periodic", "expires": 20, "priority": 3}}}"#;

#[test]
fn due_reminders_and_daily_metrics_go_to_the_default_queue() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for (name, task) in [
        ("send-due-reminders", "app.tasks.reminders.send_due_reminders"),
        ("compute-daily-metrics", "app.tasks.analytics.compute_daily_metrics"),
    ] {
        // Never run: due at once.
        let definition = json!({"name": name, "task": task, "schedule": {"__type__": "interval", "every": 9, "relative": false}});
        redis.hset::<_, _, _, ()>(format!("redbeat:{name}"), "definition", definition.to_string()).unwrap();
        redis.hset::<_, _, _, ()>(format!("redbeat:{name}"), "meta", "{\"last_run_at\": null}").unwrap();
    }
    let mut beat = beat(&server, &[]);
    beat.wait_for_line(
        "Sending due task send-due-reminders \\(app.tasks.reminders.send_due_reminders\\)",
        secs(20),
    );
    beat.wait_for_line("Sending due task compute-daily-metrics", secs(20));
    let tasks: BTreeSet<String> =
        messages(&mut redis, "default").iter().map(|message| text(&message["headers"]["task"])).collect();
    assert_eq!(
        tasks.into_iter().collect::<Vec<_>>(),
        ["app.tasks.analytics.compute_daily_metrics", "app.tasks.reminders.send_due_reminders"]
    );
    assert_eq!(
        schedule(&mut redis, "send-due-reminders"),
        json!({"__type__": "interval", "every": 60.0, "relative": false})
    );
    assert_eq!(
        schedule(&mut redis, "compute-daily-metrics"),
        json!({"__type__": "crontab", "minute": "0", "hour": "1", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*"})
    );
    // The next runs: in a minute, and at 01:00 UTC.
    let daily: f64 = redis.zscore("redbeat::schedule", "redbeat:compute-daily-metrics").unwrap();
    assert_eq!(daily as i64 % 86_400, 3600);
}

#[test]
fn the_message_is_that_of_celerys_beat() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let _beat = beat(&server, &[("CELERY_BEAT_SCHEDULE", TICK)]);
    let queue = "periodic\u{6}\u{16}3";
    let ours = eventually("a message", secs(20), || messages(&mut redis, queue).into_iter().next());
    let sample: Value =
        serde_json::from_str(include_str!("../../compat-tests/vectors/beat/sent_message.json")).unwrap();
    let sample = &sample["messages"][0]["envelope"];
    assert_eq!(ours["body"], sample["body"]);
    for part in ["headers", "properties"] {
        let keys =
            |message: &Value| message[part].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&ours), keys(sample), "{part}");
    }
    // All that no clock and no identity is part of; Celery's beat shows arguments as a list, its clients as a tuple.
    for name in ["lang", "task", "eta", "retries", "kwargsrepr", "stamps", "celery_beat_task", "parent_id"] {
        assert_eq!(ours["headers"][name], sample["headers"][name], "{name}");
    }
    for name in ["delivery_mode", "delivery_info", "priority", "body_encoding"] {
        assert_eq!(ours["properties"][name], sample["properties"][name], "{name}");
    }
    // 20 s, less the time that sending took.
    let expiration: u32 = text(&ours["properties"]["expiration"]).parse().unwrap();
    assert!((15_000..=20_000).contains(&expiration), "{expiration}");
    assert_eq!(ours["headers"]["root_id"], ours["headers"]["id"]);
}

#[test]
fn sigterm_and_sigint_end_it_at_once_and_free_the_lock() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut beat = beat(&server, &[]);
        beat.wait_for_line("this beat sends", secs(20));
        assert!(redis.exists::<_, bool>("redbeat::lock").unwrap());
        let begin = Instant::now();
        beat.signal(signal);
        assert!(beat.wait(secs(10)).success());
        assert!(begin.elapsed() < secs(2), "{:?}", begin.elapsed());
        assert!(!redis.exists::<_, bool>("redbeat::lock").unwrap());
    }
}

#[test]
fn a_stand_by_takes_over_within_seconds_when_the_leader_is_killed() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let environment = [("CELERY_BEAT_SCHEDULE", TICK)];
    let mut first = beat(&server, &environment);
    first.wait_for_line("Sending due task tick", secs(20));
    let mut second = beat(&server, &environment);
    second.wait_for_line("standing by", secs(20));
    first.kill();
    let begin = Instant::now();
    second.wait_for_line("Sending due task tick", secs(20));
    assert!(begin.elapsed() < secs(7), "{:?}", begin.elapsed());
    let ids: Vec<String> = messages(&mut redis, "periodic\u{6}\u{16}3")
        .iter()
        .map(|message| text(&message["headers"]["id"]))
        .collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn a_beat_that_stood_still_sends_nothing_after_another_took_over() {
    let server = RedisServer::start();
    let environment = [("CELERY_BEAT_SCHEDULE", TICK)];
    let mut first = beat(&server, &environment);
    first.wait_for_line("Sending due task tick", secs(20));
    let mut second = beat(&server, &environment);
    second.wait_for_line("standing by", secs(20));
    first.signal(Signal::SIGSTOP);
    second.wait_for_line("Sending due task tick", secs(20));
    let before = first.lines_with("Sending due task").len();
    first.signal(Signal::SIGCONT);
    first.wait_for_line("standing by", secs(20));
    assert_eq!(first.lines_with("Sending due task").len(), before);
}

#[test]
fn it_goes_on_when_redis_goes_away_and_returns() {
    let mut server = RedisServer::options().append_only().start();
    let mut beat = beat(&server, &[("CELERY_BEAT_SCHEDULE", TICK)]);
    beat.wait_for_line("Sending due task tick", secs(20));
    server.kill();
    beat.wait_for_line("trying again until it works", secs(20));
    let before = beat.lines_with("Sending due task").len();
    server.restart();
    beat.wait_for_line("can be reached again", secs(20));
    beat.wait_for_lines("Sending due task tick", before + 2, secs(20));
    assert!(beat.is_running());
}

#[test]
fn it_starts_before_redis_does() {
    let mut server = RedisServer::start();
    server.stop();
    let mut beat = beat(&server, &[]);
    beat.wait_for_line("trying again until it works", secs(20));
    server.restart();
    beat.wait_for_line("this beat sends", secs(20));
}

#[test]
fn a_schedule_file_serves_without_a_schedule_in_redis() {
    let server = RedisServer::start();
    let folder = scratch_dir("beat");
    let file = folder.path().join("schedule.json");
    let mut command = command(&server, &[("CELERY_BEAT_SCHEDULE", TICK)]);
    let mut beat = Process::spawn("companion-beat", command.arg("--schedule").arg(&file));
    beat.wait_for_line("Sending due task tick", secs(20));
    assert!(beat.terminate(secs(10)).success());
    let content: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(content["entries"]["tick"]["total_run_count"].as_u64() >= Some(1));
    assert!(!server.connection().exists::<_, bool>("redbeat::schedule").unwrap());
}

#[test]
fn missing_and_wrong_settings_are_named_and_the_exit_status_says_so() {
    let server = RedisServer::start();
    for (environment, part) in [
        (vec![("APP_ENV", "production"), ("REDIS_URL", "")], "REDIS_URL"),
        (vec![("CELERY_BEAT_MAX_LOOP_INTERVAL", "soon")], "beat_max_loop_interval"),
        (
            vec![("CELERY_BEAT_SCHEDULE", r#"{"x": {"task": "t", "schedule": "61 * * * *"}}"#)],
            "Invalid end range: 61 > 59",
        ),
        (vec![("CELERY_BEAT_SCHEDULE", r#"{"x": {"schedule": 5}}"#)], "task is missing"),
    ] {
        let mut beat = beat(&server, &environment);
        assert_eq!(beat.wait(secs(20)).code(), Some(1));
        assert_eq!(beat.lines_with(part).len(), 1, "{part}: {:?}", beat.lines());
    }
}

fn beat(server: &RedisServer, environment: &[(&str, &str)]) -> Process {
    Process::spawn("companion-beat", &command(server, environment))
}

fn command(server: &RedisServer, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_companion-beat"));
    command.env_clear().env("REDIS_URL", server.url()).envs(environment.iter().copied());
    command
}

fn messages(redis: &mut redis::Connection, queue: &str) -> Vec<Value> {
    let texts: Vec<String> = redis.lrange(queue, 0, -1).unwrap();
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn schedule(redis: &mut redis::Connection, name: &str) -> Value {
    let definition: String = redis.hget(format!("redbeat:{name}"), "definition").unwrap();
    serde_json::from_str::<Value>(&definition).unwrap()["schedule"].clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
