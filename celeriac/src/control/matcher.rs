//! Choosing workers by a pattern.

use regex::Regex;

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

    /// Whether a node name matches; a pattern that is no regular expression matches nothing.
    pub fn matches(self, name: &str, pattern: &str) -> bool {
        let expression = match self {
            Matcher::Glob => glob_expression(pattern),
            Matcher::Pcre => format!("^(?:{pattern})"),
        };
        Regex::new(&expression).is_ok_and(|expression| expression.is_match(name))
    }
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
            assert_eq!(Matcher::Glob.matches(name, pattern), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn regular_expressions_match_from_the_start() {
        assert!(Matcher::Pcre.matches("w1@host", "w[0-9]"));
        assert!(!Matcher::Pcre.matches("w1@host", "host"));
        assert!(!Matcher::Pcre.matches("w1@host", "("));
    }
}
