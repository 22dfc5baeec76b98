//! The worker whose tasks run in child processes, and die there in all ways; and tasks for what becomes of messages.

use std::time::Duration;

use celeriac::config::Config;
use celeriac::control::Commands;
use celeriac::prelude::*;
use compat_workers::start;

/// The process that runs it.
#[celeriac::task(name = "pools.pid", pool = "process")]
fn pid() -> u32 {
    std::process::id()
}

/// The worker's own process.
#[celeriac::task(name = "pools.worker_pid")]
async fn worker_pid() -> u32 {
    std::process::id()
}

#[celeriac::task(name = "pools.echo", pool = "process")]
async fn echo(value: Value) -> Value {
    value
}

#[celeriac::task(name = "pools.fail", pool = "process")]
async fn fail(text: String) -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", text))
}

#[celeriac::task(name = "pools.panic", pool = "process")]
fn panic(text: String) {
    panic!("{text}")
}

#[celeriac::task(name = "pools.panics_here")]
fn panics_here() {
    panic!("on a thread")
}

#[celeriac::task(name = "pools.abort", pool = "process")]
fn abort() {
    std::process::abort()
}

#[celeriac::task(name = "pools.exit", pool = "process")]
fn exit(code: i32) {
    std::process::exit(code)
}

/// Cannot be ended but by a signal.
#[celeriac::task(name = "pools.spin", pool = "process")]
async fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

/// Sleeps in a thread of the child.
#[celeriac::task(name = "pools.sleep", pool = "process")]
fn sleep(seconds: f64) -> u32 {
    std::thread::sleep(Duration::from_secs_f64(seconds));
    std::process::id()
}

/// Ends early when its soft limit passes.
#[celeriac::task(name = "pools.careful", pool = "process")]
async fn careful(ctx: Context) -> &'static str {
    ctx.soft_limit().cancelled().await;
    "saved"
}

/// Succeeds when it is run the second time.
#[celeriac::task(name = "pools.retry", pool = "process", max_retries = 3)]
async fn retry(ctx: Context) -> TaskResult<u32> {
    match ctx.request().retries() {
        0 => Err(ctx.retry().countdown(0.1).exc(TaskError::builtin("KeyError", "first")).into()),
        retries => Ok(retries),
    }
}

/// Sends another task, which becomes its child.
#[celeriac::task(name = "pools.send", pool = "process")]
async fn send(ctx: Context) -> TaskResult<String> {
    Ok(ctx.send(echo::s(Value::from("sent"))).await?.id().to_owned())
}

/// Dies when it is delivered the first time.
#[celeriac::task(name = "pools.comes_back", pool = "process", acks_late, reject_on_worker_lost)]
fn comes_back(ctx: Context) -> &'static str {
    if !ctx.request().redelivered() {
        std::process::abort();
    }
    "second"
}

#[celeriac::task(name = "pools.grow", pool = "process")]
fn grow(mebibytes: usize) -> u32 {
    let memory = vec![1u8; mebibytes * 1024 * 1024];
    std::hint::black_box(&memory);
    std::process::id()
}

/// Makes the worker's own process large for a moment.
#[celeriac::task(name = "pools.grow_here")]
fn grow_here(mebibytes: usize) {
    std::hint::black_box(vec![1u8; mebibytes * 1024 * 1024]);
}

/// Never returns, in a thread of the worker.
#[celeriac::task(name = "pools.stick")]
fn stick() {
    loop {
        std::thread::park();
    }
}

/// Returns what it is given, in a thread of the worker.
#[celeriac::task(name = "pools.here")]
fn here(value: Value) -> Value {
    value
}

/// State that the program makes before it runs the worker: each child has its own.
struct Made(u32);

#[celeriac::task(name = "pools.made_in", pool = "process")]
async fn made_in(made: State<Made>) -> u32 {
    made.0
}

/// How often it ran is kept in the worker's process.
#[derive(Default)]
struct Runs(std::sync::atomic::AtomicU32);

#[celeriac::task(name = "pools.late", acks_late)]
async fn late(runs: State<Runs>) -> u32 {
    runs.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = start(Config::default());
    let worker = Worker::from_options("pools", &options)?;
    let metrics = worker.metrics();
    let worker = worker
        .commands(Commands::default().with("metrics", move |_| {
            let text = metrics.text();
            async move { Ok(Value::Str(text)) }
        }))
        .state(Made(std::process::id()))
        .state(Runs::default())
        .task(pid)
        .task(worker_pid)
        .task(echo)
        .task(fail)
        .task(panic)
        .task(panics_here)
        .task(abort)
        .task(exit)
        .task(spin)
        .task(sleep)
        .task(careful)
        .task(retry)
        .task(send)
        .task(comes_back)
        .task(grow)
        .task(grow_here)
        .task(stick)
        .task(here)
        .task(made_in)
        .task(late)
        .layer(async |context, next| {
            log::info!("layer: outer before {}", context.name());
            let outcome = next.run(context).await;
            log::info!("layer: outer after {}", if outcome.is_ok() { "a value" } else { "an error" });
            outcome
        })
        .layer(async |context, next| {
            // A layer may answer in the task's place, and has its states.
            if context.name() == "pools.made_in" {
                return Ok(Value::from(context.state::<Made>()?.0));
            }
            next.run(context).await
        })
        .on_worker_init(|| log::info!("hook: worker_init"))
        .on_task_received(|headers| {
            log::info!("hook: task_received {}", headers.id.as_deref().unwrap_or_default())
        })
        .on_task_unknown(|headers| {
            log::info!("hook: task_unknown {}", headers.task.as_deref().unwrap_or_default())
        })
        .on_task_rejected(|headers, error| {
            log::info!("hook: task_rejected {} {error}", headers.id.as_deref().unwrap_or_default())
        })
        .on_task_revoked(|headers, how| {
            log::info!("hook: task_revoked {} {}", headers.id.as_deref().unwrap_or_default(), how.expired)
        })
        .on_worker_process_init(|| log::info!("hook: worker_process_init"))
        .on_worker_ready(|| log::info!("hook: worker_ready"))
        .on_task_prerun(|request| log::info!("hook: task_prerun {}", request.id))
        .on_task_postrun(|request, _| log::info!("hook: task_postrun {}", request.id))
        .on_task_success(|request, value| log::info!("hook: task_success {} {value:?}", request.id))
        .on_task_failure(|request, exception| {
            log::info!("hook: task_failure {} {}", request.id, exception.repr())
        })
        .on_task_retry(|request, _| log::info!("hook: task_retry {}", request.id))
        .on_worker_shutdown(|| log::info!("hook: worker_shutdown"));
    std::process::exit(worker.run().await?.exit_code());
}
