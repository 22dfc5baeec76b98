//! What a worker prints when it starts, as Celery's does.
//!
//! Source: `startup_info` in celery 5.7 `celery/apps/worker.py`.

use std::fmt::Write as _;
use std::io::Write as _;

use super::runtime::Runtime;
use crate::config::{LogLevel, Pool};
use crate::control::QueueInfo;

const ART: [&str; 12] = [
    " --------------",
    "--- ***** -----",
    "-- ******* ----",
    "- *** --- * ---",
    "- ** ----------",
    "- ** ----------",
    "- ** ----------",
    "- ** ----------",
    "- *** --- * ---",
    "-- ******* ----",
    "--- ***** -----",
    " --------------",
];

/// Prints the banner to standard output.
pub(super) fn print(runtime: &Runtime, queues: &[QueueInfo], loglevel: LogLevel) {
    let text = text(runtime, queues, loglevel);
    let mut out = std::io::stdout().lock();
    // Somebody may have closed it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn text(runtime: &Runtime, queues: &[QueueInfo], loglevel: LogLevel) -> String {
    let config = runtime.config();
    let concurrency = match runtime.autoscale.bounds() {
        Some(bounds) => format!("{{min={}, max={}}}", bounds.min, bounds.max),
        None => runtime.slots.limit().to_string(),
    };
    let pool = match config.worker_pool {
        Pool::Processes => "child processes",
        _ => "async tasks and threads",
    };
    let url = |url: &Option<crate::config::Url>| {
        url.as_ref().map_or_else(|| "disabled://".to_owned(), |url| url.masked())
    };
    let events = match config.worker_send_task_events {
        true => "ON",
        false => "OFF (enable -E to monitor tasks in this worker)",
    };
    let platform = format!("{}-{}", crate::events::system(), std::env::consts::ARCH);
    let mut lines = vec![
        format!("{} v{} (celeriac)", runtime.state.hostname, env!("CARGO_PKG_VERSION")),
        String::new(),
        format!("{platform} {}", chrono::Local::now().format("%Y-%m-%d %H:%M:%S")),
        String::new(),
        "[config]".to_owned(),
        format!(".> app:         {}", runtime.app.name()),
        format!(".> transport:   {}", runtime.app.broker()),
        format!(".> results:     {}", url(&config.result_backend)),
        format!(".> concurrency: {concurrency} ({pool})"),
        format!(".> task events: {events}"),
        String::new(),
        "[queues]".to_owned(),
    ];
    lines.extend(queues.iter().map(|queue| {
        let QueueInfo { name, exchange, routing_key, .. } = queue;
        format!(".> {name:<16} exchange={}({}) key={routing_key}", exchange.name, exchange.exchange_type)
    }));
    let mut text = String::from(" \n");
    for (number, line) in lines.iter().enumerate() {
        let art = ART.get(number).copied().unwrap_or("               ");
        let _ = writeln!(text, "{}", format!("{art} {line}").trim_end());
    }
    text.push('\n');
    if matches!(loglevel, LogLevel::Info | LogLevel::Debug) {
        let with_own = loglevel == LogLevel::Debug;
        let mut tasks: Vec<&str> = runtime.registry.keys().map(|name| &**name).collect();
        tasks.retain(|name| with_own || !name.starts_with("celery."));
        tasks.sort_unstable();
        let _ = writeln!(text, "[tasks]");
        tasks.iter().for_each(|task| {
            let _ = writeln!(text, "  . {task}");
        });
        text.push('\n');
    }
    text
}
