//! Node names such as `worker1@host`, and the `%h %n %d %i` of host names and file names.

use std::fmt;

/// The name of a worker: `name@host`. Source: `celery/utils/nodenames.py`, celery 5.7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    /// The part before the `@`: `celery` by default.
    pub name: String,
    /// The part after it: the host's name by default.
    pub host: String,
}

impl NodeName {
    /// Makes a node name as `celery worker -n` does: a missing host is this machine's, a missing name is `celery`,
    /// `%h`, `%n`, `%d` are expanded. A text without `@` is the host.
    pub fn expand(text: Option<&str>) -> Self {
        Self::expand_on(text, &this_host())
    }

    fn expand_on(text: Option<&str>, this_host: &str) -> Self {
        let (name, host) = match text.unwrap_or_default().split_once('@') {
            Some((name, host)) => (name, host),
            None => ("", text.unwrap_or_default()),
        };
        let name = if name.is_empty() { "celery" } else { name };
        let host = if host.is_empty() { this_host } else { host };
        let short_host = this_host.split('.').next().unwrap_or_default();
        let full = simple_format(&format!("{name}@{host}"), this_host, short_host, None);
        let (name, host) = full.split_once('@').unwrap_or(("celery", &full));
        Self { name: name.to_owned(), host: host.to_owned() }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.host)
    }
}

/// Expands `%h` (host), `%n` (name), `%d` (domain), `%p` (the whole node name), `%i` and `%I` (index of the pool
/// process: 0 and nothing in the worker itself) in names of log, pid and state files.
pub fn expand_node_format(text: &str, node: &NodeName) -> String {
    simple_format(text, &node.host, &node.name, Some(&node.to_string()))
}

/// The name of this machine.
fn this_host() -> String {
    hostname::get().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn simple_format(text: &str, host: &str, name: &str, node: Option<&str>) -> String {
    let domain = host.split_once('.').map_or("", |(_, domain)| domain);
    let mut expanded = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            expanded.push(character);
            continue;
        }
        match (characters.next(), node) {
            (Some('h'), _) => expanded.push_str(host),
            (Some('n'), _) => expanded.push_str(name),
            (Some('d'), _) => expanded.push_str(domain),
            (Some('p'), Some(node)) => expanded.push_str(node),
            (Some('i'), _) => expanded.push('0'),
            (Some('I'), _) => {}
            (Some('%') | None, _) => expanded.push('%'),
            (Some(other), _) => expanded.extend(['%', other]),
        }
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_completed_and_expanded() {
        for (text, node) in [
            (None, "celery@web1.example.com"),
            (Some("w1"), "celery@w1"),
            (Some("w1@%h"), "w1@web1.example.com"),
            (Some("w1@"), "w1@web1.example.com"),
            (Some("@other"), "celery@other"),
            (Some("w1@%n.%d"), "w1@web1.example.com"),
            (Some("w%i@%h"), "w0@web1.example.com"),
            (Some("100%%@h"), "100%@h"),
        ] {
            assert_eq!(NodeName::expand_on(text, "web1.example.com").to_string(), node);
        }
    }

    #[test]
    fn file_names_take_the_node_name() {
        let node = NodeName { name: "w1".into(), host: "web1.example.com".into() };
        assert_eq!(
            expand_node_format("/run/%n-%h-%d%I.%i.pid", &node),
            "/run/w1-web1.example.com-example.com.0.pid"
        );
        assert_eq!(expand_node_format("%p.db", &node), "w1@web1.example.com.db");
    }
}
