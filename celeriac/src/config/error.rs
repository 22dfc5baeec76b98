//! What can be wrong with a setting.

use std::path::PathBuf;

/// A setting that cannot be used. Secrets are masked in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("unknown setting `{name}` ({origin}){}", suggestion.map_or(String::new(), |near| format!("\nhint: did you mean `{near}`?")))]
    Unknown {
        /// The name as given.
        name: String,
        /// Where it was given: a file, an environment variable, an option.
        origin: String,
        /// The setting whose name is closest, if one is near.
        suggestion: Option<&'static str>,
    },
    /// The value is not one that the setting takes.
    #[error("setting `{name}` ({origin}): {value} is not valid, expected {expected}")]
    Invalid {
        /// Name of the setting.
        name: &'static str,
        /// Where it was given.
        origin: String,
        /// The value as given; masked where the setting is secret.
        value: String,
        /// What the setting takes.
        expected: String,
    },
    /// The settings file cannot be read.
    #[error("cannot read settings file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings file is not TOML.
    #[error("settings file {origin} is not valid TOML: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// What the parser found and where; without the text of the line, which may be secret.
        message: String,
    },
}
