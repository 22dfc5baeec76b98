//! The files of the file store: a whole one, what happened since line by line, and what operators ask for.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::entry::{History, Run};

/// After so many lines, and four for each entry, the whole file is written anew.
const LINES: usize = 1000;

/// What is remembered of an entry.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) last_run_at: Option<DateTime<Utc>>,
    pub(super) total_run_count: u64,
    /// Whether it is enabled, where an operator says otherwise than the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) switched: Option<bool>,
    /// Whether the configuration said that it is enabled.
    #[serde(default = "yes")]
    pub(super) configured: bool,
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub(super) history: History,
}

fn yes() -> bool {
    true
}

/// What the whole file holds.
#[derive(Default, Serialize, Deserialize)]
struct Content {
    entries: BTreeMap<String, Memory>,
    #[serde(default)]
    pending: BTreeMap<String, Run>,
}

/// A line of the journal.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Record<'a> {
    /// What is remembered of an entry, and the runs that are to be sent.
    Change { entry: &'a str, memory: &'a Memory, runs: &'a [Run] },
    /// A run that was sent.
    Sent { id: Uuid },
}

/// A line of the journal, as it is read.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Change { entry: String, memory: Box<Memory>, runs: Vec<Run> },
    Sent { id: Uuid },
}

pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    lines: usize,
}

impl Journal {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, lines: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    pub(super) fn is_long(&self, entries: usize) -> bool {
        self.lines > LINES + 4 * entries
    }

    /// What the files remember. One that cannot be read is put aside: the schedule itself is configured; only last runs are
    /// lost, which must not stop beat.
    pub(super) fn read(&self) -> io::Result<(BTreeMap<String, Memory>, BTreeMap<Uuid, Run>)> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => b"{\"entries\": {}}".to_vec(),
            Err(error) => return Err(error),
        };
        let content: Content = match serde_json::from_slice(&text) {
            Ok(content) => content,
            Err(error) => {
                let aside = beside(&self.path, "unreadable");
                warn!(
                    "schedule file {} cannot be read ({error}); it is kept as {}, last runs are forgotten",
                    self.path.display(),
                    aside.display()
                );
                std::fs::rename(&self.path, &aside)?;
                Content::default()
            }
        };
        let mut entries = content.entries;
        let mut pending: BTreeMap<Uuid, Run> =
            content.pending.into_values().map(|run| (run.id, run)).collect();
        let journal = std::fs::read_to_string(beside(&self.path, "journal")).unwrap_or_default();
        for line in journal.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Change { entry, memory, runs }) => {
                    entries.insert(entry, *memory);
                    pending.extend(runs.into_iter().map(|run| (run.id, run)));
                }
                Ok(Line::Sent { id }) => drop(pending.remove(&id)),
                // The last line of a beat that died while it wrote: its run was not sent.
                Err(_) => {}
            }
        }
        Ok((entries, pending))
    }

    /// Writes a new file and puts it into the place of the old one; the journal begins anew.
    pub(super) fn write(
        &mut self,
        entries: BTreeMap<String, Memory>,
        pending: &BTreeMap<Uuid, Run>,
    ) -> io::Result<()> {
        let pending = pending.iter().map(|(id, run)| (id.to_string(), run.clone())).collect();
        let new = beside(&self.path, "new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&Content { entries, pending })?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        self.file = Some(File::create(beside(&self.path, "journal"))?);
        self.lines = 0;
        Ok(())
    }

    pub(super) fn append(&mut self, records: &[Record<'_>], to_disk: bool) -> io::Result<()> {
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let path = beside(&self.path, "journal");
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).open(path)?),
        };
        file.write_all(&text)?;
        if to_disk {
            file.sync_data()?;
        }
        self.lines += records.len();
        Ok(())
    }

    /// Asks the beat that leads to switch an entry on or off.
    pub(super) fn ask_to_switch(&self, name: &str, enabled: bool) -> io::Result<()> {
        let path = beside(&self.path, "switches");
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", json!([name, enabled]))
    }

    /// Takes what was asked for.
    pub(super) fn take_switches(&self) -> io::Result<Vec<(String, bool)>> {
        let taken = beside(&self.path, "switching");
        match std::fs::rename(beside(&self.path, "switches"), &taken) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let text = std::fs::read_to_string(&taken)?;
        std::fs::remove_file(&taken)?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter_map(|line| Some((line[0].as_str()?.to_owned(), line[1].as_bool()?))).collect())
    }
}

pub(super) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
