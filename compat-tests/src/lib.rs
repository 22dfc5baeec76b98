//! The test kit: starts the real programs that the tests of this workspace talk to, and owns them.
//!
//! | part | what it starts |
//! | --- | --- |
//! | [`RedisServer`] | a private `redis-server`, to be killed, restarted, paused at will |
//! | [`Sentinels`] | a master, its replica, and three Sentinels |
//! | [`RedisCluster`] | a Redis Cluster, whose slots can be moved and whose masters can be killed |
//! | [`Certificates`] | an authority and what it signs, made by `openssl` |
//! | [`Proxy`] | a TCP path that can be cut, or swallow everything |
//! | [`Interceptor`] | a path to a Redis on which chosen commands are refused |
//! | [`PostgresServer`] | one private PostgreSQL per test process, one database per test |
//! | [`PythonEnv`] | `celery ...`, Python scripts, from the pinned virtual environment |
//! | [`Process`] | any program, its log lines captured |
//! | [`run`] | any program, to its end |
//! | [`binary`] | the path of a program of this workspace |
//! | [`size`] | no program: how large a test is to be |
//! | [`Usage`] | no program: the processor time and the memory that one has taken |
//! | [`eventually`] | no program: waits for a condition, with a deadline |
//!
//! Everything is private to the test that starts it (own folder, own port), answers before `start` returns, is killed
//! and reaped on drop, and dies with the test process even if that is killed. What cannot be started panics with the
//! log of the program or with the command that installs it; nothing is skipped. The kit depends on no other crate of
//! the workspace, so that all of them may use it.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod binary;
mod certificates;
mod cluster;
mod eventually;
mod guard;
mod http;
mod interceptor;
mod keys;
mod place;
mod postgres;
mod process;
mod proxy;
mod python;
mod redis_server;
mod run;
mod sentinels;
mod size;
mod usage;

pub use binary::{binary, workspace_root};
pub use certificates::Certificates;
pub use cluster::RedisCluster;
pub use eventually::{Awaited, eventually, eventually_async, secs};
pub use http::get as http_get;
pub use interceptor::{Fault, Interceptor, Rule};
pub use keys::{DocumentedKeys, KeyTable, KeyWatch};
pub use nix::sys::signal::Signal;
pub use place::{Port, scratch_dir};
pub use postgres::{Database, PostgresServer};
pub use process::Process;
pub use proxy::Proxy;
pub use python::{PythonCommand, PythonEnv};
pub use redis_server::{RedisOptions, RedisServer};
pub use run::{Finished, run};
pub use sentinels::Sentinels;
pub use size::size;
pub use usage::Usage;
