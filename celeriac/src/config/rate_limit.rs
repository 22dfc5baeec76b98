//! Rate limits such as `10/s`, `100/m`, `5/h`.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::value::{SettingValue, number};

/// How many tasks of a type a worker starts in a time. Source: `celery/utils/time.py` (`rate`), celery 5.7.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    count: f64,
    unit: Option<Unit>,
}

/// The lowest rate, one start in some 30 years, so that no clock overflows.
const LEAST_RATE: f64 = 1e-9;

/// The time that a count is for; a second if not given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    fn seconds(self) -> f64 {
        match self {
            Unit::Second => 1.0,
            Unit::Minute => 60.0,
            Unit::Hour => 3600.0,
        }
    }
}

impl RateLimit {
    /// A limit in tasks per second; `None` if the number is not above zero, which means no limit.
    pub fn per_second(rate: f64) -> Option<Self> {
        (rate.is_finite() && rate > 0.0).then_some(Self { count: rate, unit: None })
    }

    /// Reads `10`, `0.5`, `10/s`, `100/m`, `5/h`. `Ok(None)` is no limit: 0 or empty.
    ///
    /// # Errors
    /// When the text is none of these; the error says what would be right.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let (count, unit) = match text.split_once('/') {
            None => (text, None),
            Some((count, unit)) => match unit.trim() {
                "s" => (count, Some(Unit::Second)),
                "m" => (count, Some(Unit::Minute)),
                "h" => (count, Some(Unit::Hour)),
                _ => return Err(Self::expected()),
            },
        };
        let count: f64 = count.trim().parse().map_err(|_| Self::expected())?;
        if !count.is_finite() || count < 0.0 {
            return Err(Self::expected());
        }
        Ok((count > 0.0).then_some(Self { count, unit }))
    }

    /// Tasks per second.
    pub fn rate(self) -> f64 {
        (self.count / self.unit.map_or(1.0, Unit::seconds)).max(LEAST_RATE)
    }

    /// The time between two starts.
    pub fn interval(self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.rate()).unwrap_or(Duration::MAX)
    }
}

/// As it was given: `10/s`, `100/m`, `0.5`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            None => "",
            Some(Unit::Second) => "/s",
            Some(Unit::Minute) => "/m",
            Some(Unit::Hour) => "/h",
        };
        write!(f, "{}{unit}", self.count)
    }
}

impl SettingValue for RateLimit {
    fn expected() -> String {
        "a rate such as 10/s, 100/m or 5/h".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => Self::from_text(&number.to_string()),
            Value::String(text) => Self::from_text(text),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)?.ok_or_else(Self::expected)
    }

    fn to_json(&self) -> Value {
        if self.unit.is_some() { Value::from(self.to_string()) } else { number(self.count) }
    }

    fn means_nothing(text: &str) -> bool {
        Self::parse(text) == Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_celery_reads_them() {
        for (text, per_second) in [("10/s", 10.0), ("90/m", 1.5), ("1800/h", 0.5), ("0.5", 0.5), (" 3 ", 3.0)]
        {
            let limit = RateLimit::parse(text).unwrap().unwrap();
            assert_eq!((limit.rate(), limit.to_string().as_str()), (per_second, text.trim()));
        }
        assert_eq!(RateLimit::parse("0"), Ok(None));
        assert_eq!(RateLimit::parse(""), Ok(None));
        for text in ["10/d", "fast", "-1/s", "1/", "/s", "nan", "inf/s"] {
            assert!(RateLimit::parse(text).is_err(), "{text}");
        }
    }
}
