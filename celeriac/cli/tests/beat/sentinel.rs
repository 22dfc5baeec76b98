//! Two beats on a master that Sentinels name, and its successors.

use std::collections::HashSet;
use std::process::Command;

use compat_tests::{Process, RedisServer, Sentinels, eventually, scratch_dir, secs};
use redis::Commands;
use serde_json::Value;

const ENTRIES: &str =
    "[beat_schedule.tick]\ntask = 'proj.tick'\nschedule = 1\noptions = { queue = 'ticks' }\n";

fn beat(sentinels: &Sentinels, folder: &std::path::Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
    command.env_clear().current_dir(folder).args(["-b", &sentinels.url("", 0), "beat", "-l", "INFO"]);
    command.args(["--entries", "schedule.toml"]);
    command.env("CELERY_BROKER_TRANSPORT_OPTIONS", r#"{"master_name": "mymaster"}"#);
    let mut beat = Process::spawn("celeriac beat", &command);
    beat.wait_for_line("this beat sends|standing by", secs(30));
    beat
}

fn messages(sentinels: &Sentinels) -> Vec<String> {
    let texts: Vec<String> = sentinels.master().connection().lrange("ticks", 0, -1).unwrap();
    let id = |text: &String| {
        let message: Value = serde_json::from_str(text).unwrap();
        message["headers"]["id"].as_str().unwrap().to_owned()
    };
    texts.iter().map(id).collect()
}

fn recorded(sentinels: &Sentinels) -> usize {
    let meta: String = sentinels.master().connection().hget("redbeat:tick", "meta").unwrap();
    let meta: Value = serde_json::from_str(&meta).unwrap();
    meta["total_run_count"].as_u64().unwrap_or(0) as usize
}

#[test]
fn failovers_are_followed_and_no_run_is_sent_twice() {
    let mut sentinels = Sentinels::start(&RedisServer::options(), None);
    let folder = scratch_dir("sentinel");
    std::fs::write(folder.path().join("schedule.toml"), ENTRIES).unwrap();
    let mut beats = [beat(&sentinels, folder.path()), beat(&sentinels, folder.path())];
    for failover in 0..2 {
        let before = messages(&sentinels).len();
        eventually("it sends", secs(30), || messages(&sentinels).len() > before);
        sentinels.await_replicated();
        match failover {
            0 => sentinels.kill_master(),
            _ => sentinels.switch(),
        }
        let before = messages(&sentinels).len();
        eventually("it sends to the new master", secs(60), || messages(&sentinels).len() > before + 1);
    }
    for beat in &mut beats {
        assert!(beat.is_running() && beat.terminate(secs(15)).success());
    }
    let ids = messages(&sentinels);
    assert_eq!(ids.len(), ids.iter().collect::<HashSet<_>>().len(), "a run was sent twice");
    assert_eq!(ids.len(), recorded(&sentinels), "sent and recorded");
}
