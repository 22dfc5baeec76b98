//! `task_routes`: where tasks are sent, by name or pattern.

use serde_json::{Map, Value, json};

use super::value::SettingValue;

/// Where tasks that match a pattern are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// A task name, or a pattern with `*`, `?` and `[...]`.
    pub pattern: String,
    /// Options of the publish: `queue`, `exchange`, `exchange_type`, `routing_key`, `priority`, ...
    pub options: Map<String, Value>,
}

impl Route {
    /// The queue, if the route names one.
    pub fn queue(&self) -> Option<&str> {
        self.text("queue")
    }

    /// The exchange, if the route names one.
    pub fn exchange(&self) -> Option<&str> {
        self.text("exchange")
    }

    /// The routing key, if the route names one.
    pub fn routing_key(&self) -> Option<&str> {
        self.text("routing_key")
    }

    /// The priority, if the route gives one.
    pub fn priority(&self) -> Option<u8> {
        self.options.get("priority").and_then(Value::as_u64).and_then(|priority| priority.try_into().ok())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.options.get(key).and_then(Value::as_str)
    }

    fn is_pattern(&self) -> bool {
        self.pattern.contains(['*', '?', '['])
    }
}

/// The routes, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes(pub Vec<Route>);

impl Routes {
    /// The route of a task: that with its exact name, else the first whose pattern matches
    /// (`celery/app/routes.py`, celery 5.7).
    pub fn find(&self, task_name: &str) -> Option<&Route> {
        let exact = self.0.iter().find(|route| !route.is_pattern() && route.pattern == task_name);
        exact.or_else(|| self.0.iter().find(|route| route.is_pattern() && glob(&route.pattern, task_name)))
    }

    fn read(pattern: &str, target: &Value) -> Option<Route> {
        let options = match target {
            Value::String(queue) => Map::from_iter([("queue".to_owned(), json!(queue))]),
            Value::Object(options) => options.clone(),
            _ => return None,
        };
        Some(Route { pattern: pattern.to_owned(), options })
    }

    fn read_list(items: &[Value]) -> Option<Vec<Route>> {
        let mut routes = Vec::new();
        for item in items {
            match item {
                Value::Object(entries) => {
                    for (pattern, target) in entries {
                        routes.push(Self::read(pattern, target)?);
                    }
                }
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(pattern), target] => routes.push(Self::read(pattern, target)?),
                    _ => return None,
                },
                _ => return None,
            }
        }
        Some(routes)
    }
}

impl SettingValue for Routes {
    fn expected() -> String {
        "a mapping of task names or patterns to a queue name or to options such as \
         {\"queue\": \"images\", \"priority\": 5}"
            .into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let routes = match value {
            Value::Object(entries) => {
                entries.iter().map(|(pattern, target)| Self::read(pattern, target)).collect::<Option<_>>()
            }
            Value::Array(items) => Self::read_list(items),
            _ => None,
        };
        routes.map(Self).ok_or_else(Self::expected)
    }

    fn to_json(&self) -> Value {
        Value::Object(
            self.0
                .iter()
                .map(|route| (route.pattern.clone(), Value::Object(route.options.clone())))
                .collect(),
        )
    }
}

/// Python's `fnmatch` without case folding: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut position) = (0, 0);
    let mut last_star = None;
    while position < text.len() {
        if pattern.get(at) == Some(&'*') {
            last_star = Some((at, position));
            at += 1;
        } else if let Some(next) = match_one(&pattern, at, text[position]) {
            at = next;
            position += 1;
        } else if let Some((star, start)) = last_star {
            last_star = Some((star, start + 1));
            at = star + 1;
            position = start + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// The place behind the pattern's item at `at`, if that item matches the character.
fn match_one(pattern: &[char], at: usize, character: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let negated = pattern.get(at + 1) == Some(&'!');
            let start = at + 1 + usize::from(negated);
            // A `]` directly behind the opening belongs to the set.
            let Some(length) = pattern.get(start + 1..).and_then(|rest| rest.iter().position(|c| *c == ']'))
            else {
                return (character == '[').then_some(at + 1);
            };
            let end = start + 1 + length;
            (in_set(&pattern[start..end], character) != negated).then_some(end + 1)
        }
        literal => (literal == character).then_some(at + 1),
    }
}

fn in_set(set: &[char], character: char) -> bool {
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == '-' {
            if (set[at]..=set[at + 2]).contains(&character) {
                return true;
            }
            at += 3;
        } else {
            if set[at] == character {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_name_wins_over_a_pattern_and_the_first_pattern_over_the_next() {
        let routes = Routes::from_text(
            r#"{"feed.*": "feeds", "*.tasks.*": {"queue": "any", "priority": 3}, "feed.tasks.import": {"queue": "slow"}}"#,
        )
        .unwrap();
        assert_eq!(routes.find("feed.tasks.import").unwrap().queue(), Some("slow"));
        assert_eq!(routes.find("feed.tasks.read").unwrap().queue(), Some("feeds"));
        let any = routes.find("web.tasks.x").unwrap();
        assert_eq!((any.queue(), any.priority()), (Some("any"), Some(3)));
        assert_eq!(routes.find("web.x"), None);
    }

    #[test]
    fn patterns_match_as_pythons_fnmatch_does() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a[bc]d", "acd", true),
            ("a[!bc]d", "acd", false),
            ("a[b-d]e", "ace", true),
            ("a[]]b", "a]b", true),
            ("a[b", "a[b", true),
            ("a*b*c", "axxbyyc", true),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
