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
        let mut builder = Builder::default();
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
    let wrong =
        |reason: std::io::Error| BeatError::Source { path: path.to_owned(), reason: reason.to_string() };
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

fn read_file(path: &Path, builder: &mut Builder) -> Result<(), BeatError> {
    let text = fs::read_to_string(path)
        .map_err(|error| BeatError::Source { path: path.to_owned(), reason: error.to_string() })?;
    if text.len() > PART && path.extension().is_some_and(|extension| extension == "toml") {
        let parts: Option<Vec<Configured>> = parts_of(&text).map(|part| read_part(part, path)).collect();
        if let Some(parts) = parts {
            parts.into_iter().for_each(|part| builder.append(part));
            return Ok(());
        }
    }
    builder.extend(entries_of(&text, path)?);
    Ok(())
}

/// The entries of a part of a file; nothing where it is none by itself, because it was cut within a text or an entry.
fn read_part(text: &str, path: &Path) -> Option<Configured> {
    let mut builder = Builder::default();
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
    let wrong = |reason: String| BeatError::Source { path: path.to_owned(), reason };
    let value: Value = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?
    } else {
        toml::from_str(text).map_err(|error| wrong(error.to_string()))?
    };
    let Value::Object(mut whole) = value else {
        return Err(wrong("a mapping of entries is expected".to_owned()));
    };
    match whole.shift_remove("beat_schedule") {
        None => Ok(whole),
        Some(Value::Object(entries)) => Ok(entries),
        Some(_) => Err(wrong("beat_schedule is not a mapping of entries".to_owned())),
    }
}
