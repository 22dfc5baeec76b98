//! The tables of django-celery-beat, in PostgreSQL or SQLite.
//!
//! Source: django-celery-beat 2.9.0 `models.py`, `schedulers.py`. A run is sent before it is written back: its id says to the
//! broker that it was sent, should it have to be sent again.

mod connection;
mod rows;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac::Celery;
use chrono::{DateTime, Utc};
use log::warn;

use self::connection::Connection;
use super::{Change, Found, Listed, Look, ScheduleStore, Settled, Standing, StoreError, send_once};
use crate::configured::Configured;
use crate::entry::{Entry, Run};
use crate::schedule::Terms;

/// The tables are read again after this time, also if nobody says that they have changed.
const FULL_READ: Duration = Duration::from_secs(60);

/// Keeps the schedule in the tables of django-celery-beat: what Django's admin shows is sent, also when it changes; last run
/// and count are written back. Any number of beats may run; the lock is an advisory one of PostgreSQL, or a file beside SQLite's.
pub struct DatabaseStore {
    connection: Connection,
    app: Celery,
    configured: Arc<Configured>,
    /// The entries by name, with the keys of their rows.
    entries: BTreeMap<String, (i64, Found)>,
    looks: BTreeMap<String, DateTime<Utc>>,
    by_time: BTreeSet<(DateTime<Utc>, String)>,
    last_update: Option<String>,
    read_at: Option<Instant>,
    /// Rows that cannot be read and were already said to be so.
    unreadable: BTreeSet<String>,
}

impl DatabaseStore {
    /// A store in the database at a URL (`postgresql://...` or `sqlite://FILE`), which sends through `app`; it connects when
    /// first used, and again whenever the connection is lost.
    ///
    /// # Errors
    /// [`StoreError::Database`] for a URL of another kind.
    pub fn new(url: &str, app: &Celery) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::new(url)?,
            app: app.clone(),
            configured: Arc::default(),
            entries: BTreeMap::new(),
            looks: BTreeMap::new(),
            by_time: BTreeSet::new(),
            last_update: None,
            read_at: None,
            unreadable: BTreeSet::new(),
        })
    }

    /// Where the schedule is, without a password.
    pub fn place(&self) -> String {
        self.connection.place()
    }

    fn look_at(&mut self, name: &str, next: Option<DateTime<Utc>>) {
        if let Some(before) = self.looks.remove(name) {
            self.by_time.remove(&(before, name.to_owned()));
        }
        if let Some(next) = next {
            self.looks.insert(name.to_owned(), next);
            self.by_time.insert((next, name.to_owned()));
        }
    }

    /// Reads all rows. Histories are kept in memory: the tables have no place for them.
    async fn read(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        let rows = self.connection.rows(&rows::select(self.connection.is_postgres()), &[]).await?;
        let mut before = std::mem::take(&mut self.entries);
        self.looks.clear();
        self.by_time.clear();
        for row in rows {
            match rows::read(&row, now) {
                Ok((key, entry)) => {
                    let history =
                        before.remove(&entry.name).map(|(_, found)| found.history).unwrap_or_default();
                    self.look_at(&entry.name, entry.next_look(now, terms).filter(|_| entry.enabled));
                    self.entries.insert(entry.name.clone(), (key, Found { entry, history }));
                }
                Err(reason) => {
                    if self.unreadable.insert(reason.clone()) {
                        warn!("a row of django_celery_beat_periodictask is not sent: {reason}");
                    }
                }
            }
        }
        self.read_at = Some(Instant::now());
        Ok(())
    }
}

impl ScheduleStore for DatabaseStore {
    fn configure(&mut self, configured: Arc<Configured>) {
        self.configured = configured;
    }

    async fn lead(&mut self, _: DateTime<Utc>) -> Result<Standing, StoreError> {
        let had_lock = self.connection.has_lock();
        if !self.connection.take_lock().await? {
            return Ok(Standing::StandBy(self.heartbeat()));
        }
        Ok(if had_lock { Standing::Leader } else { Standing::Elected })
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn sends(&self) -> bool {
        true
    }

    async fn open(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        self.write_configured(now).await?;
        self.last_update = self.connection.last_update().await?;
        self.read(now, terms).await
    }

    async fn check(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        let last_update = self.connection.last_update().await?;
        let is_old = self.read_at.is_none_or(|read| read.elapsed() > FULL_READ);
        if last_update != self.last_update || is_old {
            self.last_update = last_update;
            self.read(now, terms).await?;
        }
        Ok(())
    }

    async fn review(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        self.read(now, terms).await
    }

    async fn look(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        let due = self.by_time.iter().take_while(|(time, _)| *time <= now);
        let entries =
            due.filter_map(|(_, name)| self.entries.get(name).map(|(_, found)| found.clone())).collect();
        let later = self.by_time.range((now, String::new())..).find(|(time, _)| *time > now);
        let next = later.map(|(time, _)| *time).filter(|time| *time <= now + horizon);
        Ok(Look { entries, next, has_more: false })
    }

    async fn reschedule(&mut self, looks: &[(&Entry, Option<DateTime<Utc>>)]) -> Result<(), StoreError> {
        for (entry, next) in looks {
            self.look_at(&entry.name, *next);
            if next.is_none() && entry.enabled {
                self.write_over(&entry.name).await?;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, changes: &[Change]) -> Result<Vec<Settled>, StoreError> {
        let mut settled = Vec::with_capacity(changes.len());
        for change in changes {
            settled.push(self.settle_one(change).await?);
        }
        Ok(settled)
    }

    async fn pending(&mut self) -> Result<Vec<Run>, StoreError> {
        Ok(Vec::new())
    }

    async fn sent(&mut self, _: &Run) -> Result<(), StoreError> {
        Ok(())
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        self.connection.close().await;
        Ok(())
    }

    async fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        self.read(Utc::now(), &Terms::default()).await?;
        let listed = self.entries.values().map(|(_, Found { entry, history })| Listed {
            entry: entry.clone(),
            history: history.clone(),
            next: self.looks.get(&entry.name).copied(),
        });
        Ok(listed.collect())
    }

    async fn enable(&mut self, name: &str, enabled: bool) -> Result<bool, StoreError> {
        self.write_switch(name, enabled).await
    }
}

impl DatabaseStore {
    async fn settle_one(&mut self, change: &Change) -> Result<Settled, StoreError> {
        if !self.connection.has_lock() {
            return Ok(Settled::NotLeader);
        }
        for run in &change.runs {
            if let Err(refused) = send_once(&self.app, run).await {
                return Ok(Settled::Refused(refused));
            }
        }
        let Some((key, found)) = self.entries.get_mut(&change.entry.name) else { return Ok(Settled::Gone) };
        let key = *key;
        *found = Found { entry: change.entry.clone(), history: change.history.clone() };
        self.look_at(&change.entry.name, change.next);
        let is_there = self.write_run(key, &change.entry).await?;
        if change.next.is_none() && is_there {
            self.write_over(&change.entry.name).await?;
        }
        Ok(if is_there { Settled::Done } else { Settled::Gone })
    }
}
