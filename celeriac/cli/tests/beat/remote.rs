//! Remote control and events of beat, as Python's Celery sees them.

use compat_tests::{Finished, Process, PythonEnv, RedisServer, secs};

use crate::stage::{Stage, text};

const TICK: &str = "[beat_schedule.tick]\ntask = 'proj.tick'\nschedule = 1\noptions = { queue = 'ticks' }\n";

fn inspect(stage: &Stage, arguments: &[&str]) -> Finished {
    let url = stage.server.url();
    let python = PythonEnv::get();
    python.celery([&["-b", &url, "inspect", "-t", "3"], arguments].concat()).deadline(secs(60)).run()
}

fn beat(stage: &Stage, arguments: &[&str], settings: &[(&str, &str)]) -> Process {
    let file = stage.write("schedule.toml", TICK);
    let mut command = stage.command(&[&["--entries", text(&file)], arguments].concat());
    command.envs(settings.iter().copied());
    let mut beat = Process::spawn("celeriac beat", &command);
    beat.wait_for_line("Sending due task tick", secs(20));
    beat
}

#[test]
fn beat_answers_pings_and_nothing_else_and_is_silent_while_it_stalls() {
    let stage = Stage::new();
    let schedule = RedisServer::start();
    let url = schedule.url();
    let settings = [
        ("CELERY_BEAT_ENABLE_REMOTE_CONTROL", "true"),
        ("CELERY_BEAT_REMOTE_CONTROL_MAX_TICK_AGE", "3"),
        ("CELERY_REDBEAT_REDIS_URL", url.as_str()),
    ];
    let mut answering = beat(&stage, &["-n", "%h"], &settings);
    let answer = inspect(&stage, &["ping"]).success();
    assert!(answer.contains("celerybeat@") && answer.contains("pong"), "{answer}");
    let host = answer.split("celerybeat@").nth(1).unwrap().split(':').next().unwrap().to_owned();
    let node = format!("celerybeat@{host}");
    assert!(inspect(&stage, &["ping", "-d", &node]).success().contains("pong"));
    inspect(&stage, &["ping", "-d", "celery@elsewhere"]).failure();
    // As Celery's beat: an error would stand among the answers of workers.
    inspect(&stage, &["active"]).failure();

    schedule.pause();
    answering.wait_for_line("another|trying again|cannot|lost", secs(30));
    compat_tests::eventually("a stalled beat is silent", secs(30), || {
        inspect(&stage, &["ping"]);
        !answering.lines_with("A ping is not answered: the scheduler has not ticked for").is_empty()
    });
    inspect(&stage, &["ping"]).failure();
    schedule.resume();
    compat_tests::eventually("it answers again", secs(30), || {
        answering.lines_with("can be reached again").len() + answering.lines_with("this beat sends").len()
            >= 2
    });
    assert!(inspect(&stage, &["ping"]).success().contains("pong"));
    assert!(answering.terminate(secs(10)).success());

    // The option overrides the setting, both ways.
    let quiet = beat(&stage, &["--no-enable-remote-control"], &settings[..1]);
    inspect(&stage, &["ping"]).failure();
    drop(quiet);
    let _asked = beat(&stage, &["--enable-remote-control", "-n", "main@x"], &[]);
    assert!(inspect(&stage, &["ping"]).success().contains("main@x"));
}

#[test]
fn each_run_is_an_event_if_the_settings_ask_for_it() {
    let stage = Stage::new();
    let _beat = beat(&stage, &[], &[("CELERY_TASK_SEND_SENT_EVENT", "true")]);
    let code = "
import os
from celery import Celery
app = Celery(broker=os.environ['BROKER'])
seen = []
def sent(event):
    seen.append(event)
    if len(seen) == 2:
        raise SystemExit
with app.connection() as connection:
    receiver = app.events.Receiver(connection, handlers={'task-sent': sent})
    try:
        receiver.capture(limit=None, timeout=30)
    except SystemExit:
        pass
print(len({event['uuid'] for event in seen}), seen[0]['name'], seen[0]['queue'])
";
    let told =
        PythonEnv::get().script(code).env("BROKER", stage.server.url()).deadline(secs(60)).run().success();
    assert_eq!(told.trim(), "2 proj.tick ticks");
}
