//! The worker of the README, and tasks that show what its command line and signals do.

use celeriac::prelude::*;

#[celeriac::task(name = "proj.tasks.add")]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

/// Never returns, in a thread of the worker.
#[celeriac::task(name = "proj.tasks.stick")]
fn stick() {
    loop {
        std::thread::park();
    }
}

/// Sleeps on the runtime.
#[celeriac::task(name = "proj.tasks.sleep")]
async fn sleep(seconds: f64) -> u32 {
    tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
    std::process::id()
}

/// Sleeps in a child process.
#[celeriac::task(name = "proj.tasks.sleep_in_child", pool = "process")]
fn sleep_in_child(seconds: f64) -> u32 {
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    std::process::id()
}

/// User, group, mask and directory of the process, as it sees them.
#[celeriac::task(name = "proj.tasks.process")]
fn process() -> TaskResult<Value> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        Value::from(line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let directory = std::env::current_dir()?;
    Ok(Value::List(vec![
        std::process::id().into(),
        field("Uid:"),
        field("Gid:"),
        field("Groups:"),
        field("Umask:"),
        directory.display().to_string().into(),
    ]))
}

#[tokio::main]
async fn main() -> celeriac::Result<Stopped> {
    Worker::from_args("proj").task(add).task(stick).task(sleep).task(sleep_in_child).task(process).run().await
}
