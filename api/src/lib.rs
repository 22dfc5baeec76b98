//! The HTTP API of the AI companion: routes over [`companion`], and a Celery client for its workers.
//!
//! Every handler is a plain async function from a `Request` to an answer or an
//! `ApiError`. What all answers share (request id, error shape, access log, metrics) is added once,
//! at the edge, by [`routes::all`].

mod access;
mod celery;
mod client_address;
mod connection;
mod connections;
mod edge;
mod error;
mod guesses;
mod idempotency;
mod request;
mod route;
mod routes;
mod server;
mod shared;
mod state;
mod validate;
mod vitals;

pub use celery::{CeleryClient, CeleryError};
pub use routes::all as routes;
pub use server::{ServeError, serve};
pub use state::State;
