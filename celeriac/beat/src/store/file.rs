//! A schedule in a JSON file: one beat on one machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;
use serde::{Deserialize, Serialize};

use super::{Look, Recorded, ScheduleStore, Standing, StoreError};
use crate::entry::{Entry, Run};
use crate::schedule::Terms;

/// Keeps the last runs in a JSON file, written anew (and on disk) before each run is sent.
///
/// A second beat on the same file stands by: the leader holds a lock on `FILE.lock`, which ends with its process.
pub struct FileStore {
    path: PathBuf,
    lock: Option<File>,
    entries: BTreeMap<String, Entry>,
    looks: BTreeMap<String, DateTime<Utc>>,
    pending: BTreeMap<String, Run>,
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
struct Content {
    entries: BTreeMap<String, Memory>,
    #[serde(default)]
    pending: BTreeMap<String, Run>,
}

#[derive(Serialize, Deserialize)]
struct Memory {
    last_run_at: Option<DateTime<Utc>>,
    total_run_count: u64,
}

impl FileStore {
    /// A store in that file; it is made when first written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lock: None,
            entries: BTreeMap::new(),
            looks: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    fn read(&self) -> Result<Content, StoreError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(source) => return Err(self.failure(&self.path, source)),
        };
        match serde_json::from_slice(&text) {
            Ok(content) => Ok(content),
            Err(error) => {
                // The schedule itself is configured; only last runs are lost, which must not stop beat.
                let aside = beside(&self.path, "unreadable");
                warn!(
                    "schedule file {} cannot be read ({error}); it is kept as {}, last runs are forgotten",
                    self.path.display(),
                    aside.display()
                );
                std::fs::rename(&self.path, &aside).map_err(|source| self.failure(&self.path, source))?;
                Ok(Content::default())
            }
        }
    }

    /// Writes a new file and puts it into the place of the old one.
    fn write(&self) -> Result<(), StoreError> {
        let memory =
            |entry: &Entry| Memory { last_run_at: entry.last_run_at, total_run_count: entry.total_run_count };
        let content = Content {
            entries: self.entries.iter().map(|(name, entry)| (name.clone(), memory(entry))).collect(),
            pending: self.pending.clone(),
        };
        let new = beside(&self.path, "new");
        let written = (|| {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&content)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)
        })();
        written.map_err(|source| self.failure(&self.path, source))
    }

    fn failure(&self, path: &Path, source: std::io::Error) -> StoreError {
        StoreError::File { path: path.to_owned(), source }
    }
}

impl ScheduleStore for FileStore {
    async fn lead(&mut self) -> Result<Standing, StoreError> {
        if self.lock.is_some() {
            return Ok(Standing::Leader);
        }
        let path = beside(&self.path, "lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|source| self.failure(&path, source))?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(Standing::Leader)
            }
            Err(TryLockError::WouldBlock) => Ok(Standing::StandBy),
            Err(TryLockError::Error(source)) => Err(self.failure(&path, source)),
        }
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn open(
        &mut self,
        configured: &[Entry],
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> Result<(), StoreError> {
        let content = self.read()?;
        self.entries = configured.iter().map(|entry| (entry.name.clone(), entry.clone())).collect();
        for (name, entry) in &mut self.entries {
            match content.entries.get(name) {
                Some(memory) => entry.remember(memory.last_run_at, memory.total_run_count),
                None => entry.remember(Some(entry.last_run_at.unwrap_or(now)), 0),
            }
        }
        self.looks =
            self.entries.iter().map(|(name, entry)| (name.clone(), entry.next_look(now, terms))).collect();
        self.pending = content.pending;
        self.pending.retain(|name, _| self.entries.contains_key(name));
        self.write()
    }

    async fn look(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        let due = self.looks.iter().filter(|(_, look)| **look <= now);
        let entries = due.filter_map(|(name, _)| self.entries.get(name).cloned()).collect();
        let later = self.looks.values().filter(|look| **look > now && **look <= now + horizon);
        Ok(Look { entries, next: later.min().copied() })
    }

    async fn reschedule(&mut self, entry: &Entry, next: DateTime<Utc>) -> Result<(), StoreError> {
        self.looks.insert(entry.name.clone(), next);
        Ok(())
    }

    async fn record(
        &mut self,
        entry: &Entry,
        next: DateTime<Utc>,
        run: &Run,
    ) -> Result<Recorded, StoreError> {
        if self.lock.is_none() {
            return Ok(Recorded::NotLeader);
        }
        if !self.entries.contains_key(&entry.name) {
            return Ok(Recorded::Gone);
        }
        self.entries.insert(entry.name.clone(), entry.clone());
        self.looks.insert(entry.name.clone(), next);
        self.pending.insert(run.entry.clone(), run.clone());
        self.write()?;
        Ok(Recorded::Recorded)
    }

    async fn pending(&mut self) -> Result<Vec<Run>, StoreError> {
        Ok(self.pending.values().cloned().collect())
    }

    async fn sent(&mut self, run: &Run) -> Result<(), StoreError> {
        if self.pending.get(&run.entry).is_some_and(|pending| pending.id == run.id) {
            self.pending.remove(&run.entry);
            self.write()?;
        }
        Ok(())
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        self.lock = None;
        Ok(())
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
