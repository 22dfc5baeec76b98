//! Revocations that a broker keeps, for workers that start later.
//!
//! Two sorted sets, scored with the Unix time of the revocation: `celeriac.revoked` with task ids and
//! `celeriac.revoked.stamps` with stamps.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Pipeline, Value};

use super::Queues;
use crate::broker::{BrokerError, KeptRevocations, RevocationBounds};
use crate::message::Message;

impl Queues {
    /// Keeps ids of revoked tasks, as of now.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn keep_revoked(
        &self,
        ids: &[String],
        bounds: RevocationBounds,
    ) -> Result<(), BrokerError> {
        self.link().call(&mut keep(&self.keys().revoked, ids, bounds)).await.map(drop)
    }

    /// Keeps ids of revoked tasks, and broadcasts the request that revokes them; both in one round trip. Returns how
    /// many nodes hear it, as [`Queues::broadcast`] does.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn broadcast_revocation(
        &self,
        ids: &[String],
        bounds: RevocationBounds,
        request: &Message,
    ) -> Result<Option<u64>, BrokerError> {
        self.broadcast_after(keep(&self.keys().revoked, ids, bounds), request).await
    }

    /// Keeps revoked stamps, as of now.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn keep_revoked_stamps(
        &self,
        stamps: &[String],
        bounds: RevocationBounds,
    ) -> Result<(), BrokerError> {
        self.link().call(&mut keep(&self.keys().revoked_stamps, stamps, bounds)).await.map(drop)
    }

    /// Dates the revocation of an id back to that Unix time, if it is kept with a later one, so that it is forgotten
    /// sooner.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn date_back_revoked(&self, id: &str, revoked_at: f64) -> Result<(), BrokerError> {
        let mut shorten = Pipeline::new();
        shorten.cmd("ZADD").arg(&self.keys().revoked).arg("XX").arg("LT").arg(revoked_at).arg(id);
        self.link().call(&mut shorten).await.map(drop)
    }

    /// Returns what was revoked at or after that Unix time.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn revoked_since(&self, since: f64) -> Result<KeptRevocations, BrokerError> {
        let mut read = Pipeline::new();
        for key in [&self.keys().revoked, &self.keys().revoked_stamps] {
            read.cmd("ZRANGEBYSCORE").arg(key).arg(since).arg("+inf").arg("WITHSCORES");
        }
        let replies = self.link().call(&mut read).await?;
        let [ids, stamps] = [0, 1].map(|index| replies.get(index).map(scored).unwrap_or_default());
        Ok(KeptRevocations { ids, stamps })
    }
}

fn keep(key: &str, members: &[String], bounds: RevocationBounds) -> Pipeline {
    let mut add = Pipeline::new();
    if members.is_empty() {
        return add;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
    let insert = add.cmd("ZADD").arg(key);
    for member in members {
        insert.arg(now).arg(member);
    }
    add.cmd("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(now - bounds.age.as_secs_f64());
    add.cmd("ZREMRANGEBYRANK").arg(key).arg(0).arg(-(bounds.count as i64) - 1);
    add.cmd("EXPIRE").arg(key).arg(bounds.age.as_secs());
    add
}

/// Returns members and scores; an older server writes scores as text.
fn scored(reply: &Value) -> Vec<(String, f64)> {
    let Value::Array(items) = reply else { return Vec::new() };
    let text = |item: &Value| match item {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    let number = |item: &Value| match item {
        Value::Double(number) => Some(*number),
        item => text(item)?.parse().ok(),
    };
    items.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, number(&pair[1])?))).collect()
}
