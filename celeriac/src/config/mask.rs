//! Hiding secrets in settings that are shown.

use serde_json::{Map, Value};

use super::url::{MASK, Url};

/// Replaces the secret values of a settings mapping by `********`, in nested mappings and lists too, and masks the
/// passwords of URLs.
///
/// What counts as secret is Celery's list (`HIDDEN_SETTINGS` in `celery/app/utils.py`, celery 5.7), so that also
/// `task_default_routing_key` is masked, and the commands that yield credentials. Celery leaves lists and URLs under other names as they are; here they are
/// masked, too.
pub fn mask_settings(settings: &Map<String, Value>) -> Map<String, Value> {
    settings.iter().map(|(key, value)| (key.clone(), mask_value(key, value))).collect()
}

pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    [
        "API",
        "TOKEN",
        "KEY",
        "SECRET",
        "PASS",
        "PROFANITIES_LIST",
        "SIGNATURE",
        "DATABASE",
        "BEAT_DBURI",
        "CREDENTIAL",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// The value of a setting, masked as [`mask_settings`] does it.
pub(super) fn mask_value(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(entries) => Value::Object(mask_settings(entries)),
        _ if is_secret(key) => Value::from(MASK),
        Value::Array(items) => items.iter().map(|item| mask_value(key, item)).collect(),
        Value::String(text) if text.contains("://") || is_url(key) => {
            Value::from(Url::new(text.as_str()).masked())
        }
        _ => value.clone(),
    }
}

/// Whether a setting holds a URL, or what is meant for one.
fn is_url(key: &str) -> bool {
    key.ends_with("url") || key == "result_backend"
}
