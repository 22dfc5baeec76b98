//! Telling at the start of a worker that its server may throw messages away.

use redis::Pipeline;

use super::Link;
use super::info::Info;

/// The policy of a server that throws nothing away.
const NO_EVICTION: &str = "noeviction";

/// Warns when the server evicts keys once its memory is full. A server that does not say how it is set up is trusted.
pub(crate) async fn warn_of_eviction(link: Link) {
    let mut question = Pipeline::new();
    question.cmd("INFO").arg("memory");
    let info = match link.call(&mut question).await {
        Ok(answers) => answers.first().and_then(Info::of),
        Err(error) => {
            log::debug!(error:% = error; "The server does not say what it does when its memory is full: {error}");
            None
        }
    };
    if let Some(policy) = info.as_ref().and_then(evicting) {
        log::warn!(server:% = link.endpoint(), policy; "{} has maxmemory-policy {policy}: when its memory is full it throws away messages, bindings and results without a word\nhint: set maxmemory-policy to noeviction", link.endpoint());
    }
}

/// Returns the policy by which a server throws keys away; `None` if it does not, or does not say.
pub(super) fn evicting(info: &Info) -> Option<&str> {
    info.text("maxmemory_policy").filter(|policy| *policy != NO_EVICTION)
}
