//! How much memory a worker uses.

use std::fmt::Write;

use super::{Answer, Arguments, Failed, Panel, Value};
use crate::node::lock;

/// Samples that are remembered at most.
const SAMPLES: usize = 10_000;

pub(super) fn sample(panel: &Panel, _: &Arguments) -> Answer {
    let Some(used) = resident() else { return Ok(Value::Null) };
    let mut samples = lock(panel.memory_samples());
    if samples.len() < SAMPLES {
        samples.push(used.clone());
    }
    Ok(used.into())
}

pub(super) fn dump(panel: &Panel, arguments: &Arguments) -> Answer {
    let wanted = arguments.number("samples").unwrap_or(10.0).max(1.0) as usize;
    let samples = std::mem::take(&mut *lock(panel.memory_samples()));
    let mut text = String::new();
    if !samples.is_empty() {
        text.push_str("- rss (sample):\n");
        let step = (samples.len() / wanted).max(1);
        for sample in samples.iter().step_by(step).take(wanted) {
            // Writing into a `String` cannot fail.
            let _ = writeln!(text, "-    > {sample},");
        }
    }
    let _ = writeln!(text, "- rss (end): {}.", resident().as_deref().unwrap_or("unknown"));
    Ok(text.into())
}

/// Objects of this worker have no references that could be drawn.
pub(super) fn objgraph(_: &Panel, _: &Arguments) -> Answer {
    Err(Failed::raised("ImportError", "Requires the objgraph library"))
}

/// Resident memory, such as `12.5MB`; `None` where the system does not tell.
fn resident() -> Option<String> {
    resident_bytes().map(human)
}

/// Resident memory in bytes; `None` where the system does not tell.
pub(in crate::control) fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// `humanbytes` of `celery/utils/debug.py`.
fn human(bytes: f64) -> String {
    const UNITS: [(f64, &str); 4] =
        [(1_099_511_627_776.0, "TB"), (1_073_741_824.0, "GB"), (1_048_576.0, "MB"), (1_024.0, "KB")];
    match UNITS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => {
            let number = bytes / size;
            let decimals = 4_usize.saturating_sub(number.log10().max(0.0) as usize);
            let digits = format!("{number:.decimals$}");
            let digits = if digits.contains('.') {
                digits.trim_end_matches('0').trim_end_matches('.')
            } else {
                &digits
            };
            format!("{digits}{unit}")
        }
        None => format!("{bytes}b"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_five_digits() {
        for (bytes, text) in
            [(512.0, "512b"), (1536.0, "1.5KB"), (63_104.0 * 1024.0, "61.625MB"), (1e9, "953.67MB")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
