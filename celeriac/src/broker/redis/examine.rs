//! Looking at a server as a doctor would: what it is, what it keeps, and what it says about its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Pipeline, Value};

use super::clock::ServerClock;
use super::eviction::evicting;
use super::info::{Info, parameter};
use super::rights::{Missing, Need, Rights};
use super::{Link, Queues};
use crate::broker::BrokerError;
use crate::finding::Finding;

/// Seconds by which the clocks of the server and of this machine may differ: etas are that much early or late.
const SKEW: f64 = 1.0;
/// Seconds of difference with which leases and expiries go wrong.
const MUCH_SKEW: f64 = 30.0;
/// Percent of `maxmemory` in use from which it is time to act, and from which it is late.
const FULL: [u64; 2] = [80, 95];

/// Looks at a server.
///
/// # Errors
/// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
pub(crate) async fn examine_server(link: &Link) -> Result<Vec<Finding>, BrokerError> {
    let mut ask = Pipeline::new();
    ask.cmd("INFO");
    ask.cmd("CONFIG").arg("GET").arg("save");
    ask.cmd("CONFIG").arg("GET").arg("appendfsync");
    let answers = link.send(&mut ask).await?;
    let skew = skew(link).await?;
    let mut findings = Vec::new();
    match Info::of(&answers[0]) {
        Some(info) => {
            findings.extend(server(link, &info));
            findings.extend(persistence(&info, parameter(&answers[1]), parameter(&answers[2])));
            findings.push(eviction(&info));
            findings.extend(memory(&info));
        }
        None => findings.push(
            Finding::note("server", format!("{} does not answer INFO", link.endpoint())).advising(
                "give the user the right to INFO, or look at persistence and maxmemory-policy by hand",
            ),
        ),
    }
    findings.extend(skew.map(clock));
    Ok(findings)
}

impl Queues {
    /// Looks for commands that a worker would need and this user may not use.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    pub(crate) async fn examine_rights(
        &self,
        queue: &str,
        result_key: Option<&str>,
    ) -> Result<Vec<Finding>, BrokerError> {
        let rights = Rights::of_worker(self.keys(), "doctor", Some(queue), result_key);
        let mut ask = Pipeline::new();
        rights.ask(&mut ask);
        // The question ends a transaction, for which others must not wait.
        let missing = rights.missing(&self.link().sibling().send(&mut ask).await?);
        if missing.is_empty() {
            return Ok(vec![Finding::good("rights", "a worker may use every command that it needs")]);
        }
        Ok(missing.iter().map(lack).collect())
    }
}

fn lack(missing: &Missing) -> Finding {
    let text = missing.to_string();
    let advice = format!("allow {} to the user (docs/operating.md has the smallest ACL)", missing.name);
    match missing.need {
        Need::Everything | Need::Something => Finding::problem("rights", text, advice),
        Need::Comfort => Finding::warning("rights", text, advice),
    }
}

fn server(link: &Link, info: &Info) -> Vec<Finding> {
    let version = info
        .text("valkey_version")
        .map(|version| ("Valkey", version))
        .or_else(|| Some(("Redis", info.text("redis_version")?)));
    let (name, version) = version.unwrap_or(("a server", "of unknown version"));
    let mut findings = vec![Finding::good("server", format!("{name} {version} at {}", link.endpoint()))];
    if info.text("role") == Some("slave") {
        let primary = info.text("master_host").unwrap_or("another server");
        findings.push(Finding::problem(
            "server",
            format!("it is a replica of {primary} and takes no writes"),
            "connect to the primary, or by sentinel:// URLs, which follow it",
        ));
    }
    if info.text("loading") == Some("1") {
        findings.push(Finding::note("server", "it is still loading its data"));
    }
    findings
}

fn persistence(info: &Info, save: Option<String>, fsync: Option<String>) -> Vec<Finding> {
    const SUBJECT: &str = "persistence";
    let mut findings = Vec::new();
    for (field, what) in
        [("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "write to the append-only file")]
    {
        if info.text(field) == Some("err") {
            findings.push(Finding::problem(
                SUBJECT,
                format!("the last {what} failed: a crash loses all since the one before"),
                "look into the server's log; usually its disk is full",
            ));
        }
    }
    let unsaved = info.number("rdb_changes_since_last_save").unwrap_or(0);
    findings.push(if info.text("aof_enabled") == Some("1") {
        let often = fsync.as_deref().unwrap_or("not known");
        match often {
            "no" => Finding::warning(
                SUBJECT,
                "append-only file with appendfsync no: a crash of the machine loses about 30 s of messages",
                "set appendfsync everysec",
            ),
            _ => Finding::good(SUBJECT, format!("append-only file (appendfsync {often})")),
        }
    } else {
        match save.as_deref() {
            Some("") => Finding::problem(
                SUBJECT,
                "nothing is kept on disk: a restart of the server loses every message and result",
                "set appendonly yes and appendfsync everysec, unless all of it may be lost",
            ),
            Some(save) => Finding::warning(
                SUBJECT,
                format!("snapshots only (save {save}): a crash now would lose {unsaved} change(s)"),
                "set appendonly yes and appendfsync everysec",
            ),
            None => Finding::note(SUBJECT, format!("no append-only file; {unsaved} change(s) since the last snapshot, and the server does not say when it makes the next"))
                .advising("ask the operator of the server how often it saves"),
        }
    });
    findings
}

fn eviction(info: &Info) -> Finding {
    const SUBJECT: &str = "eviction";
    match (evicting(info), info.number("maxmemory")) {
        (Some(policy), Some(0)) => Finding::warning(
            SUBJECT,
            format!("maxmemory-policy is {policy}; without maxmemory it has no effect yet"),
            "set maxmemory-policy to noeviction before somebody sets maxmemory",
        ),
        (Some(policy), _) => Finding::problem(
            SUBJECT,
            format!(
                "maxmemory-policy is {policy}: a full server throws away messages, bindings and results without a word"
            ),
            "set maxmemory-policy to noeviction",
        ),
        (None, _) if info.text("maxmemory_policy").is_some() => Finding::good(
            SUBJECT,
            "a full server refuses writes instead of throwing messages away (noeviction)",
        ),
        (None, _) => Finding::note(SUBJECT, "the server does not say what it does when its memory is full"),
    }
}

fn memory(info: &Info) -> Option<Finding> {
    const SUBJECT: &str = "memory";
    let (used, limit) = (info.number("used_memory")?, info.number("maxmemory")?);
    let megabytes = |bytes: u64| bytes / (1024 * 1024);
    if limit == 0 {
        return Some(Finding::good(SUBJECT, format!("{} MB in use, without a limit", megabytes(used))));
    }
    let percent = used.saturating_mul(100) / limit;
    let text = format!("{} of {} MB in use ({percent} %)", megabytes(used), megabytes(limit));
    let advice = "raise maxmemory, shorten result_expires, or start more workers";
    Some(match percent {
        percent if percent >= FULL[1] => Finding::problem(SUBJECT, text, advice),
        percent if percent >= FULL[0] => Finding::warning(SUBJECT, text, advice),
        _ => Finding::good(SUBJECT, text),
    })
}

/// Returns by how many seconds the server's clock is ahead of this machine's; `None` when it does not tell.
async fn skew(link: &Link) -> Result<Option<f64>, BrokerError> {
    let mut ask = Pipeline::new();
    ask.cmd("TIME");
    let before = unix_time();
    let answer = link.send(&mut ask).await?;
    let middle = before.midpoint(unix_time());
    if !matches!(answer.first(), Some(Value::Array(_))) {
        return Ok(None);
    }
    let mut clock = ServerClock::default();
    clock.set(&answer[0]);
    Ok(Some(clock.now() - middle))
}

fn clock(skew: f64) -> Finding {
    const SUBJECT: &str = "clock";
    let direction = if skew > 0.0 { "ahead of" } else { "behind" };
    let text = format!("the server's clock is {:.1} s {direction} this machine's", skew.abs());
    let advice = "synchronise the clocks (NTP): etas and expiries are compared with the clock of whoever looks at them";
    match skew.abs() {
        skew if skew >= MUCH_SKEW => Finding::problem(SUBJECT, text, advice),
        skew if skew >= SKEW => Finding::warning(SUBJECT, text, advice),
        _ => Finding::good(SUBJECT, "the clocks of the server and of this machine agree"),
    }
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    fn info(text: &str) -> Info {
        Info::of(&Value::BulkString(text.as_bytes().to_vec())).unwrap()
    }

    fn worst(findings: &[Finding]) -> Severity {
        findings.iter().map(|finding| finding.severity).max().unwrap()
    }

    #[test]
    fn what_a_server_keeps_is_judged_by_what_a_crash_would_lose() {
        let judged = |fields: &str, save: Option<&str>, fsync: Option<&str>| {
            worst(&persistence(&info(fields), save.map(str::to_owned), fsync.map(str::to_owned)))
        };
        assert_eq!(judged("aof_enabled:1\r\n", None, Some("everysec")), Severity::Good);
        assert_eq!(judged("aof_enabled:1\r\n", None, Some("no")), Severity::Warning);
        assert_eq!(judged("aof_enabled:1\r\naof_last_write_status:err\r\n", None, None), Severity::Problem);
        assert_eq!(judged("aof_enabled:0\r\n", Some("3600 1"), None), Severity::Warning);
        assert_eq!(judged("aof_enabled:0\r\n", Some(""), None), Severity::Problem);
        assert_eq!(judged("aof_enabled:0\r\n", None, None), Severity::Note);
    }

    #[test]
    fn eviction_is_a_problem_once_memory_is_limited() {
        let judged = |fields: &str| eviction(&info(fields)).severity;
        assert_eq!(judged("maxmemory:0\r\nmaxmemory_policy:noeviction\r\n"), Severity::Good);
        assert_eq!(judged("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"), Severity::Warning);
        assert_eq!(judged("maxmemory:9\r\nmaxmemory_policy:volatile-ttl\r\n"), Severity::Problem);
        assert_eq!(judged("maxmemory:9\r\n"), Severity::Note);
    }

    #[test]
    fn memory_and_clocks_are_judged_by_how_much_is_left() {
        let full = |used: u64| memory(&info(&format!("used_memory:{used}\r\nmaxmemory:100\r\n"))).unwrap();
        assert_eq!(
            [79, 80, 95].map(|used| full(used).severity),
            [Severity::Good, Severity::Warning, Severity::Problem]
        );
        assert_eq!(
            [0.5, -2.0, 60.0].map(|skew| clock(skew).severity),
            [Severity::Good, Severity::Warning, Severity::Problem]
        );
    }
}
