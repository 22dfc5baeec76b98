//! Choosing workers by a pattern.

use fancy_regex::Regex;

use super::python;
use crate::message::{Map, Value};

/// How a pattern is matched against node names.
///
/// Source: kombu 5.7 `kombu/matcher.py`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matcher {
    /// A file name pattern for the whole name: `*`, `?`, `[abc]`, `[!abc]`.
    #[default]
    Glob,
    /// A regular expression that the name begins with.
    Pcre,
}

impl Matcher {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Matcher::Glob => "glob",
            Matcher::Pcre => "pcre",
        }
    }

    /// The matcher of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "glob" => Some(Matcher::Glob),
            "pcre" => Some(Matcher::Pcre),
            _ => None,
        }
    }

    /// Whether a node name matches.
    ///
    /// # Errors
    /// [`MatchError::Pattern`] when the pattern is no regular expression, [`MatchError::TooSlow`] when matching it takes
    /// too many steps.
    pub fn matches(self, name: &str, pattern: &str) -> Result<bool, MatchError> {
        let expression = match self {
            Matcher::Glob => glob_expression(pattern),
            Matcher::Pcre => python_expression(pattern),
        };
        let bad = |reason: fancy_regex::Error| MatchError::Pattern {
            pattern: pattern.to_owned(),
            reason: reason.to_string(),
        };
        let found = Regex::new(&expression).map_err(bad)?.find(name);
        let found = found.map_err(|_| MatchError::TooSlow { pattern: pattern.to_owned() })?;
        Ok(found.is_some_and(|found| found.start() == 0))
    }
}

/// Why a name cannot be matched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// No matcher has that name.
    #[error("no matcher {matcher:?}\nhint: glob and pcre are known")]
    Unknown {
        /// The name.
        matcher: String,
    },
    /// The pattern is no regular expression.
    #[error("the pattern {pattern:?} is no regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Matching was given up after too many steps.
    #[error("the pattern {pattern:?} takes too many steps\nhint: nested repetitions such as (a*)* do")]
    TooSlow {
        /// The pattern.
        pattern: String,
    },
}

impl MatchError {
    /// The answer to a command that came with such a pattern: an error of the class that Celery's worker logs.
    pub(super) fn answer(&self) -> Value {
        let class = match self {
            MatchError::Unknown { .. } => "MatcherNotInstalled",
            MatchError::Pattern { .. } | MatchError::TooSlow { .. } => "error",
        };
        let error = python::exception(class, &self.to_string());
        Value::Map(Map::from([("error".to_owned(), Value::Str(error))]))
    }
}

/// The regular expression for a pattern of Python's `re`: brackets and operators within a class are characters there,
/// a repetition may lack its lower bound, and `\Z` is the very end.
fn python_expression(pattern: &str) -> String {
    let mut expression = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    let mut class_length = None;
    while let Some(character) = rest.next() {
        let in_class = class_length.is_some();
        class_length = class_length.map(|length: usize| length + 1);
        match character {
            '\\' => {
                let escaped = rest.next();
                match escaped {
                    Some('Z') if !in_class => expression.push_str("\\z"),
                    escaped => expression.extend(['\\'].into_iter().chain(escaped)),
                }
            }
            '[' if !in_class => {
                expression.push('[');
                expression.extend(rest.next_if_eq(&'^'));
                class_length = Some(0);
            }
            // A bracket that comes first is a member.
            ']' if class_length == Some(1) => expression.push_str("\\]"),
            ']' => {
                expression.push(']');
                class_length = None;
            }
            '[' | '&' | '~' if in_class => expression.extend(['\\', character]),
            '{' if !in_class && rest.peek() == Some(&',') => expression.push_str("{0"),
            other => expression.push(other),
        }
    }
    expression
}

/// The regular expression of a pattern of Python's `fnmatch`.
fn glob_expression(pattern: &str) -> String {
    let mut expression = String::from("(?s)^");
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => match class(rest) {
                Some((class, after)) => {
                    expression.push_str(&class);
                    rest = after;
                }
                None => expression.push_str(r"\["),
            },
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    expression
}

/// The class that begins after a bracket, and what follows it; `None` when it is never closed.
fn class(rest: &str) -> Option<(String, &str)> {
    let (negated, body) = rest.strip_prefix('!').map_or((false, rest), |body| (true, body));
    // A bracket that comes first is a member.
    let first = usize::from(body.starts_with(']'));
    let end = first + body.get(first..)?.find(']')?;
    let mut class = String::from(if negated { "[^" } else { "[" });
    for (index, member) in body[..end].char_indices() {
        let is_range = member == '-' && index > 0 && index + 1 < end;
        match member {
            '-' if is_range => class.push('-'),
            '\\' | '[' | ']' | '^' | '&' | '~' | '-' => class.extend(['\\', member]),
            other => class.push(other),
        }
    }
    class.push(']');
    Some((class, &body[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_fnmatch_does() {
        for (pattern, name, expected) in [
            ("w2@*", "w2@vectors.example", true),
            ("w2@*", "w1@vectors.example", false),
            ("w?@host", "w1@host", true),
            ("w[12]@host", "w2@host", true),
            ("w[!12]@host", "w2@host", false),
            ("w[0-3]@host", "w2@host", true),
            ("w[", "w[", true),
            ("w[]x]", "w]", true),
            ("w.@host", "wx@host", false),
            ("w1", "w1@host", false),
        ] {
            assert_eq!(Matcher::Glob.matches(name, pattern), Ok(expected), "{pattern} {name}");
        }
    }

    /// The right column is what Python 3.11 says of `re.match(pattern, name) is not None`.
    #[test]
    fn regular_expressions_match_as_pythons_do() {
        for (pattern, name, expected) in [
            ("w[0-9]", "w1@host", true),
            ("host", "w1@host", false),
            ("a|w1", "w1@host", true),
            (r"(?!w2@).*@host$", "w1@host", true),
            (r"(?!w2@).*@host$", "w2@host", false),
            (r"w(?=1)", "w1@host", true),
            (r".*(?<=@)host", "w1@host", true),
            (r".*(?<!@)host", "w1@host", false),
            (r"(?P<letter>.)(?P=letter)@", "ww@host", true),
            (r"(.)\1@", "wx@host", false),
            (r"(?i)W1", "w1@host", true),
            (r"w[[1]", "w[@host", true),
            (r"w[&~1]", "w~@host", true),
            (r"w[]1]@", "w]@host", true),
            (r"w[^]1]@", "w2@host", true),
            (r"w[1]]@", "w1]@host", true),
            (r"w1{,2}@", "w11@host", true),
            (r"w1{,2}@", "w111@host", false),
            (r"w1@host\Z", "w1@host", true),
            (r"w1@hos\Z", "w1@host", false),
            (r"(?x) w 1 @ # a comment", "w1@host", true),
            (r"w\d@\w+$", "w1@host", true),
            (r"(?>w1*)@", "w11@host", true),
            ("", "w1@host", true),
        ] {
            assert_eq!(Matcher::Pcre.matches(name, pattern), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_are_none_are_errors() {
        for pattern in ["(", "w[", "*", "(?P<a", r"(?P=missing)", ")"] {
            let outcome = Matcher::Pcre.matches("w1@host", pattern);
            assert!(matches!(outcome, Err(MatchError::Pattern { .. })), "{pattern}: {outcome:?}");
        }
        let outcome = Matcher::Pcre.matches(&"a".repeat(40), r"(?=a)(a*)*\1b");
        assert!(!matches!(outcome, Ok(true)), "{outcome:?}");
        assert!(Matcher::from_name("regex").is_none());
    }
}
