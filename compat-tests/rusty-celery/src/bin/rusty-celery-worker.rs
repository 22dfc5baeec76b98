//! A worker of rusty-celery with the tasks of scripts/bench-worker.
//!
//! Broker and queue come from `BENCH_BROKER_URL` and `BENCH_QUEUE`; `BENCH_PREFETCH` bounds how many messages it holds
//! unacknowledged. It has no result backend. Its log (`RUST_LOG=info`) tells what each task returned.

use celery::CeleryBuilder;
use rusty_celery_peers::{add, echo, noop, sleep, variable};
use std::sync::Arc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    env_logger::init();
    let queue = variable("BENCH_QUEUE", "celery");
    let app = CeleryBuilder::new("bench", &variable("BENCH_BROKER_URL", "redis://127.0.0.1:6379/0"))
        .default_queue(&queue)
        .prefetch_count(variable("BENCH_PREFETCH", "1000").parse()?)
        .build()
        .await?;
    app.register_task::<noop>().await?;
    app.register_task::<add>().await?;
    app.register_task::<echo>().await?;
    app.register_task::<sleep>().await?;
    Ok(Arc::new(app).consume().await?)
}
