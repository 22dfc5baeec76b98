//! Health over HTTP: what an orchestrator asks a worker.
//!
//! `/livez` says whether the worker must be replaced: only when it stalls. `/readyz` says whether it works: not while
//! it starts or ends, while the broker is away, or while messages wait and none is taken. `/metrics` has its numbers in
//! the text format of Prometheus. All are answered from remote control's thread out of what is known there; a request
//! asks neither the broker nor the worker's own threads.

mod dead_letters;
mod metrics;
mod server;
mod watch;

pub(super) use server::serve;
pub(super) use watch::Watch;
