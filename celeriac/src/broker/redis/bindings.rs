//! Which queues an exchange and a routing key lead to.

use regex::Regex;

use super::Keys;

/// The queues that a set of bindings names for a routing key, by equality or by the pattern of a topic exchange.
///
/// Source: kombu 5.7 `kombu/transport/virtual/exchange.py`.
pub(crate) fn matching_queues(keys: &Keys, members: &[String], routing_key: &str) -> Vec<String> {
    let mut queues: Vec<String> = members
        .iter()
        .filter_map(|member| keys.parse_binding(member))
        .filter(|(bound_key, pattern, _)| {
            if pattern.is_empty() {
                *bound_key == routing_key
            } else {
                Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(routing_key))
            }
        })
        .map(|(_, _, queue)| queue.to_owned())
        .collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

/// The regular expression that kombu stores for a topic binding.
fn topic_pattern(routing_key: &str) -> String {
    let words = routing_key.split('.').map(|word| match word {
        "*" => r"[^\.]+".to_owned(),
        "#" => ".*?".to_owned(),
        word => regex::escape(word),
    });
    format!("^{}$", words.collect::<Vec<_>>().join(r"\."))
}

/// The member of an exchange's set of bindings for a queue.
pub(crate) fn member(keys: &Keys, exchange_type: &str, routing_key: &str, queue: &str) -> String {
    let pattern = if exchange_type == "topic" { topic_pattern(routing_key) } else { String::new() };
    keys.binding(routing_key, &pattern, queue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::KeysOptions;

    #[test]
    fn topic_bindings_match_as_kombus_do() {
        let keys = Keys::new(KeysOptions::default(), 0);
        let members = vec![
            keys.binding("a.#", &topic_pattern("a.#"), "many"),
            keys.binding("a.*", &topic_pattern("a.*"), "one"),
            keys.binding("a.b", "", "exact"),
        ];
        assert_eq!(topic_pattern("a.#"), r"^a\..*?$");
        assert_eq!(matching_queues(&keys, &members, "a.b"), ["exact", "many", "one"]);
        assert_eq!(matching_queues(&keys, &members, "a.b.c"), ["many"]);
        assert!(matching_queues(&keys, &members, "a").is_empty());
    }
}
