//! What the service depends on, as `/healthz` and `/metrics` tell it: asked at most once a second, and in words that name no
//! address and no user. The log has the whole error, once for each change.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use companion::{beat_sign, metrics::Snapshot, store::Overdue};

use crate::{celery::CeleryError, shared::Once, state::State};

/// How long the database, and Redis, may take to answer.
const PATIENCE: Duration = Duration::from_millis(900);

/// The state of what the service depends on.
pub(crate) struct Health {
    pub(crate) db: Part,
    pub(crate) redis: Part,
    pub(crate) celery: Part,
    pub(crate) beat: Part,
    /// How many workers answered a ping; `None` when the broker did not.
    pub(crate) workers: Option<usize>,
}

/// Nothing, or what is wrong.
pub(crate) type Part = Result<(), String>;

/// Numbers that are read from database and broker.
pub(crate) struct Figures {
    pub(crate) counters: Option<Snapshot>,
    pub(crate) queues: Option<Vec<(String, u64)>>,
    pub(crate) overdue: Option<Overdue>,
}

/// The last answers.
#[derive(Default)]
pub(crate) struct Vitals {
    health: Once<Health>,
    figures: Once<Figures>,
    counters: Once<Option<Snapshot>>,
    failing: Mutex<BTreeMap<&'static str, String>>,
}

impl State {
    /// Returns the state of all parts; `None` when looking for it panicked.
    pub(crate) async fn health(&self) -> Option<std::sync::Arc<Health>> {
        self.vitals.health.ask(|| look(self.clone())).await
    }

    /// Returns the numbers; `None` when looking for them panicked.
    pub(crate) async fn figures(&self) -> Option<std::sync::Arc<Figures>> {
        self.vitals.figures.ask(|| count(self.clone())).await
    }

    /// Returns the counters alone, which no broker is asked for; `None` when there are none.
    pub(crate) async fn counters(&self) -> Option<Snapshot> {
        let counters = self.vitals.counters.ask(|| read_counters(self.clone())).await?;
        (*counters).clone()
    }
}

async fn look(state: State) -> Health {
    let (db, redis, workers, lock, sign) = tokio::join!(
        state.companion.store.check(PATIENCE),
        tokio::time::timeout(PATIENCE, state.companion.redis.ping()),
        state.celery.ping_workers(),
        state.celery.has_beat(),
        tokio::time::timeout(PATIENCE, beat_sign::is_there(&state.companion.redis)),
    );
    let redis = match redis {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.cause()),
        Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
    };
    let celery = match &workers {
        Ok(names) if names.is_empty() => Err(CeleryError::NoWorkers.cause()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.cause()),
    };
    let beat = match (lock, sign) {
        (Ok(true), _) | (_, Ok(Ok(true))) => Ok(()),
        (Ok(false), _) => Err("no beat".to_owned()),
        (Err(error), _) => Err(error.cause()),
    };
    let health = Health {
        db: db.map_err(|fault| fault.to_string()),
        redis,
        celery,
        beat,
        workers: workers.ok().map(|names| names.len()),
    };
    let parts =
        [("db", &health.db), ("redis", &health.redis), ("celery", &health.celery), ("beat", &health.beat)];
    for (name, part) in parts {
        state.vitals.note(name, part);
    }
    health
}

async fn count(state: State) -> Figures {
    let (counters, queues, overdue) = tokio::join!(
        state.counters(),
        state.celery.queue_lengths(),
        tokio::time::timeout(PATIENCE, state.companion.store.overdue()),
    );
    Figures { counters, queues: queues.ok(), overdue: overdue.ok().and_then(Result::ok) }
}

async fn read_counters(state: State) -> Option<Snapshot> {
    match state.companion.metrics.snapshot().await {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            log::warn!(error:% = error; "The counters cannot be read");
            None
        }
    }
}

impl Vitals {
    /// Logs what is not as it was.
    fn note(&self, name: &'static str, part: &Part) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match part {
            Ok(()) => failing.remove(name),
            Err(reason) => failing.insert(name, reason.clone()),
        };
        match (part, before) {
            (Ok(()), Some(_)) => log::info!(part = name; "{name} works again"),
            (Err(reason), before) if before.as_ref() != Some(reason) => {
                log::warn!(part = name; "{name} fails: {reason}");
            }
            _ => {}
        }
    }
}
