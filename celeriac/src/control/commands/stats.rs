//! How a worker is doing.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::{Answer, Arguments, Panel};
use crate::config::{Ssl, mask_settings};
use crate::control::info::AutoscalerInfo;
use crate::control::worker_port::PoolInfo;
use crate::message::{Map, Value};

pub(super) fn stats(panel: &Panel, _: &Arguments) -> Answer {
    let (state, worker) = (panel.state(), panel.worker());
    let total: Map =
        state.total().into_iter().map(|(name, count)| (name.to_string(), count.into())).collect();
    let mut stats = Map::from([
        ("total".to_owned(), total.into()),
        ("pid".to_owned(), state.pid.into()),
        ("clock".to_owned(), state.clock.value().to_string().into()),
        ("uptime".to_owned(), (state.started.elapsed().as_secs_f64().round() as u64).into()),
        ("pool".to_owned(), pool(&worker.pool(), state.processed())),
    ]);
    if let Some(autoscaler) = worker.autoscaler() {
        stats.insert("autoscaler".to_owned(), scaler(&autoscaler));
    }
    stats.insert("broker".to_owned(), broker(panel));
    stats.insert("prefetch_count".to_owned(), worker.prefetch_count().into());
    stats.insert("rusage".to_owned(), usage());
    Ok(stats.into())
}

fn pool(pool: &PoolInfo, processed: u64) -> Value {
    let processes: Value = pool.processes.iter().map(|pid| Value::from(*pid)).collect();
    let writes = crate::value!({
        "total": processed,
        "avg": "1.00",
        "all": "1.00",
        "raw": processed.to_string(),
        "strategy": "fair",
        "inqueues": {"total": pool.processes.len(), "active": 0},
    });
    let limit =
        |seconds: f64| if seconds.fract() == 0.0 { Value::Int(seconds as i64) } else { seconds.into() };
    map([
        ("implementation", pool.implementation.as_str().into()),
        ("max-concurrency", pool.max_concurrency.into()),
        ("processes", processes),
        ("max-tasks-per-child", pool.max_tasks_per_child.map_or("N/A".into(), Value::from)),
        ("put-guarded-by-semaphore", false.into()),
        ("timeouts", pool.timeouts.map(limit).into_iter().collect()),
        ("writes", writes),
    ])
}

fn scaler(autoscaler: &AutoscalerInfo) -> Value {
    let AutoscalerInfo { max, min, current, qty } = *autoscaler;
    map([("max", max.into()), ("min", min.into()), ("current", current.into()), ("qty", qty.into())])
}

/// Where the worker is connected to; no password, whatever the settings hold.
fn broker(panel: &Panel) -> Value {
    let (broker, config) = (panel.broker().describe(), panel.worker().config());
    let url = config.read_url();
    let user = url.and_then(|url| {
        let authority = url.expose().split_once("://")?.1.split('/').next()?.rsplit_once('@')?.0;
        authority.split(':').next().filter(|user| !user.is_empty()).map(str::to_owned)
    });
    let is_tls = config.broker_use_ssl != Ssl::Off || url.is_some_and(|url| url.scheme() == "rediss");
    let options = serde_json::Value::Object(mask_settings(&config.broker_transport_options.0));
    map([
        ("hostname", broker.hostname.into()),
        ("userid", user.into()),
        ("virtual_host", broker.virtual_host.into()),
        ("port", broker.port.into()),
        ("insist", false.into()),
        ("ssl", is_tls.into()),
        ("transport", broker.transport.into()),
        ("connect_timeout", config.broker_connection_timeout.as_secs().into()),
        ("transport_options", options.into()),
        ("login_method", config.broker_login_method.clone().into()),
        ("uri_prefix", Value::Null),
        ("heartbeat", f64::from(config.broker_heartbeat.unwrap_or(0)).into()),
        ("failover_strategy", config.broker_failover_strategy.unwrap_or_default().as_str().into()),
        ("alternates", Value::List(Vec::new())),
        ("credential_provider", Value::Null),
    ])
}

/// What the process has used, under the names of `getrusage(2)`.
fn usage() -> Value {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return "N/A".into() };
    let seconds = |time: TimeVal| Value::Float(time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
    map([
        ("utime", seconds(usage.user_time())),
        ("stime", seconds(usage.system_time())),
        ("maxrss", usage.max_rss().into()),
        ("ixrss", usage.shared_integral().into()),
        ("idrss", usage.unshared_data_integral().into()),
        ("isrss", usage.unshared_stack_integral().into()),
        ("minflt", usage.minor_page_faults().into()),
        ("majflt", usage.major_page_faults().into()),
        ("nswap", usage.full_swaps().into()),
        ("inblock", usage.block_reads().into()),
        ("oublock", usage.block_writes().into()),
        ("msgsnd", usage.ipc_sends().into()),
        ("msgrcv", usage.ipc_receives().into()),
        ("nsignals", usage.signals().into()),
        ("nvcsw", usage.voluntary_context_switches().into()),
        ("nivcsw", usage.involuntary_context_switches().into()),
    ])
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
