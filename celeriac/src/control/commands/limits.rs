//! How often and how long tasks may run.

use super::{Answer, Arguments, Failed, Panel, nok, ok};
use crate::config::RateLimit;
use crate::control::python;
use crate::message::{TimeLimit, Value};

pub(super) fn rate_limit(panel: &Panel, arguments: &Arguments) -> Answer {
    let task = arguments.text("task_name").unwrap_or_default();
    let limit = match rate(arguments.get("rate_limit")) {
        Ok(limit) => limit,
        Err(Failed::Raised(error)) if error.starts_with("ValueError") => {
            return Ok(nok(format!("Invalid rate limit string: {error}")));
        }
        Err(error) => return Err(error),
    };
    if !is_registered(panel, task) {
        log::error!(task_name = task; "Rate limit attempt for unknown task {task}");
        return Ok(nok("unknown task"));
    }
    let text = arguments.get("rate_limit").map(python::str).unwrap_or_default();
    panel.worker().set_rate_limit(task, limit, &text);
    match limit {
        Some(_) => {
            log::info!(task_name = task; "New rate limit for tasks of type {task}: {text}.");
            Ok(ok("new rate limit set successfully"))
        }
        None => {
            log::info!(task_name = task; "Rate limits disabled for tasks of type {task}");
            Ok(ok("rate limit disabled successfully"))
        }
    }
}

pub(super) fn time_limit(panel: &Panel, arguments: &Arguments) -> Answer {
    let task = arguments.text("task_name").unwrap_or_default();
    if !is_registered(panel, task) {
        log::error!(task_name = task; "Change time limit attempt for unknown task {task}");
        return Ok(nok("unknown task"));
    }
    let seconds = |name: &str| match arguments.get(name) {
        None => Ok(None),
        Some(value) => match arguments.number(name) {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some(seconds)),
            _ => Err(Failed::raised(
                "ValueError",
                format!("{name} is no time in seconds: {}", python::str(value)),
            )),
        },
    };
    let limits = TimeLimit { hard: seconds("hard")?, soft: seconds("soft")? };
    panel.worker().set_time_limits(task, limits);
    log::info!(task_name = task; "New time limits for tasks of type {task}: soft={:?} hard={:?}", limits.soft, limits.hard);
    Ok(ok("time limits set successfully"))
}

/// Reads a rate limit as `celery/utils/time.py` `rate` does, with its errors.
fn rate(limit: Option<&Value>) -> Result<Option<RateLimit>, Failed> {
    let per_second = match limit {
        Some(value) if !python::is_true(value) => return Ok(None),
        None => return Ok(None),
        Some(Value::Str(text)) => {
            let (count, unit) = text.split_once('/').unwrap_or((text, ""));
            let seconds = match unit {
                "" | "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                unknown => return Err(Failed::raised("KeyError", unknown)),
            };
            let count: f64 = count.trim().parse().map_err(|_| {
                Failed::raised(
                    "ValueError",
                    format!("could not convert string to float: {}", crate::message::repr(&count.into())),
                )
            })?;
            count / seconds
        }
        Some(value) => value.as_f64().ok_or_else(|| {
            Failed::raised("ValueError", format!("not a rate: {}", crate::message::repr(value)))
        })?,
    };
    if per_second < 0.0 || !per_second.is_finite() {
        return Err(Failed::raised("ValueError", format!("not a rate: {per_second} per second")));
    }
    Ok(RateLimit::per_second(per_second))
}

fn is_registered(panel: &Panel, task: &str) -> bool {
    panel.worker().tasks().iter().any(|definition| &*definition.name == task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_celery_reads_them() {
        let per_second = |limit: Value| rate(Some(&limit)).unwrap().map(RateLimit::rate);
        assert_eq!(per_second("90/m".into()), Some(1.5));
        assert_eq!(per_second(10.into()), Some(10.0));
        assert_eq!(per_second("0.5".into()), Some(0.5));
        assert_eq!(per_second("0".into()), None);
        assert_eq!(per_second(0.into()), None);
        assert_eq!(rate(None), Ok(None));
        assert_eq!(
            rate(Some(&"abc".into())).unwrap_err().to_string(),
            "ValueError(\"could not convert string to float: 'abc'\")"
        );
        assert_eq!(rate(Some(&"1/d".into())).unwrap_err().to_string(), "KeyError('d')");
    }
}
