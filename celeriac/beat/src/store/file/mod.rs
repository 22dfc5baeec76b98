//! A schedule in a JSON file: one beat on one machine.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;
use uuid::Uuid;

use self::journal::{Journal, Memory, Record, beside};
use super::{Change, Found, Listed, Look, ScheduleStore, Settled, Standing, StoreError};
use crate::configured::Configured;
use crate::entry::{Entry, History, Run};
use crate::schedule::Terms;

/// Keeps the last runs in a JSON file and a journal beside it, which is on disk before a run is sent.
///
/// A second beat on the same file stands by: the leader holds a lock on `FILE.lock`, which ends with its process.
pub struct FileStore {
    path: PathBuf,
    lock: Option<File>,
    journal: Journal,
    configured: Arc<Configured>,
    entries: BTreeMap<String, Found>,
    looks: BTreeMap<String, DateTime<Utc>>,
    by_time: BTreeSet<(DateTime<Utc>, String)>,
    pending: BTreeMap<Uuid, Run>,
}

/// Entries by name, and the runs that are recorded and not sent yet.
type Remembered = (BTreeMap<String, Found>, BTreeMap<Uuid, Run>);

impl FileStore {
    /// A store in that file; it is made when first written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            journal: Journal::new(&path),
            path,
            lock: None,
            configured: Arc::default(),
            entries: BTreeMap::new(),
            looks: BTreeMap::new(),
            by_time: BTreeSet::new(),
            pending: BTreeMap::new(),
        }
    }

    fn failure(path: &Path, reason: std::io::Error) -> StoreError {
        StoreError::File { path: path.to_owned(), reason }
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

    /// Writes everything into the file, and begins the journal anew.
    fn write(&mut self) -> Result<(), StoreError> {
        let memories = self.entries.iter().map(|(name, found)| (name.clone(), self.memory(found))).collect();
        self.journal.write(memories, &self.pending).map_err(|reason| Self::failure(&self.path, reason))
    }

    fn memory(&self, found: &Found) -> Memory {
        let Found { entry, history } = found;
        let configured = self.configured.get(&entry.name).is_none_or(|configured| configured.enabled);
        Memory {
            last_run_at: entry.last_run_at,
            total_run_count: entry.total_run_count,
            switched: (entry.enabled != configured).then_some(entry.enabled),
            configured,
            history: history.clone(),
        }
    }

    fn append(&mut self, records: &[Record<'_>], to_disk: bool) -> Result<(), StoreError> {
        self.journal.append(records, to_disk).map_err(|reason| Self::failure(&self.path, reason))?;
        if self.journal.is_long(self.entries.len()) { self.write() } else { Ok(()) }
    }

    /// The configured entries with what the file remembers of them.
    fn read(&self, now: DateTime<Utc>) -> Result<Remembered, StoreError> {
        let (mut memories, pending) =
            self.journal.read().map_err(|reason| Self::failure(&self.path, reason))?;
        let mut entries = BTreeMap::new();
        let mut at = 0;
        while at < self.configured.len() {
            for mut entry in self.configured.part(at, 500) {
                let mut history = History::default();
                match memories.remove(&entry.name) {
                    Some(memory) => {
                        let last_run_at = memory.last_run_at.map(|last| last.min(now));
                        if last_run_at != memory.last_run_at {
                            warn!(
                                "the last run of {:?} lies in the future: it is taken as a run of now",
                                entry.name
                            );
                        }
                        entry.remember(last_run_at, memory.total_run_count);
                        // Whoever changed it last says whether it is enabled.
                        if memory.configured == entry.enabled {
                            entry.enabled = memory.switched.unwrap_or(entry.enabled);
                        }
                        history = memory.history;
                    }
                    None => entry.remember(Some(entry.last_run_at.unwrap_or(now)), 0),
                }
                entries.insert(entry.name.clone(), Found { entry, history });
            }
            at += 500;
        }
        Ok((entries, pending))
    }
}

impl ScheduleStore for FileStore {
    fn configure(&mut self, configured: Arc<Configured>) {
        self.configured = configured;
    }

    async fn lead(&mut self, _: DateTime<Utc>) -> Result<Standing, StoreError> {
        if self.lock.is_some() {
            return Ok(Standing::Leader);
        }
        let path = beside(&self.path, "lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|reason| Self::failure(&path, reason))?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(Standing::Elected)
            }
            Err(TryLockError::WouldBlock) => Ok(Standing::StandBy(self.heartbeat())),
            Err(TryLockError::Error(reason)) => Err(Self::failure(&path, reason)),
        }
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn open(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        (self.entries, self.pending) = self.read(now)?;
        self.looks.clear();
        self.by_time.clear();
        let looks: Vec<(String, Option<DateTime<Utc>>)> = self
            .entries
            .iter()
            .map(|(name, found)| (name.clone(), found.entry.next_look(now, terms)))
            .collect();
        for (name, next) in looks {
            self.look_at(&name, next);
        }
        self.pending.retain(|_, run| self.entries.contains_key(&run.entry));
        self.write()
    }

    /// Does what `celeriac beat pause` and `resume` have asked for meanwhile.
    async fn check(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        let switches = self.journal.take_switches().map_err(|reason| Self::failure(&self.path, reason))?;
        let is_changed = !switches.is_empty();
        for (name, enabled) in switches {
            let Some(found) = self.entries.get_mut(&name) else { continue };
            found.entry.enabled = enabled;
            if enabled {
                found.history.trouble = None;
                found.history.failures = 0;
            }
            let next = found.entry.next_look(now, terms);
            self.look_at(&name, next);
        }
        if is_changed { self.write() } else { Ok(()) }
    }

    async fn review(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        let mut looks = Vec::new();
        for (name, found) in &mut self.entries {
            found.entry.last_run_at = found.entry.last_run_at.map(|last| last.min(now));
            looks.push((name.clone(), found.entry.next_look(now, terms)));
        }
        for (name, next) in looks {
            self.look_at(&name, next);
        }
        self.write()
    }

    async fn look(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        let due = self.by_time.iter().take_while(|(time, _)| *time <= now);
        let entries = due.filter_map(|(_, name)| self.entries.get(name).cloned()).collect();
        let later = self.by_time.range((now, String::new())..).find(|(time, _)| *time > now);
        let next = later.map(|(time, _)| *time).filter(|time| *time <= now + horizon);
        Ok(Look { entries, next, has_more: false })
    }

    async fn reschedule(&mut self, looks: &[(&Entry, Option<DateTime<Utc>>)]) -> Result<(), StoreError> {
        for (entry, next) in looks {
            self.look_at(&entry.name, *next);
        }
        Ok(())
    }

    async fn settle(&mut self, changes: &[Change]) -> Result<Vec<Settled>, StoreError> {
        if self.lock.is_none() {
            return Ok(changes.iter().map(|_| Settled::NotLeader).collect());
        }
        let mut settled = Vec::with_capacity(changes.len());
        let mut memories = Vec::new();
        for change in changes {
            if !self.entries.contains_key(&change.entry.name) {
                settled.push(Settled::Gone);
                continue;
            }
            settled.push(Settled::Done);
            let found = Found { entry: change.entry.clone(), history: change.history.clone() };
            memories.push((change, self.memory(&found)));
            self.entries.insert(change.entry.name.clone(), found);
            self.look_at(&change.entry.name, change.next);
            self.pending.extend(change.runs.iter().map(|run| (run.id, run.clone())));
        }
        let records: Vec<Record<'_>> = memories
            .iter()
            .map(|(change, memory)| Record::Change { entry: &change.entry.name, memory, runs: &change.runs })
            .collect();
        self.append(&records, true)?;
        Ok(settled)
    }

    async fn pending(&mut self) -> Result<Vec<Run>, StoreError> {
        Ok(self.pending.values().cloned().collect())
    }

    async fn sent(&mut self, run: &Run) -> Result<(), StoreError> {
        match self.pending.remove(&run.id) {
            // Should it not get to disk, the run is sent again, which the broker knows.
            Some(run) => self.append(&[Record::Sent { id: run.id }], false),
            None => Ok(()),
        }
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        if self.lock.is_some() && !self.journal.is_empty() {
            self.write()?;
        }
        self.lock = None;
        Ok(())
    }

    async fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        let now = Utc::now();
        let entries = if self.lock.is_some() { self.entries.clone() } else { self.read(now)?.0 };
        let listed = entries.into_values().map(|Found { entry, history }| Listed {
            next: self.looks.get(&entry.name).copied().or_else(|| entry.next_look(now, &Terms::default())),
            entry,
            history,
        });
        Ok(listed.collect())
    }

    async fn enable(&mut self, name: &str, enabled: bool) -> Result<bool, StoreError> {
        if !self.configured.contains(name) {
            return Ok(false);
        }
        if let Some(found) = self.entries.get_mut(name).filter(|_| self.lock.is_some()) {
            found.entry.enabled = enabled;
            self.look_at(name, Some(Utc::now()));
            return self.write().map(|()| true);
        }
        self.journal.ask_to_switch(name, enabled).map_err(|reason| Self::failure(&self.path, reason))?;
        Ok(true)
    }
}
