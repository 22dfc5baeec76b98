//! One field of a crontab: `*`, `*/15`, `1,13,30-45,50-59/2`, `mon-fri`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::Value;

/// One field: as it was written, and the numbers that it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct CronField {
    /// A number, a text, or a list of numbers: what RedBeat stores.
    original: Value,
    numbers: BTreeSet<u32>,
}

/// A field that is no crontab field; worded as Celery does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronFieldError {
    /// Nothing between two commas, or nothing at all.
    #[error("empty part")]
    EmptyPart,
    /// Nothing behind the slash.
    #[error("empty filter")]
    EmptyStep,
    /// A step of zero.
    #[error("slice step cannot be zero")]
    ZeroStep,
    /// A step that is no number.
    #[error("invalid step {0:?}")]
    InvalidStep(String),
    /// A part that begins with a minus sign.
    #[error("negative numbers not supported")]
    Negative,
    /// Neither a number nor the name of a weekday or month.
    #[error("Invalid weekday literal {0:?}.")]
    InvalidNumber(String),
    /// Above the highest number of the field.
    #[error("Invalid end range: {0} > {1}.")]
    AboveRange(i64, u32),
    /// Below the lowest number of the field.
    #[error("Invalid beginning range: {0} < {1}.")]
    BelowRange(i64, u32),
    /// Neither a number, a text, nor a list of numbers.
    #[error("a number, a text or a list of numbers is expected, not {0}")]
    InvalidType(String),
}

impl CronField {
    /// Reads a field whose numbers lie in `range`.
    ///
    /// # Errors
    /// When it is not in the grammar of Celery's `crontab_parser`.
    pub fn parse(spec: &Value, range: RangeInclusive<u32>) -> Result<Self, CronFieldError> {
        let field = Parser { low: *range.start(), high: *range.end() };
        let numbers = match spec {
            Value::String(text) => field.parse(text)?,
            Value::Array(items) => items.iter().map(|item| field.integer(item)).collect::<Result<_, _>>()?,
            Value::Null => (field.low..=field.high).collect(),
            number => BTreeSet::from([field.integer(number)?]),
        };
        if numbers.is_empty() {
            return Err(CronFieldError::EmptyPart);
        }
        let original = if spec.is_null() { Value::from("*") } else { spec.clone() };
        Ok(Self { original, numbers })
    }

    /// The numbers, in ascending order; never empty.
    pub fn numbers(&self) -> &BTreeSet<u32> {
        &self.numbers
    }

    /// As it was written.
    pub fn original(&self) -> &Value {
        &self.original
    }

    /// Whether the number is one of the field's.
    pub fn contains(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }
}

struct Parser {
    low: u32,
    high: u32,
}

impl Parser {
    fn parse(&self, spec: &str) -> Result<BTreeSet<u32>, CronFieldError> {
        let mut numbers = BTreeSet::new();
        for part in spec.split(',') {
            numbers.extend(self.part(part)?);
        }
        Ok(numbers)
    }

    fn part(&self, part: &str) -> Result<Vec<u32>, CronFieldError> {
        if part.is_empty() {
            return Err(CronFieldError::EmptyPart);
        }
        if part == "*" {
            return Ok((self.low..=self.high).collect());
        }
        if let Some(step) = part.strip_prefix("*/") {
            return every((self.low..=self.high).collect(), word(step));
        }
        // A range is matched at the beginning only: what follows it is passed over, as Celery does (`10-20-30`).
        let first = word(part);
        let last = part[first.len()..]
            .strip_prefix('-')
            .map(word)
            .filter(|last| !first.is_empty() && !last.is_empty());
        let Some(last) = last else { return Ok(vec![self.number(part)?]) };
        let range = self.range(self.number(first)?, self.number(last)?);
        match part[first.len() + 1 + last.len()..].strip_prefix('/') {
            Some(step) => every(range, word(step)),
            None => Ok(range),
        }
    }

    /// From the first to the last, over the end of the field where the last is the smaller one.
    fn range(&self, first: u32, last: u32) -> Vec<u32> {
        if last < first {
            (first..=self.high).chain(self.low..=last).collect()
        } else {
            (first..=last).collect()
        }
    }

    fn number(&self, text: &str) -> Result<u32, CronFieldError> {
        if text.starts_with('-') {
            return Err(CronFieldError::Negative);
        }
        // Python's `int` passes over blanks around a number.
        let number = text.trim().parse().ok().or_else(|| named(text));
        self.check(number.ok_or_else(|| CronFieldError::InvalidNumber(text.to_owned()))?)
    }

    fn integer(&self, value: &Value) -> Result<u32, CronFieldError> {
        self.check(value.as_i64().ok_or_else(|| CronFieldError::InvalidType(value.to_string()))?)
    }

    fn check(&self, number: i64) -> Result<u32, CronFieldError> {
        match u32::try_from(number) {
            Ok(number) if number > self.high => Err(CronFieldError::AboveRange(number.into(), self.high)),
            Ok(number) if number >= self.low => Ok(number),
            Err(_) if number > 0 => Err(CronFieldError::AboveRange(number, self.high)),
            _ => Err(CronFieldError::BelowRange(number, self.low)),
        }
    }
}

/// Every n-th number of a list, from the first.
fn every(numbers: Vec<u32>, step: &str) -> Result<Vec<u32>, CronFieldError> {
    if step.is_empty() {
        return Err(CronFieldError::EmptyStep);
    }
    match step.parse() {
        Ok(0) => Err(CronFieldError::ZeroStep),
        Ok(step) => Ok(numbers.into_iter().step_by(step).collect()),
        Err(_) => Err(CronFieldError::InvalidStep(step.to_owned())),
    }
}

/// The letters, digits and underscores that a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The number of a month (1-12) or weekday (Sunday 0) by its first three letters; both are taken in every field.
fn named(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let short = text.chars().take(3).collect::<String>().to_ascii_lowercase();
    let position = |names: &[&str]| names.iter().position(|name| *name == short).map(|at| at as i64);
    position(&MONTHS).map(|month| month + 1).or_else(|| position(&WEEKDAYS))
}
