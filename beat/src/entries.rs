//! What the companion's beat sends: the entries of `infra/beat.toml`, which an operator edits.

use std::path::Path;

use anyhow::Context;
use celeriac::config::Config;
use celeriac_beat::Entry;

/// The queue of the companion's tasks.
pub(crate) const QUEUE: &str = "default";

/// Where the file is looked for: in a clone, and in the image's working directory.
const FILE: &str = "infra/beat.toml";

/// The file as it was when the program was built.
const BUILT_IN: &str = include_str!("../../infra/beat.toml");

/// Reads the entries of a file (by default [`FILE`] where it exists, else its built-in copy), and those of the setting
/// `beat_schedule`, which replace one of the same name.
///
/// # Errors
/// When the file cannot be read, or an entry is not valid.
pub(crate) fn read(file: Option<&Path>, config: &Config) -> anyhow::Result<Vec<Entry>> {
    let mut own = Config::default();
    let file = file.or_else(|| Some(Path::new(FILE)).filter(|file| file.exists()));
    match file {
        Some(file) => own.merge_file(file)?,
        None => own.merge_toml(BUILT_IN, "the built-in infra/beat.toml")?,
    }
    let mut schedule = own.beat_schedule;
    schedule.extend(config.beat_schedule.iter().map(|(name, entry)| (name.clone(), entry.clone())));
    Entry::from_settings(&schedule).context("beat_schedule")
}
