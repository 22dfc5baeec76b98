//! A client of rusty-celery: sends one task, and prints the task's id.
//!
//! `rusty-celery-client add 1 2 [COUNTDOWN]`, `echo JSON`, `noop`, `sleep SECONDS`; broker and queue as for the worker.

use anyhow::{Context, bail};
use celery::CeleryBuilder;
use rusty_celery_peers::{add, echo, noop, sleep, variable};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str).context("an argument is missing");
    let app = CeleryBuilder::new("bench", &variable("BENCH_BROKER_URL", "redis://127.0.0.1:6379/0"))
        .default_queue(&variable("BENCH_QUEUE", "celery"))
        .build()
        .await?;
    let sent = match argument(0)? {
        "add" => {
            let mut call = add::new(argument(1)?.parse()?, argument(2)?.parse()?);
            if let Ok(countdown) = argument(3) {
                call = call.with_countdown(countdown.parse()?);
            }
            app.send_task(call).await?
        }
        "echo" => app.send_task(echo::new(serde_json::from_str(argument(1)?)?)).await?,
        "noop" => app.send_task(noop::new()).await?,
        "sleep" => app.send_task(sleep::new(argument(1)?.parse()?)).await?,
        unknown => bail!("there is no task {unknown}"),
    };
    println!("{}", sent.task_id);
    Ok(())
}
