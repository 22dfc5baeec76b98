//! Beside Python's RedBeat: entries made there, and handing over both ways.

use compat_tests::{Process, PythonCommand, PythonEnv, Signal, eventually, secs};
use redis::Commands;

use crate::stage::{Stage, text};

const APP: &str = "
from celery import Celery
from celery.schedules import schedule, crontab
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule
import os
app = Celery('proj', broker=os.environ['BROKER'])
app.conf.redbeat_redis_url = os.environ['BROKER']
";

fn script(stage: &Stage, code: &str) {
    let code = format!("{APP}{code}");
    PythonEnv::get().script(&code).env("BROKER", stage.server.url()).deadline(secs(60)).run().success();
}

fn python_beat(stage: &Stage) -> Process {
    stage.write("proj.py", APP);
    let command: PythonCommand = PythonEnv::get().celery([
        "-A",
        "proj",
        "beat",
        "-S",
        "redbeat.RedBeatScheduler",
        "--max-interval",
        "2",
        "-l",
        "INFO",
    ]);
    command.env("BROKER", stage.server.url()).current_dir(stage.folder.path()).spawn()
}

fn count(stage: &Stage, name: &str) -> u64 {
    let meta: Option<String> = stage.server.connection().hget(format!("redbeat:{name}"), "meta").unwrap();
    let meta: serde_json::Value = meta.map(|meta| serde_json::from_str(&meta).unwrap()).unwrap_or_default();
    meta["total_run_count"].as_u64().unwrap_or(0)
}

#[test]
fn entries_made_with_redbeat_run_here_and_change_as_programs_change_them() {
    let stage = Stage::new();
    let mut beat = stage.beat(&[]);
    beat.wait_for_line("this beat sends", secs(20));
    script(
        &stage,
        "
RedBeatSchedulerEntry('py', 'proj.py', schedule(1), args=[1], options={'queue': 'py', 'priority': 3}, app=app).save()
RedBeatSchedulerEntry('rule', 'proj.rule', rrule('SECONDLY', interval=2), options={'queue': 'rule'}, app=app).save()
RedBeatSchedulerEntry('blank', 'proj.blank', crontab(minute='0, 30'), options={'queue': 'blank'}, app=app).save()
RedBeatSchedulerEntry('slow', 'proj.slow', schedule(3600), options={'queue': 'slow'}, app=app).save()
",
    );
    beat.wait_for_lines("Sending due task py", 2, secs(20));
    beat.wait_for_lines("Sending due task rule", 2, secs(20));
    assert_eq!(stage.messages("py\u{6}\u{16}3")[0]["headers"]["celery_beat_task"], true);
    script(
        &stage,
        "
entry = RedBeatSchedulerEntry.from_key('redbeat:slow', app=app)
entry.schedule = schedule(1)
entry.save()
entry = RedBeatSchedulerEntry.from_key('redbeat:py', app=app)
entry.enabled = False
entry.save()
",
    );
    beat.wait_for_lines("Sending due task slow", 2, secs(20));
    let before = beat.lines_with("Sending due task py").len();
    let slow = beat.lines_with("Sending due task slow").len();
    beat.wait_for_lines("Sending due task slow", slow + 2, secs(20));
    assert!(beat.lines_with("Sending due task py").len() <= before + 1);
    script(&stage, "RedBeatSchedulerEntry.from_key('redbeat:slow', app=app).delete()");
    eventually("slow is gone", secs(20), || !stage.says(&["list"]).contains("slow"));
    assert!(stage.says(&["list"]).contains("blank"));
}

#[test]
fn python_and_ours_hand_over_to_each_other_and_the_count_goes_on() {
    let stage = Stage::new();
    script(
        &stage,
        "RedBeatSchedulerEntry('py', 'proj.py', schedule(1), options={'queue': 'py'}, app=app).save()",
    );
    let mut ours = stage.beat(&[]);
    ours.wait_for_lines("Sending due task py", 2, secs(20));
    let mut python = python_beat(&stage);
    python.wait_for_line("beat: Starting|beat: Acquiring lock", secs(30));
    ours.signal(Signal::SIGTERM);
    assert!(ours.wait(secs(10)).success());
    let taken = count(&stage, "py");
    python.wait_for_lines("Sending due task py", 2, secs(30));
    assert!(count(&stage, "py") > taken);
    let mut ours = stage.beat(&[]);
    ours.wait_for_line("standing by", secs(20));
    python.signal(Signal::SIGTERM);
    python.wait(secs(20));
    ours.wait_for_lines("Sending due task py", 2, secs(20));
    assert!(ours.terminate(secs(10)).success());
    let ids: Vec<String> =
        stage.messages("py").iter().map(|message| message["headers"]["id"].to_string()).collect();
    let distinct: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(count(&stage, "py"), ids.len() as u64);
}

#[test]
fn a_redbeat_of_another_configuration_does_not_silence_ours() {
    let stage = Stage::new();
    let file = stage.write("ours.toml", "[beat_schedule.ours]\ntask = 'proj.ours'\nschedule = 1\n");
    let mut ours = stage.beat(&["--entries", text(&file)]);
    ours.wait_for_line("Sending due task ours", secs(20));
    let code =
        format!("{APP}\napp.conf.beat_schedule = {{'theirs': {{'task': 'proj.theirs', 'schedule': 1.0}}}}\n");
    stage.write("other.py", &code);
    let python = PythonEnv::get()
        .celery([
            "-A",
            "other",
            "beat",
            "-S",
            "redbeat.RedBeatScheduler",
            "--max-interval",
            "2",
            "-l",
            "INFO",
        ])
        .env("BROKER", stage.server.url())
        .current_dir(stage.folder.path())
        .spawn();
    ours.wait_for_line(
        "1 configured entries have vanished from the schedule and are written anew: ours",
        secs(30),
    );
    ours.wait_for_line(
        "a beat of another configuration uses the prefix .* theirs is not configured here",
        secs(30),
    );
    let before = ours.lines_with("Sending due task ours").len();
    ours.wait_for_lines("Sending due task ours", before + 2, secs(20));
    drop(python);
}
