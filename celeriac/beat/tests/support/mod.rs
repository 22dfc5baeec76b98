//! What the tests of the scheduler share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac::broker::redis::{Endpoint, Link, Timing};
use celeriac::config::{Config, Url};
use celeriac_beat::schedule::Schedule;
use celeriac_beat::{Entry, Outcome, Publish, PublishError, RedisOptions, RedisStore, Run};
use chrono::{DateTime, TimeDelta, Utc};
use compat_tests::RedisServer;
use uuid::Uuid;

/// A broker of which the test says whether it answers, and how runs end.
#[derive(Clone, Default)]
pub(crate) struct Broker(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_down: bool,
    refuses: bool,
    hangs: bool,
    taken: Vec<Run>,
    outcomes: HashMap<Uuid, Outcome>,
}

impl Publish for Broker {
    async fn publish(&self, run: &Run) -> Result<(), PublishError> {
        let mut state = self.0.lock().unwrap();
        if state.is_down {
            return Err(PublishError::new("the broker is down"));
        }
        if state.refuses {
            return Err(PublishError::permanent("option priority is high"));
        }
        state.taken.push(run.clone());
        Ok(())
    }

    async fn outcome(&self, run: &Uuid) -> Outcome {
        while self.0.lock().unwrap().hangs {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.0.lock().unwrap().outcomes.get(run).copied().unwrap_or(Outcome::Unknown)
    }
}

impl Broker {
    pub(crate) fn down(&self, is_down: bool) {
        self.0.lock().unwrap().is_down = is_down;
    }

    /// Says nothing of how runs end, for as long as that.
    pub(crate) fn hangs(&self, hangs: bool) {
        self.0.lock().unwrap().hangs = hangs;
    }

    pub(crate) fn refuses(&self, refuses: bool) {
        self.0.lock().unwrap().refuses = refuses;
    }

    pub(crate) fn ends(&self, run: Uuid, outcome: Outcome) {
        self.0.lock().unwrap().outcomes.insert(run, outcome);
    }

    pub(crate) fn taken(&self) -> Vec<Run> {
        self.0.lock().unwrap().taken.clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.taken().into_iter().map(|run| run.entry).collect()
    }
}

pub(crate) fn redis_store(server: &RedisServer) -> RedisStore {
    redis_store_with(server, RedisOptions::default())
}

pub(crate) fn redis_store_with(server: &RedisServer, options: RedisOptions) -> RedisStore {
    let config = Config::default();
    let endpoint = Endpoint::broker(&Url::new(server.url()), &config).unwrap();
    RedisStore::new(Link::new(endpoint, Timing::broker(&config)), options)
}

pub(crate) fn every(seconds: u64) -> Entry {
    Entry::new(format!("every-{seconds}"), "proj.tick", Schedule::every(Duration::from_secs(seconds)))
}

pub(crate) fn start() -> DateTime<Utc> {
    "2026-05-01T10:00:00Z".parse().unwrap()
}

pub(crate) fn after(seconds: f64) -> DateTime<Utc> {
    start() + TimeDelta::milliseconds((seconds * 1000.0) as i64)
}
