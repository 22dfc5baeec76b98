//! What every store must do, for each of them; and RedBeat's layout in the Redis one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use celeriac::broker::redis::{Endpoint, Link, Timing};
use celeriac::config::{Config, Url};
use celeriac_beat::schedule::{Schedule, Solar, SolarEvent, Terms};
use celeriac_beat::{
    Change, Configured, Entry, FileStore, Found, History, Policy, RedisOptions, RedisStore, Run,
    ScheduleStore, Settled, Standing,
};
use chrono::{DateTime, TimeDelta, Utc};
use compat_tests::{Certificates, RedisServer, eventually_async, secs};
use redis::Commands;
use serde_json::{Value, json};

/// Makes stores that share one memory, as beats of one schedule do.
trait Place {
    type Store: ScheduleStore;
    fn store(&self) -> Self::Store;
}

struct Folder(tempfile::TempDir);

impl Place for Folder {
    type Store = FileStore;
    fn store(&self) -> FileStore {
        FileStore::new(self.0.path().join("schedule.json"))
    }
}

impl Place for RedisServer {
    type Store = RedisStore;
    fn store(&self) -> RedisStore {
        RedisStore::new(link(self.url(), &Config::default()), RedisOptions::default())
    }
}

/// A server that is reached over TLS alone, by those who have a certificate of its authority.
struct OverTls(RedisServer, Certificates);

impl OverTls {
    fn start() -> Self {
        let certificates = Certificates::make();
        Self(RedisServer::options().tls(&certificates, true).start(), certificates)
    }
}

impl Place for OverTls {
    type Store = RedisStore;
    fn store(&self) -> RedisStore {
        let mut config = Config::default();
        let ssl = json!({
            "ssl_ca_certs": self.1.authority(),
            "ssl_certfile": self.1.path("client.crt"),
            "ssl_keyfile": self.1.path("client.key"),
        });
        config.set("broker_use_ssl", &ssl.to_string()).unwrap();
        let url = format!("rediss://localhost:{}/0", self.0.tls_port());
        RedisStore::new(link(url, &config), RedisOptions::default())
    }
}

fn link(url: String, config: &Config) -> Link {
    Link::new(Endpoint::broker(&Url::new(url), config).unwrap(), Timing::broker(config))
}

macro_rules! conformance {
    ($($test:ident)+) => {
        mod file {
            $(#[tokio::test] async fn $test() { super::$test(&super::Folder(tempfile::tempdir().unwrap())).await })+
        }
        mod redis_server {
            $(#[tokio::test] async fn $test() { super::$test(&super::RedisServer::start()).await })+
        }
        mod redis_over_tls {
            $(#[tokio::test] async fn $test() { super::$test(&super::OverTls::start()).await })+
        }
    };
}

conformance! {
    new_entries_count_as_run_now_and_are_looked_at_when_due
    last_runs_survive_a_restart
    entries_that_are_no_longer_configured_are_forgotten
    a_changed_definition_keeps_its_last_run
    one_leads_and_the_other_takes_over_when_it_ends
    runs_are_recorded_by_the_leader_only
    recorded_runs_are_pending_until_they_are_struck_off
    a_rescheduled_entry_is_looked_at_then
}

async fn new_entries_count_as_run_now_and_are_looked_at_when_due(place: &impl Place) {
    let mut store = opened(place, &[every(10), every(60)]).await;
    let look = store.look(start(), secs(300)).await.unwrap();
    assert_eq!((look.entries, look.next), (vec![], Some(after(10))));
    let look = store.look(after(10), secs(300)).await.unwrap();
    assert_eq!(names(&look.entries), ["every-10"]);
    assert_eq!(look.entries[0].entry.last_run_at, Some(start()));
    assert_eq!(look.next, Some(after(60)));
    assert_eq!(store.look(after(10), secs(5)).await.unwrap().next, None);
}

async fn last_runs_survive_a_restart(place: &impl Place) {
    let mut store = opened(place, &[every(10)]).await;
    record(&mut store, every(10), after(12)).await;
    store.release().await.unwrap();
    drop(store);
    let mut store = place.store();
    lead(&mut store).await;
    open(&mut store, &[every(10)], after(15)).await;
    assert_eq!(store.look(after(15), secs(300)).await.unwrap().next, Some(after(22)));
    let entry = store.look(after(22), secs(300)).await.unwrap().entries.remove(0).entry;
    assert_eq!((entry.last_run_at, entry.total_run_count), (Some(after(12)), 1));
}

async fn entries_that_are_no_longer_configured_are_forgotten(place: &impl Place) {
    let mut store = opened(place, &[every(10), every(60)]).await;
    record(&mut store, every(60), after(1)).await;
    open(&mut store, &[every(10)], after(2)).await;
    assert_eq!(names(&store.look(after(500), secs(300)).await.unwrap().entries), ["every-10"]);
    assert_eq!(store.pending().await.unwrap(), []);
    open(&mut store, &[every(10), every(60)], after(600)).await;
    let look = store.look(after(700), secs(300)).await.unwrap();
    let again = &look.entries.iter().find(|found| found.entry.name == "every-60").unwrap().entry;
    assert_eq!((again.last_run_at, again.total_run_count), (Some(after(600)), 0));
}

async fn a_changed_definition_keeps_its_last_run(place: &impl Place) {
    let mut store = opened(place, &[every(10)]).await;
    record(&mut store, every(10), after(11)).await;
    let changed = Entry { schedule: Schedule::every(secs(30)), task: "proj.other".into(), ..every(10) };
    open(&mut store, &[changed], after(12)).await;
    assert_eq!(store.look(after(12), secs(300)).await.unwrap().next, Some(after(41)));
    let entry = store.look(after(41), secs(300)).await.unwrap().entries.remove(0).entry;
    assert_eq!((entry.task.as_str(), entry.total_run_count), ("proj.other", 1));
}

async fn one_leads_and_the_other_takes_over_when_it_ends(place: &impl Place) {
    let (mut first, mut second) = (place.store(), place.store());
    assert_eq!(standing(&mut first).await, "leader");
    assert_eq!(standing(&mut second).await, "stand-by");
    assert_eq!(standing(&mut first).await, "leader");
    second.release().await.unwrap();
    assert_eq!(standing(&mut second).await, "stand-by");
    first.release().await.unwrap();
    assert_eq!(standing(&mut second).await, "leader");
    assert_eq!(standing(&mut first).await, "stand-by");
}

async fn runs_are_recorded_by_the_leader_only(place: &impl Place) {
    let mut first = opened(place, &[every(10)]).await;
    first.release().await.unwrap();
    let mut second = place.store();
    lead(&mut second).await;
    let change = advanced(every(10), after(10));
    assert!(matches!(settle(&mut first, &change).await, Settled::NotLeader));
    open(&mut second, &[every(10)], after(10)).await;
    assert_eq!(second.look(after(10), secs(1)).await.unwrap().entries[0].entry.last_run_at, Some(start()));
    let gone = advanced(every(99), after(10));
    assert!(matches!(settle(&mut second, &gone).await, Settled::Gone));
}

async fn recorded_runs_are_pending_until_they_are_struck_off(place: &impl Place) {
    let mut store = opened(place, &[every(10), every(60)]).await;
    let first = record(&mut store, every(10), after(10)).await;
    let other = record(&mut store, every(60), after(60)).await;
    let second = record(&mut store, every(10), after(61)).await;
    store.release().await.unwrap();
    drop(store);

    let mut store = opened(place, &[every(10), every(60)]).await;
    let mut pending = store.pending().await.unwrap();
    pending.sort_by_key(|run| run.run_at);
    assert_eq!(pending, [first.clone(), other.clone(), second.clone()]);
    store.sent(&first).await.unwrap();
    store.sent(&other).await.unwrap();
    assert_eq!(store.pending().await.unwrap(), [second]);
}

async fn a_rescheduled_entry_is_looked_at_then(place: &impl Place) {
    let mut store = opened(place, &[every(10)]).await;
    store.reschedule(&[(&every(10), Some(after(33)))]).await.unwrap();
    assert_eq!(store.look(after(32), secs(300)).await.unwrap().next, Some(after(33)));
    assert_eq!(names(&store.look(after(33), secs(300)).await.unwrap().entries), ["every-10"]);
}

#[tokio::test]
async fn a_schedule_file_that_cannot_be_read_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schedule.json");
    std::fs::write(&path, "{broken").unwrap();
    let folder = Folder(folder);
    let mut store = opened(&folder, &[every(10)]).await;
    assert_eq!(store.look(start(), secs(300)).await.unwrap().next, Some(after(10)));
    assert_eq!(std::fs::read_to_string(path.with_file_name("schedule.json.unreadable")).unwrap(), "{broken");
}

#[tokio::test]
async fn a_schedule_file_in_a_missing_folder_is_an_error_that_names_it() {
    let mut store = FileStore::new("/no/such/folder/schedule.json");
    let error = store.lead(start()).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/folder/schedule.json"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn entries_are_kept_in_the_layout_of_redbeat() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let sample: Value = sample(include_str!("../../../compat-tests/vectors/beat/redbeat_keys.json"));
    let definition: Value =
        serde_json::from_str(sample["keys"]["redbeat:every-10s"]["value"]["definition"].as_str().unwrap())
            .unwrap();
    let entry = Entry::from_json("every-10s", &definition).unwrap();
    let mut store = opened(&server, std::slice::from_ref(&entry)).await;
    record(&mut store, entry, "2026-01-01T12:00:00Z".parse().unwrap()).await;

    let written: String = redis.hget("redbeat:every-10s", "definition").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), definition);
    let meta: String = redis.hget("redbeat:every-10s", "meta").unwrap();
    assert_eq!(
        meta,
        "{\"last_run_at\":{\"__type__\":\"datetime\",\"year\":2026,\"month\":1,\"day\":1,\"hour\":12,\"minute\":0,\"second\":0,\
         \"microsecond\":0,\"timezone\":\"UTC\"},\"total_run_count\":1}"
    );
    let score: f64 = redis.zscore("redbeat::schedule", "redbeat:every-10s").unwrap();
    assert_eq!(score, 1_767_268_810.0);
    let statics: Vec<String> = redis.smembers("redbeat::statics").unwrap();
    assert_eq!(statics, ["every-10s"]);
    let token: String = redis.get("redbeat::lock").unwrap();
    assert!(token.len() == 32 && token.chars().all(|c| c.is_ascii_hexdigit()), "{token}");
    store.release().await.unwrap();
    assert!(!redis.exists::<_, bool>("redbeat::lock").unwrap());
}

#[tokio::test]
async fn entries_that_redbeat_wrote_are_read() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let keys = &sample(include_str!("../../../compat-tests/vectors/beat/redbeat_entries.json"))["keys"];
    for (key, content) in keys.as_object().unwrap() {
        match content["type"].as_str().unwrap() {
            "hash" => {
                for (field, text) in content["value"].as_object().unwrap() {
                    redis.hset::<_, _, _, ()>(key, field, text.as_str().unwrap()).unwrap();
                }
            }
            "zset" => {
                for pair in content["value"].as_array().unwrap() {
                    redis
                        .zadd::<_, _, _, ()>(key, pair[0].as_str().unwrap(), pair[1].as_f64().unwrap())
                        .unwrap();
                }
            }
            _ => {}
        }
    }
    let mut store = opened(&server, &[]).await;
    let look = store.look(DateTime::from_timestamp(1_800_000_000, 0).unwrap(), secs(1)).await.unwrap();
    let entry = |name: &str| &look.entries.iter().find(|found| found.entry.name == name).unwrap().entry;
    assert_eq!(entry("dt-naive").last_run_at.unwrap().to_rfc3339(), "2026-06-01T12:00:00+00:00");
    assert_eq!(entry("dt-offset").last_run_at.unwrap().to_rfc3339(), "2026-06-01T06:30:00+00:00");
    assert_eq!(entry("dt-zone").last_run_at.unwrap().to_rfc3339(), "2026-06-01T10:00:00.123456+00:00");
    assert_eq!(entry("prog-null").last_run_at, None);
    let program = entry("prog-default");
    assert_eq!(program.schedule, Schedule::every(Duration::from_millis(90_500)));
    assert_eq!((json!(program.args), json!(program.kwargs)), (json!([1]), json!({"b": 2})));
    assert_eq!(json!(program.options), json!({"queue": "q", "countdown": 5}));
    assert!(matches!(entry("rr-plain").schedule, Schedule::Rrule(_)));
}

#[tokio::test]
async fn unreadable_and_missing_entries_do_not_stop_the_others() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    for (name, definition) in [("a", "not json"), ("b", r#"{"name": "b"}"#)] {
        redis.hset::<_, _, _, ()>(format!("redbeat:{name}"), "definition", definition).unwrap();
        redis.zadd::<_, _, _, ()>("redbeat::schedule", format!("redbeat:{name}"), 1).unwrap();
    }
    redis.zadd::<_, _, _, ()>("redbeat::schedule", "redbeat:gone", 1).unwrap();
    let mut store = opened(&server, &[every(10)]).await;
    assert_eq!(names(&store.look(after(10), secs(1)).await.unwrap().entries), ["every-10"]);
    let members: Vec<String> = redis.zrange("redbeat::schedule", 0, -1).unwrap();
    // They are looked at again a minute later.
    assert_eq!(members, ["redbeat:every-10", "redbeat:a", "redbeat:b"]);
}

#[tokio::test]
async fn the_lock_of_a_dead_beat_ends_and_a_foreign_one_is_left_alone() {
    let server = RedisServer::start();
    let options = RedisOptions { lock_timeout: Duration::from_millis(300), ..RedisOptions::default() };
    let mut dead = RedisStore::new(link(server.url(), &Config::default()), options.clone());
    lead(&mut dead).await;
    let mut next = RedisStore::new(link(server.url(), &Config::default()), options);
    assert_eq!(standing(&mut next).await, "stand-by");
    eventually_async("the lock ends", secs(5), async || standing(&mut next).await == "leader").await;
    assert_eq!(standing(&mut dead).await, "stand-by");
    dead.release().await.unwrap();
    assert_eq!(standing(&mut next).await, "leader");
    server.connection().set::<_, _, ()>("redbeat::lock", "another").unwrap();
    next.release().await.unwrap();
    assert_eq!(server.connection().get::<_, String>("redbeat::lock").unwrap(), "another");
}

#[tokio::test]
async fn entries_that_redbeat_cannot_run_are_kept_where_it_does_not_look() {
    let server = RedisServer::start();
    let solar = Solar::new(SolarEvent::Sunset, 52.0, 21.0).unwrap();
    let dusk = Entry::new("dusk", "proj.lights", Schedule::Solar(solar));
    let bounded = every(60).policy(Policy { total_runs: Some(3), ..Policy::default() });
    let mut store = opened(&server, &[dusk.clone(), bounded.clone(), every(10)]).await;
    let members: Vec<String> = server.connection().zrange("redbeat::schedule", 0, -1).unwrap();
    assert_eq!(members, ["redbeat:every-10"]);
    let look = store.look(after(86_400), secs(300)).await.unwrap();
    assert_eq!(names(&look.entries), ["every-10", "every-60", "dusk"]);
    assert_eq!(look.entries[1].entry.policy, bounded.policy);
    // What it was without its bound goes on with it.
    record(&mut store, bounded, after(60)).await;
    open(&mut store, &[dusk, every(60)], after(61)).await;
    let listed = store.list().await.unwrap();
    let entry = &listed.iter().find(|listed| listed.entry.name == "every-60").unwrap().entry;
    assert_eq!((entry.last_run_at, entry.total_run_count), (Some(after(60)), 1));
    let members: Vec<String> = server.connection().zrange("redbeat::schedule", 0, -1).unwrap();
    assert_eq!(members, ["redbeat:every-60"]);
}

#[tokio::test]
async fn a_key_prefix_moves_all_keys() {
    let server = RedisServer::start();
    let options =
        RedisOptions { key_prefix: "my:".into(), lock_key: Some("lck".into()), ..RedisOptions::default() };
    let mut store = RedisStore::new(link(server.url(), &Config::default()), options);
    lead(&mut store).await;
    open(&mut store, &[every(10)], start()).await;
    let mut keys: Vec<String> = server.connection().keys("*").unwrap();
    keys.sort();
    assert_eq!(keys, ["my::schedule", "my::statics", "my:every-10", "my:lck"]);
}

async fn open(store: &mut impl ScheduleStore, entries: &[Entry], now: DateTime<Utc>) {
    store.configure(Arc::new(Configured::new(entries.to_vec())));
    store.open(now, &Terms::default()).await.unwrap();
}

async fn opened<P: Place>(place: &P, entries: &[Entry]) -> P::Store {
    let mut store = place.store();
    lead(&mut store).await;
    open(&mut store, entries, start()).await;
    store
}

async fn standing(store: &mut impl ScheduleStore) -> &'static str {
    match store.lead(start()).await.unwrap() {
        Standing::StandBy(_) => "stand-by",
        Standing::Elected | Standing::Leader => "leader",
    }
}

async fn lead(store: &mut impl ScheduleStore) {
    assert_eq!(store.lead(start()).await.unwrap(), Standing::Elected);
}

async fn record(store: &mut impl ScheduleStore, entry: Entry, at: DateTime<Utc>) -> Run {
    let change = advanced(entry, at);
    assert!(matches!(settle(store, &change).await, Settled::Done));
    change.runs[0].clone()
}

async fn settle(store: &mut impl ScheduleStore, change: &Change) -> Settled {
    store.settle(std::slice::from_ref(change)).await.unwrap().remove(0)
}

/// The entry after a run at that time.
fn advanced(mut entry: Entry, at: DateTime<Utc>) -> Change {
    let runs = vec![entry.run_at(at)];
    entry.last_run_at = Some(at);
    entry.total_run_count = 1;
    let next = entry.next_look(at, &Terms::default());
    Change { entry, history: History::default(), runs, next }
}

fn every(seconds: u64) -> Entry {
    Entry::new(format!("every-{seconds}"), "proj.tick", Schedule::every(secs(seconds))).queue("q")
}

fn names(entries: &[Found]) -> Vec<&str> {
    entries.iter().map(|found| found.entry.name.as_str()).collect()
}

fn start() -> DateTime<Utc> {
    "2026-05-01T10:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

fn sample(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
