//! One way of logging for all binaries: lines for people in development, JSON lines elsewhere.

use std::io::Write;

use chrono::{SecondsFormat, Utc};
use env_logger::fmt::Formatter;
use log::{Level, Record, kv};
use serde_json::{Map, Value};

use crate::settings::{Settings, SettingsError};

/// Starts logging to standard error, with the level and the form that the settings ask for.
///
/// `RUST_LOG`, where set, refines the level per module. A second call changes nothing.
pub fn init(settings: &Settings) {
    start(settings.log_level, settings.is_development());
}

/// Starts logging and names each setting that cannot be used, in the form in which the program would have logged with the
/// right ones.
pub fn report(error: &SettingsError) {
    start(error.log_level.max(log::LevelFilter::Error), error.is_development);
    for problem in &error.problems {
        log::error!("setting {problem}");
    }
}

fn start(level: log::LevelFilter, is_development: bool) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    // Statement logs of the database driver are noise at INFO.
    builder.filter_module("sqlx", level.min(log::LevelFilter::Warn));
    if let Ok(filters) = std::env::var("RUST_LOG") {
        builder.parse_filters(&filters);
    }
    builder.format(if is_development { write_line } else { write_json });
    let _already_started = builder.try_init();
}

fn write_line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let level = python_level(record.level());
    write!(out, "{} {level:<7} {}: {}", timestamp(), record.target(), record.args())?;
    for (key, value) in fields(record) {
        match value {
            Value::String(text) => write!(out, " {key}={text}")?,
            value => write!(out, " {key}={value}")?,
        }
    }
    writeln!(out)
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let mut line = Map::new();
    line.insert("timestamp".into(), timestamp().into());
    line.insert("level".into(), python_level(record.level()).into());
    line.insert("logger".into(), record.target().into());
    line.insert("message".into(), record.args().to_string().into());
    line.extend(fields(record));
    writeln!(out, "{}", Value::Object(line))
}

fn timestamp() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The names that the log searches of the runbook know.
fn python_level(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

fn fields(record: &Record<'_>) -> Vec<(String, Value)> {
    struct Collect(Vec<(String, Value)>);
    impl<'kvs> kv::VisitSource<'kvs> for Collect {
        fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push((key.to_string(), json(&value)));
            Ok(())
        }
    }
    let mut collect = Collect(Vec::new());
    // Collecting never fails: `visit_pair` returns no error.
    let _ = record.key_values().visit(&mut collect);
    collect.0
}

/// Numbers and truth values stay what they are, so that log searches can compare them.
fn json(value: &kv::Value<'_>) -> Value {
    if let Some(value) = value.to_bool() {
        return value.into();
    }
    if let Some(number) = value.to_u64() {
        return number.into();
    }
    if let Some(number) = value.to_i64() {
        return number.into();
    }
    value
        .to_f64()
        .and_then(serde_json::Number::from_f64)
        .map_or_else(|| value.to_string().into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_numbers() {
        for (value, expected) in [
            (kv::Value::from(200_u16), Value::from(200)),
            (kv::Value::from(-7_i64), Value::from(-7)),
            (kv::Value::from(0.5_f64), Value::from(0.5)),
            (kv::Value::from(true), Value::from(true)),
            (kv::Value::from("200"), Value::from("200")),
            (kv::Value::from_display(&7), Value::from("7")),
        ] {
            assert_eq!(json(&value), expected);
        }
    }
}
