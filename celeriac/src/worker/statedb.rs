//! The file that keeps revoked tasks over a restart (`worker_state_db`, `--statedb`).
//!
//! Celery keeps the same in a `shelve` database (celery 5.7 `celery/worker/state.py` `Persistent`); this is JSON:
//! `{"version": 1, "clock": 7, "revoked": {"<task id>": <unix seconds>}, "stamps": {"<name>": [<value>]}}`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::heavy::aside;
use crate::message::{Map, Value, json};
use crate::node::{Revoked, WorkerState, lock};
use crate::repeats::Repeats;

const VERSION: i64 = 1;
/// How often changes are written.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateDbError {
    #[error(
        "cannot {action} the state file {path}: {source}\nhint: worker_state_db names a file in a folder that the worker may write"
    )]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "the state file {path} cannot be read: {reason}\nhint: remove it, or let worker_state_db name another; Celery's own files are of another form"
    )]
    Content { path: PathBuf, reason: String },
}

/// A state file.
pub(crate) struct StateDb {
    path: PathBuf,
    saved: u64,
}

impl StateDb {
    /// Takes over what the file holds; one that does not exist holds nothing.
    pub(crate) fn open(path: PathBuf, state: &WorkerState) -> Result<Self, StateDbError> {
        match std::fs::read(&path) {
            Ok(content) => {
                restore(&content, state)
                    .map_err(|reason| StateDbError::Content { path: path.clone(), reason })?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StateDbError::File { action: "read", path, source }),
        }
        let mut this = Self { path, saved: 0 };
        // Tells now, and not at the first revocation, when the file cannot be written.
        this.save(state)?;
        Ok(this)
    }

    /// Writes each change soon after it happened, and once more in the end.
    pub(crate) async fn keep(mut self, state: Arc<WorkerState>, stop: CancellationToken) {
        let mut failures = Repeats::default();
        loop {
            let is_last = tokio::select! {
                () = tokio::time::sleep(SAVE_EVERY) => false,
                () = stop.cancelled() => true,
            };
            if is_last || lock(&state.revoked).changes() != self.saved {
                match self.save(&state) {
                    Ok(()) => {
                        if let Some(count) = failures.end() {
                            log::info!(path:% = self.path.display(), count; "Revoked tasks are kept in {} again, after {count} failed attempt(s)", self.path.display());
                        }
                    }
                    Err(error) => match failures.note(&error.to_string()) {
                        Some(count) => {
                            log::error!(error:% = error, count; "Revoked tasks are not kept ({count} attempt(s) so far, the next in a second): {error}");
                        }
                        None => {
                            log::debug!(error:% = error; "The state file cannot be written again: {error}")
                        }
                    },
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn save(&mut self, state: &WorkerState) -> Result<(), StateDbError> {
        let (content, changes) = {
            let revoked = lock(&state.revoked);
            (content(&revoked, state.clock.value()), revoked.changes())
        };
        let write = || replace(&self.path, json::dumps(&content).as_bytes());
        aside(write).map_err(|source| StateDbError::File {
            action: "write",
            path: self.path.clone(),
            source,
        })?;
        self.saved = changes;
        Ok(())
    }
}

fn content(revoked: &Revoked, clock: u64) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ids = revoked
        .ages()
        .map(|(id, age)| (id.to_owned(), Value::Float(now.saturating_sub(age).as_secs_f64())))
        .collect();
    let stamps =
        revoked.stamps().iter().map(|(name, values)| (name.clone(), Value::List(values.clone()))).collect();
    Value::Map(Map::from([
        ("version".to_owned(), Value::Int(VERSION)),
        ("clock".to_owned(), Value::from(clock)),
        ("revoked".to_owned(), Value::Map(ids)),
        ("stamps".to_owned(), Value::Map(stamps)),
    ]))
}

fn restore(content: &[u8], state: &WorkerState) -> Result<(), String> {
    let content = json::loads(content).map_err(|error| error.to_string())?;
    match content.get("version").and_then(Value::as_i64) {
        Some(VERSION) => {}
        other => return Err(format!("its version is {other:?}, expected {VERSION}")),
    }
    if let Some(clock) =
        content.get("clock").and_then(Value::as_i64).and_then(|clock| u64::try_from(clock).ok())
    {
        state.clock.adjust(clock);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut revoked = lock(&state.revoked);
    // As they are written, the oldest first.
    let ids: Vec<(&str, Duration)> = content
        .get("revoked")
        .and_then(Value::as_map)
        .into_iter()
        .flatten()
        .filter_map(|(id, time)| {
            let time = Duration::try_from_secs_f64(time.as_f64()?).ok()?;
            Some((id.as_str(), now.saturating_sub(time)))
        })
        .collect();
    ids.into_iter().for_each(|(id, age)| revoked.add_aged(id, age));
    for (name, values) in content.get("stamps").and_then(Value::as_map).into_iter().flatten() {
        revoked.add_stamp(name, values.as_list().unwrap_or_default().to_vec());
    }
    Ok(())
}

/// Replaces a file, so that at each time it is either the old or the new one.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let mut file = std::fs::File::create(&new)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&new, path)).inspect_err(|_| drop(std::fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_revoked_is_revoked_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.state");
        let first = WorkerState::new("w@h".to_owned());
        let mut file = StateDb::open(path.clone(), &first).unwrap();
        lock(&first.revoked).add("one");
        lock(&first.revoked).add("two");
        lock(&first.revoked).add_stamp("tenant", vec![Value::from("acme")]);
        first.clock.adjust(41);
        file.save(&first).unwrap();

        let second = WorkerState::new("w@h".to_owned());
        StateDb::open(path, &second).unwrap();
        let revoked = lock(&second.revoked);
        assert_eq!(revoked.ids(), ["one", "two"]);
        assert_eq!(revoked.stamps()["tenant"], [Value::from("acme")]);
        assert!(second.clock.value() >= 41);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_id_that_was_revoked_long_ago_is_not_restored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, r#"{"version": 1, "clock": 1, "revoked": {"old": 1000.5}, "stamps": {}}"#)
            .unwrap();
        let state = WorkerState::new("w@h".to_owned());
        StateDb::open(path, &state).unwrap();
        assert!(lock(&state.revoked).is_empty());
    }

    #[test]
    fn a_file_of_another_form_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, b"\0GDBM").unwrap();
        let error = StateDb::open(path.clone(), &WorkerState::new("w@h".to_owned())).err().unwrap();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"\0GDBM");
    }
}
