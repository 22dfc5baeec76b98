//! The program and its commands.

use compat_tests::{Process, Signal, eventually, http_get, secs};
use redis::Commands;
use serde_json::Value;

use crate::stage::{Stage, text};

const TICK: &str = "[beat_schedule.tick]\ntask = 'proj.tick'\nschedule = 1\noptions = { queue = 'ticks' }\n";

#[test]
fn entries_are_read_again_when_their_file_changes_and_kept_while_it_is_wrong() {
    let stage = Stage::new();
    let file = stage.write("schedule.toml", TICK);
    let mut beat = stage.beat(&["--entries", text(&file)]);
    beat.wait_for_line("Sending due task tick \\(proj.tick\\)", secs(20));
    stage.write("schedule.toml", "[beat_schedule.tick]\ntask = 'proj.tick'\nschedule = '61 * * * *'\n");
    beat.wait_for_line("cannot be read; beat goes on with the one before.*61 > 59", secs(20));
    let before = beat.lines_with("Sending due task tick").len();
    beat.wait_for_lines("Sending due task tick", before + 2, secs(20));
    stage.write("schedule.toml", &TICK.replace("tick", "tock"));
    beat.wait_for_line("Sending due task tock \\(proj.tock\\)", secs(20));
    assert!(!stage.server.connection().exists::<_, bool>("redbeat:tick").unwrap());
    beat.signal(Signal::SIGHUP);
    beat.wait_for_line("SIGHUP: the schedule is read again", secs(20));
    assert!(beat.terminate(secs(10)).success());
}

#[test]
fn a_directory_of_files_is_read_as_kubernetes_mounts_it() {
    let stage = Stage::new();
    let mount = stage.folder.path().join("mount");
    std::fs::create_dir_all(mount.join("..2026")).unwrap();
    std::fs::write(mount.join("..2026/a.toml"), TICK).unwrap();
    std::os::unix::fs::symlink("..2026", mount.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.toml", mount.join("a.toml")).unwrap();
    std::fs::write(
        mount.join("b.json"),
        r#"{"tock": {"task": "proj.tock", "schedule": {"every": 1, "period": "seconds"}}}"#,
    )
    .unwrap();
    let mut beat = stage.beat(&["--entries", text(&mount)]);
    beat.wait_for_line("Sending due task tick", secs(20));
    beat.wait_for_line("Sending due task tock", secs(20));
    // The link is changed as a whole.
    std::fs::create_dir(mount.join("..2027")).unwrap();
    std::fs::write(mount.join("..2027/a.toml"), TICK.replace("tick", "tack")).unwrap();
    std::os::unix::fs::symlink("..2027", mount.join("..new")).unwrap();
    std::fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    beat.wait_for_line("Sending due task tack", secs(20));
}

#[test]
fn operators_list_pause_resume_run_preview_and_backfill() {
    let stage = Stage::new();
    let entries = format!(
        "{TICK}\n[beat_schedule.daily]\ntask = 'proj.daily'\nschedule = '30 2 * * *'\ntimezone = 'Europe/Warsaw'\noptions = {{ queue = 'daily' }}\n"
    );
    let file = stage.write("schedule.toml", &entries);
    let mut beat = stage.beat(&["--entries", text(&file)]);
    beat.wait_for_line("Sending due task tick", secs(20));

    let listed: Value = serde_json::from_str(&stage.says(&["list", "--json"])).unwrap();
    let tick = listed.as_array().unwrap().iter().find(|entry| entry["name"] == "tick").unwrap();
    assert!(tick["total_run_count"].as_u64() >= Some(1) && tick["runs"][0]["id"].is_string(), "{tick}");
    let table = stage.says(&["list"]);
    assert!(table.lines().count() == 3 && table.contains("30 2 * * *"), "{table}");

    stage.says(&["pause", "tick"]);
    eventually("tick is paused", secs(20), || {
        let before = stage.messages("ticks").len();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        stage.messages("ticks").len() == before
    });
    assert!(stage.says(&["show", "tick"]).contains("on         no"));
    let before = stage.messages("ticks").len();
    stage.says(&["resume", "tick"]);
    eventually("tick runs again", secs(20), || stage.messages("ticks").len() > before);

    let id = stage.says(&["run", "daily"]);
    let message = stage.messages("daily").remove(0);
    assert_eq!(message["headers"]["id"].as_str(), Some(id.trim()));
    assert_eq!(message["headers"]["celery_beat_task"], true);

    let preview = stage.says(&["preview", "daily", "-c", "3", "--from", "2026-10-24T12:00:00Z"]);
    assert_eq!(
        preview.trim_end(),
        "2026-10-25 02:30:00 +02:00\n2026-10-26 02:30:00 +01:00  (the clock was put back by 60 min)\n\
         2026-10-27 02:30:00 +01:00"
    );
    let range = ["backfill", "daily", "--from", "2026-05-01", "--to", "2026-05-03T12:00:00Z"];
    assert!(stage.says(&[&range[..], &["--dry-run"]].concat()).contains("3 runs would be sent"));
    assert_eq!(stage.messages("daily").len(), 1);
    stage.says(&range);
    // A run has the same id each time, so that it is sent once.
    stage.says(&range);
    assert_eq!(stage.messages("daily").len(), 4);
    let wrong = compat_tests::run(&stage.command(&["show", "nobody"]), secs(20)).failure();
    assert!(wrong.contains("there is no entry \"nobody\""), "{wrong}");
}

#[test]
fn a_file_keeps_the_schedule_where_it_is_asked_for() {
    let stage = Stage::new();
    let entries = stage.write("schedule.toml", TICK);
    let file = stage.folder.path().join("state.json");
    let arguments = ["--entries", text(&entries), "-S", "celery.beat:PersistentScheduler", "-s", text(&file)];
    let mut beat = stage.beat(&arguments);
    beat.wait_for_line("Sending due task tick", secs(20));
    let with = |command: &'static [&'static str]| [&arguments[..], command].concat();
    assert!(stage.says(&with(&["list"])).contains("tick"));
    stage.says(&with(&["pause", "tick"]));
    eventually("tick is paused", secs(20), || stage.says(&with(&["show", "tick"])).contains("on         no"));
    assert!(beat.terminate(secs(10)).success());
    assert!(!stage.server.connection().exists::<_, bool>("redbeat::schedule").unwrap());
    let wrong = compat_tests::run(&stage.command(&["-S", "proj.Scheduler"]), secs(20)).failure();
    assert!(wrong.contains("scheduler \"proj.Scheduler\" is not known"), "{wrong}");
}

#[test]
fn the_settings_of_celerys_scheduler_choose_the_file() {
    let stage = Stage::new();
    let entries = stage.write("schedule.toml", TICK);
    let mut command = stage.command(&["--entries", text(&entries)]);
    command.env("CELERY_BEAT_SCHEDULER", "celery.beat:PersistentScheduler");
    command.env("CELERY_BEAT_SCHEDULE_FILENAME", "my-schedule").env("CELERY_BEAT_SYNC_EVERY", "3");
    let mut beat = Process::spawn("celeriac beat", &command);
    beat.wait_for_line("beat starts; schedule in my-schedule", secs(20));
    beat.wait_for_line("beat_sync_every = 3 has no effect", secs(20));
    beat.wait_for_line("Sending due task tick", secs(20));
    assert!(beat.terminate(secs(10)).success());
    let kept = std::fs::read_to_string(stage.folder.path().join("my-schedule")).unwrap();
    assert!(kept.contains("\"tick\""), "{kept}");
    assert!(!stage.server.connection().exists::<_, bool>("redbeat::schedule").unwrap());
}

#[test]
fn it_goes_on_in_the_background_under_its_pid_file() {
    let stage = Stage::new();
    let entries = stage.write("schedule.toml", TICK);
    let path = |name: &str| stage.folder.path().join(name);
    let (pidfile, log) = (path("beat.pid"), path("beat.log"));
    let arguments = ["--entries", text(&entries), "--pidfile", text(&pidfile), "-f", text(&log)];
    // One of a process that is gone is replaced.
    std::fs::write(&pidfile, "999999999\n").unwrap();
    let started = compat_tests::run(&stage.command(&[&arguments[..], &["--detach"]].concat()), secs(30));
    started.success();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    eventually("it sends", secs(20), || read(&log).contains("Sending due task tick"));
    let pid: i32 = read(&pidfile).trim().parse().unwrap();
    let second = compat_tests::run(&stage.command(&arguments), secs(20));
    assert!(second.failure().contains(&format!("belongs to process {pid}, which runs")));
    compat_tests::run(std::process::Command::new("kill").arg(pid.to_string()), secs(5)).success();
    eventually("it ends and takes its pid file away", secs(20), || !pidfile.exists());
    assert!(read(&log).contains("SIGTERM: beat ends"), "{}", read(&log));
    eventually("the lock is free", secs(10), || {
        !stage.server.connection().exists::<_, bool>("redbeat::lock").unwrap()
    });
}

#[test]
fn entries_of_any_file_may_name_a_calendar() {
    let stage = Stage::new();
    let folder = stage.folder.path().join("schedule");
    std::fs::create_dir(&folder).unwrap();
    let holidays = "holidays = ['12-24', '12-25', '12-26', '01-01']";
    let calendars = format!("[calendars]\n{holidays}\nmaintenance = ['2026-12-29']\n");
    std::fs::write(folder.join("calendars.toml"), &calendars).unwrap();
    let entry = "[beat_schedule.report]\ntask = 'proj.report'\nschedule = '0 7 * * *'\n";
    let entry = format!("{entry}exclude = ['holidays', 'maintenance', 'sun']\n");
    std::fs::write(folder.join("entries.toml"), &entry).unwrap();
    let state = stage.folder.path().join("state.json");
    let with = |command: &[&'static str]| {
        let options = ["--entries", text(&folder), "-s", text(&state)];
        compat_tests::run(&stage.command(&[&options[..], command].concat()), secs(20))
    };
    let preview = with(&["preview", "report", "-c", "5", "--from", "2026-12-23T12:00:00Z"]).success();
    let days: Vec<&str> = preview.lines().map(|line| &line[..10]).collect();
    assert_eq!(days, ["2026-12-28", "2026-12-30", "2026-12-31", "2027-01-02", "2027-01-04"]);
    // A name that no calendar has is no day either.
    std::fs::write(folder.join("calendars.toml"), calendars.replace("maintenance", "other")).unwrap();
    let wrong = with(&["list"]).failure();
    assert!(wrong.contains("entry \"report\": exclude: \"maintenance\" is no day"), "{wrong}");
}

#[test]
fn a_worker_runs_beat_with_b() {
    let stage = Stage::new();
    let schedule = r#"{"tick": {"task": "vec.add", "schedule": 1, "args": [1, 2]}}"#;
    let worker = |name: &str| {
        let mut command = std::process::Command::new(compat_tests::binary("vectors-worker"));
        command.args(["-B", "-c", "1", "-l", "INFO", "-n", name]).current_dir(stage.folder.path());
        command.env("CELERY_BROKER_URL", stage.server.url()).env("CELERY_BEAT_SCHEDULE", schedule);
        Process::spawn("vectors-worker -B", &command)
    };
    let mut one = worker("one@host");
    one.wait_for_line("Sending due task tick \\(vec.add\\)", secs(30));
    one.wait_for_line("Task vec.add.* succeeded", secs(20));
    // Any number of workers may have one: one of them sends, and another takes over.
    let mut two = worker("two@host");
    two.wait_for_line("standing by", secs(30));
    assert!(one.terminate(secs(20)).success());
    two.wait_for_line("Sending due task tick", secs(20));
    assert!(two.terminate(secs(20)).success());
    assert!(!stage.server.connection().exists::<_, bool>("redbeat::lock").unwrap(), "the lock is given back");
}

#[test]
fn probes_and_metrics_tell_how_beat_does() {
    let mut stage = Stage::new();
    let file = stage.write("schedule.toml", TICK);
    let port = compat_tests::Port::free();
    let address = format!("127.0.0.1:{}", port.number());
    let mut beat = stage.beat(&["--entries", text(&file), "--probe-address", &address]);
    beat.wait_for_line("Sending due task tick", secs(20));
    let status = |path: &str| http_get(port.number(), path).map(|(status, _)| status).unwrap_or(0);
    assert_eq!((status("/livez"), status("/readyz"), status("/nothing")), (200, 200, 404));
    let (_, metrics) = http_get(port.number(), "/metrics").unwrap();
    assert!(metrics.contains("celeriac_beat_leader 1"), "{metrics}");
    assert!(metrics.contains("celeriac_beat_runs_total{entry=\"tick\"} "), "{metrics}");
    stage.server.stop();
    eventually("it is not ready", secs(30), || status("/readyz") == 503);
    assert_eq!(status("/livez"), 200);
    stage.server.restart();
    eventually("it is ready again", secs(30), || status("/readyz") == 200);
    // One that stands still answers nothing.
    drop(beat);
}

#[test]
fn keys_move_with_redbeats_settings() {
    let stage = Stage::new();
    let file = stage.write("schedule.toml", TICK);
    let mut command = stage.command(&["--entries", text(&file)]);
    command.env("CELERY_REDBEAT_KEY_PREFIX", "my:").env("CELERY_REDBEAT_LOCK_KEY", "lck");
    let mut beat = Process::spawn("celeriac beat", &command);
    beat.wait_for_line("Sending due task tick", secs(20));
    let mut redis = stage.server.connection();
    for key in ["my:tick", "my::schedule", "my::statics", "my:lck"] {
        assert!(redis.exists::<_, bool>(key).unwrap(), "{key}");
    }
    assert!(!redis.exists::<_, bool>("redbeat:tick").unwrap());
}
