//! The findings of an examination.

use std::fmt;

use serde::Serialize;

/// The weight of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// It is as it should be.
    Good,
    /// It could not be looked at, or matters to some applications only.
    Note,
    /// It will hurt under circumstances that occur.
    Warning,
    /// It loses, repeats or holds up tasks now, or will at the next outage.
    Problem,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was looked at, and what to do about it; see [`Celery::examine`](crate::Celery::examine).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Its weight.
    pub severity: Severity,
    /// The subject, in one or two words: `server`, `persistence`, `settings`, ...
    pub subject: &'static str,
    /// The observation.
    pub text: String,
    /// Advice.
    pub advice: Option<String>,
}

impl Finding {
    pub(crate) fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Good, subject, text: text.into(), advice: None }
    }

    pub(crate) fn note(subject: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::good(subject, text) }
    }

    pub(crate) fn warning(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, advice: Some(advice.into()), ..Self::good(subject, text) }
    }

    pub(crate) fn problem(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, advice: Some(advice.into()), ..Self::good(subject, text) }
    }

    /// Adds what to do.
    pub(crate) fn advising(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}
