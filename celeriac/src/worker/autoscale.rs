//! Slots that follow the load, between two bounds.
//!
//! Source: celery 5.7 `celery/worker/autoscale.py`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::runtime::Runtime;
use crate::node::lock;

/// How often the load is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long slots are kept that nobody uses (`AUTOSCALE_KEEPALIVE`, in seconds).
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The bounds, if the worker scales.
#[derive(Default)]
pub(crate) struct Autoscale {
    bounds: Mutex<Option<Bounds>>,
}

/// Between which the number of slots is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl Autoscale {
    pub(crate) fn new(bounds: Option<Bounds>) -> Self {
        Self { bounds: Mutex::new(bounds) }
    }

    pub(crate) fn bounds(&self) -> Option<Bounds> {
        *lock(&self.bounds)
    }

    /// Changes the bounds that are given; `None` when the worker does not scale.
    pub(crate) fn change(&self, max: Option<usize>, min: Option<usize>) -> Option<Bounds> {
        let mut bounds = lock(&self.bounds);
        let current = bounds.as_mut()?;
        current.max = max.unwrap_or(current.max);
        current.min = min.unwrap_or(current.min).min(current.max);
        Some(*current)
    }

    /// Follows the load until the worker stops.
    pub(crate) async fn run(runtime: Arc<Runtime>) {
        let keepalive = std::env::var("AUTOSCALE_KEEPALIVE").ok().and_then(|seconds| seconds.parse().ok());
        let keepalive = keepalive.map_or(KEEPALIVE, Duration::from_secs);
        let mut grown = Instant::now();
        loop {
            tokio::select! {
                () = runtime.life.stopping.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let Some(Bounds { min, max }) = runtime.autoscale.bounds() else { return };
            let (wanted, current) = (runtime.state.pressing(), runtime.slots.limit());
            if wanted > current && current < max {
                grown = Instant::now();
                resize(&runtime, current, wanted.min(max));
            } else if wanted < current && current > min && grown.elapsed() >= keepalive {
                resize(&runtime, current, wanted.max(min));
            }
        }
    }
}

fn resize(runtime: &Arc<Runtime>, from: usize, to: usize) {
    log::info!(from, to; "Scaling from {from} to {to} slots");
    runtime.slots.resize(to);
    runtime.processes.resize(to);
    runtime.consumer.wake();
}
