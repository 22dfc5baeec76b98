use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ChannelError, Notification};
use crate::combine::Combiner;

pub(super) const NAME: &str = "file";

/// Appends each notification as a line of JSON to a file.
///
/// The file is locked and searched before lines are added, so that it holds a reminder once, however many processes write.
/// What is sent at the same time is written together.
pub(super) struct FileChannel {
    lines: Combiner<(Uuid, Value), Result<(), ChannelError>>,
}

const MOST_LINES: usize = 256;

struct Outbox {
    path: PathBuf,
    /// How far the file has been read.
    read_to: u64,
    /// The reminders in what has been read.
    delivered: HashSet<Uuid>,
}

impl FileChannel {
    pub(super) fn open(path: &Path) -> Result<Self, ChannelError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unavailable(folder, &error))?;
        }
        let outbox = Outbox { path: path.to_owned(), read_to: 0, delivered: HashSet::new() };
        let outbox = Arc::new(Mutex::new(outbox));
        let lines = Combiner::new(MOST_LINES, move |lines: Vec<(Uuid, Value)>| {
            let (outbox, count) = (Arc::clone(&outbox), lines.len());
            async move {
                let append = move || {
                    let mut outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
                    outbox.append(&lines).map_err(|error| (outbox.path.clone(), error))
                };
                let written = tokio::task::spawn_blocking(append).await;
                let result = || match &written {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err((path, error))) => Err(unavailable(path, error)),
                    Err(error) => Err(ChannelError::Unknown { channel: NAME, reason: error.to_string() }),
                };
                (0..count).map(|_| result()).collect()
            }
        });
        Ok(Self { lines })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<(), ChannelError> {
        let line = json!({
            "delivered_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, false),
            "reminder_id": notification.reminder_id,
            "to": notification.email,
            "text": notification.text,
            "due": notification.due,
        });
        let lost = || ChannelError::Unknown { channel: NAME, reason: "the writer has ended".to_owned() };
        self.lines.call((notification.reminder_id, line)).await.ok_or_else(lost)?
    }
}

impl Outbox {
    fn append(&mut self, lines: &[(Uuid, Value)]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        file.lock()?;
        let ends_within_a_line = self.read_news(&mut file)?;
        let mut text = if ends_within_a_line { "\n".to_owned() } else { String::new() };
        let mut added = HashSet::new();
        for (id, line) in lines.iter().filter(|(id, _)| !self.delivered.contains(id)) {
            if added.insert(*id) {
                text.push_str(&format!("{line}\n"));
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    /// Reads what others have added; whether the file ends within a line, left by a write that was cut short.
    fn read_news(&mut self, file: &mut File) -> io::Result<bool> {
        if file.metadata()?.len() < self.read_to {
            self.read_to = 0;
            self.delivered.clear();
        }
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)? as u64;
            if line.last() != Some(&b'\n') {
                return Ok(length > 0);
            }
            self.read_to += length;
            let entry: Value = serde_json::from_slice(&line).unwrap_or_default();
            self.delivered.extend(entry["reminder_id"].as_str().and_then(|id| id.parse::<Uuid>().ok()));
        }
    }
}

fn unavailable(path: &Path, error: &io::Error) -> ChannelError {
    ChannelError::Unavailable { channel: NAME, reason: format!("{}: {error}", path.display()) }
}
