//! Revocations in the broker: they hold when every worker is restarted, and for one that was not there.
//!
//! Celery's workers keep revoked ids in memory and tell them each other at the start; when all are restarted, what was
//! revoked runs. celeriac's workers also keep them at the broker, with the time of the revocation: task ids, and stamps as
//! `["<name>", <value>]`. Both are bounded by [`LIMIT`] and [`KEPT`]; when the message of a revoked task has been dropped, its id is kept no
//! longer than Celery keeps it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::broker::{Broker, BrokerError, RevocationBounds};
use crate::message::{Value, json};
use crate::node::{KEPT, LIMIT, Revoked, lock};

/// The bounds of what the broker keeps.
pub(super) const BOUNDS: RevocationBounds = RevocationBounds { count: LIMIT, age: KEPT };
/// How long an id stays known after its message is gone (`CELERY_WORKER_REVOKE_EXPIRES`).
const AFTERWARDS: Duration = Duration::from_secs(10_800);
/// How far the clocks of two machines may differ.
const SKEW: f64 = 120.0;

/// The revocations of a broker's database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Revocations {
    broker: Broker,
    /// Up to which time they were read: Unix time in seconds.
    read_until: Arc<Mutex<f64>>,
}

impl Revocations {
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, read_until: Arc::default() }
    }

    /// Keeps ids.
    pub(super) async fn add(&self, ids: &[String]) -> Result<(), BrokerError> {
        self.broker.keep_revoked(ids, BOUNDS).await
    }

    /// Keeps values of a stamp.
    pub(super) async fn add_stamps(&self, name: &str, values: &[Value]) -> Result<(), BrokerError> {
        let stamps: Vec<String> =
            values.iter().map(|value| json::dumps(&Value::List(vec![name.into(), value.clone()]))).collect();
        self.broker.keep_revoked_stamps(&stamps, BOUNDS).await
    }

    /// The message of a revoked task is gone: its id need not be kept for long.
    pub(crate) async fn message_gone(&self, id: &str) -> Result<(), BrokerError> {
        self.broker.date_back_revoked(id, unix_now() - (KEPT - AFTERWARDS).as_secs_f64()).await
    }

    /// Adds what was revoked since this was called last.
    pub(crate) async fn read(&self, revoked: &Mutex<Revoked>) -> Result<(), BrokerError> {
        let now = unix_now();
        let since = (*lock(&self.read_until) - SKEW).max(now - KEPT.as_secs_f64());
        let kept = self.broker.revoked_since(since).await?;
        let mut revoked = lock(revoked);
        for (id, time) in kept.ids {
            if !revoked.contains(&id) {
                revoked.add_aged(id, Duration::try_from_secs_f64(now - time).unwrap_or_default());
            }
        }
        for (stamp, _) in kept.stamps {
            match json::loads(stamp.as_bytes()) {
                Ok(Value::List(pair)) if pair.len() == 2 => {
                    if let Some(name) = pair[0].as_str() {
                        revoked.add_stamp(name, vec![pair[1].clone()]);
                    }
                }
                _ => {
                    log::warn!(stamp = stamp.as_str(); "A revoked stamp in the broker cannot be read: {stamp}")
                }
            }
        }
        *lock(&self.read_until) = now;
        Ok(())
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
