//! Telling at the start of a worker that its server may throw messages away.

use redis::{Pipeline, Value};

use super::Link;

/// Warns when the server evicts keys once its memory is full. A server that does not say how it is set up is trusted.
pub(crate) async fn warn_of_eviction(link: Link) {
    let mut question = Pipeline::new();
    question.cmd("INFO").arg("memory");
    let policy = match link.call(&mut question).await {
        Ok(answers) => match answers.first() {
            Some(Value::BulkString(info)) => policy_of(&String::from_utf8_lossy(info)),
            Some(Value::VerbatimString { text, .. }) => policy_of(text),
            _ => None,
        },
        Err(error) => {
            log::debug!(error:% = error; "The server does not say what it does when its memory is full: {error}");
            None
        }
    };
    if let Some(policy) = policy.filter(|policy| policy != "noeviction") {
        log::warn!(server:% = link.endpoint(), policy = policy.as_str(); "{} has maxmemory-policy {policy}: when its memory is full it throws away messages, bindings and results without a word\nhint: set maxmemory-policy to noeviction", link.endpoint());
    }
}

fn policy_of(info: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"))
        .map(|policy| policy.trim().to_owned())
}
