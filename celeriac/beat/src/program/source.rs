//! Where configured entries come from: the settings, files and directories of files, which may change while beat runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use celeriac::config::Config;
use log::{error, info};
use serde_json::{Map, Value};
use tokio::sync::mpsc::Sender;

use super::BeatError;
use crate::configured::{Builder, Configured};
use crate::entry::Entry;

/// A file larger than this, in bytes, is read in parts.
const PART: usize = 256 * 1024;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where configured entries come from. Later ones replace earlier ones of the same name: the built-in text, the files in
/// their order, the setting `beat_schedule`.
#[derive(Clone, Debug, Default)]
pub struct Source {
    built_in: Option<&'static str>,
    /// Files and directories.
    paths: Vec<PathBuf>,
    /// The file of settings, if there is one.
    config: Option<PathBuf>,
    /// The setting `beat_schedule` where there is none.
    settings: Map<String, Value>,
    /// Entries made in code.
    entries: Vec<Entry>,
}

impl Source {
    /// The entries of the setting `beat_schedule`; those of `file`, if that is where settings come from, are read again when
    /// it changes.
    pub fn settings(config: &Config, file: Option<PathBuf>) -> Self {
        let file = file.or_else(|| std::env::var_os("CELERY_CONFIG_FILE").map(PathBuf::from));
        let config_file = file.filter(|file| !file.as_os_str().is_empty());
        Self { settings: config.beat_schedule.clone(), config: config_file, ..Self::default() }
    }

    /// The same with the entries of a file, or of all files of a directory.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// The same with entries that are in the program, as TOML.
    #[must_use]
    pub fn built_in(self, text: &'static str) -> Self {
        Self { built_in: Some(text), ..self }
    }

    /// The same with entries made in code.
    #[must_use]
    pub fn entries(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.entries.extend(entries);
        self
    }

    /// Reads all entries.
    ///
    /// # Errors
    /// When a file cannot be read, and every entry that is not valid.
    pub fn read(&self) -> Result<Configured, BeatError> {
        let mut builder = Builder::naming(self.calendars()?);
        self.entries.iter().for_each(|entry| builder.push(entry));
        if let Some(text) = self.built_in {
            builder.extend(entries_of(text, Path::new("built-in.toml"))?);
        }
        for path in &self.paths {
            for file in files_of(path)? {
                read_file(&file, &mut builder)?;
            }
        }
        match &self.config {
            Some(file) => {
                let config = Config::default().load(Some(file.as_path()));
                builder.extend(config.map_err(|error| BeatError::Settings(error.to_string()))?.beat_schedule);
            }
            None => builder.extend(self.settings.clone()),
        }
        Ok(builder.finish()?)
    }

    /// The calendars of all files, which entries of any file may name.
    fn calendars(&self) -> Result<Map<String, Value>, BeatError> {
        let mut calendars = Map::new();
        for path in &self.paths {
            for file in files_of(path)? {
                calendars.extend(calendars_of(&text_of(&file)?, &file)?);
            }
        }
        Ok(calendars)
    }

    /// Reads the entries again whenever a file has changed or somebody asks, and sends them on. While they cannot be read,
    /// the ones before stay.
    pub(super) async fn watch(
        self,
        reloads: Sender<Configured>,
        mut asked: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<()>,
    ) {
        let mut seen = self.fingerprint();
        loop {
            let is_asked = tokio::select! {
                () = std::future::poll_fn(&mut asked) => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = self.fingerprint();
            if now == seen && !is_asked {
                continue;
            }
            seen = now;
            match self.read() {
                Ok(configured) => {
                    if reloads.send(configured).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    error!(
                        "the schedule has changed but cannot be read; beat goes on with the one before: {error}"
                    );
                }
            }
            if is_asked {
                info!("SIGHUP: the schedule is read again");
            }
        }
    }

    /// What changes when a file does.
    fn fingerprint(&self) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
        let files = self.paths.iter().flat_map(|path| files_of(path).unwrap_or_else(|_| vec![path.clone()]));
        files
            .chain(self.config.clone())
            .map(|file| {
                let about = fs::metadata(&file).ok();
                let state = about.and_then(|about| Some((about.modified().ok()?, about.len())));
                (file, state)
            })
            .collect()
    }
}

/// The file itself, or the files of a directory, in the order of their names. Kubernetes mounts a `ConfigMap` as links beside
/// directories whose names begin with dots.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, BeatError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = |reason: std::io::Error| wrong(path, reason);
    let mut files: Vec<PathBuf> = Vec::new();
    for item in fs::read_dir(path).map_err(wrong)? {
        let file = item.map_err(wrong)?.path();
        let is_hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_schedule =
            file.extension().is_some_and(|extension| extension == "toml" || extension == "json");
        if is_schedule && !is_hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn text_of(path: &Path) -> Result<String, BeatError> {
    fs::read_to_string(path).map_err(|error| wrong(path, error))
}

fn read_file(path: &Path, builder: &mut Builder) -> Result<(), BeatError> {
    let text = text_of(path)?;
    if text.len() > PART && path.extension().is_some_and(|extension| extension == "toml") {
        let calendars = builder.calendars();
        let parts: Option<Vec<Configured>> =
            parts_of(&text).map(|part| read_part(part, path, calendars)).collect();
        if let Some(parts) = parts {
            parts.into_iter().for_each(|part| builder.append(part));
            return Ok(());
        }
    }
    builder.extend(entries_of(&text, path)?);
    Ok(())
}

/// The entries of a part of a file; nothing where it is none by itself, because it was cut within a text or an entry.
fn read_part(text: &str, path: &Path, calendars: &Map<String, Value>) -> Option<Configured> {
    let mut builder = Builder::naming(calendars.clone());
    builder.extend(entries_of(text, path).ok()?);
    builder.finish().ok()
}

/// A large TOML text in parts, cut where an entry begins: read at once it takes twenty times its size.
fn parts_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = rest.len().min(PART);
        let from = (from..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let cut = rest[from..].find("\n[beat_schedule.").map_or(rest.len(), |at| from + at + 1);
        let (part, others) = rest.split_at(cut);
        rest = others;
        Some(part)
    })
}

/// The table `beat_schedule` of a text; all of it where there is no such table.
fn entries_of(text: &str, path: &Path) -> Result<Map<String, Value>, BeatError> {
    let mut whole = mapping_of(text, path)?;
    let entries = whole.shift_remove("beat_schedule");
    if entries.is_some() || whole.get("calendars").is_some_and(is_calendars) {
        whole.shift_remove("calendars");
    }
    match entries {
        None => Ok(whole),
        Some(Value::Object(entries)) => Ok(entries),
        Some(_) => Err(wrong(path, "beat_schedule is not a mapping of entries")),
    }
}

/// The table `calendars` of a text: names, each with its days.
fn calendars_of(text: &str, path: &Path) -> Result<Map<String, Value>, BeatError> {
    let mut calendars = Map::new();
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let parts: Vec<&str> = if is_json || text.len() <= PART { vec![text] } else { parts_of(text).collect() };
    for part in parts.into_iter().filter(|part| part.contains("calendars")) {
        // A part that cannot be read by itself has none; the whole is read after this.
        let Ok(mut whole) = mapping_of(part, path) else { continue };
        if let Some(Value::Object(found)) = whole.shift_remove("calendars").filter(is_calendars) {
            calendars.extend(found);
        }
    }
    Ok(calendars)
}

/// Returns whether a value is a table of calendars, rather than an entry of that name.
fn is_calendars(value: &Value) -> bool {
    value.as_object().is_some_and(|calendars| calendars.values().all(Value::is_array))
}

fn mapping_of(text: &str, path: &Path) -> Result<Map<String, Value>, BeatError> {
    let value: Value = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(text).map_err(|error| wrong(path, error))?
    } else {
        toml::from_str(text).map_err(|error| wrong(path, error))?
    };
    match value {
        Value::Object(whole) => Ok(whole),
        _ => Err(wrong(path, "a mapping of entries is expected")),
    }
}

fn wrong(path: &Path, reason: impl ToString) -> BeatError {
    BeatError::Source { path: path.to_owned(), reason: reason.to_string() }
}
