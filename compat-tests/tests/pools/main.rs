//! What a Rust worker makes of tasks in child processes, of revocations and of bad messages; asked by Celery's client.

mod bad_messages;
mod bench;
mod broker_away;
mod command_line;
mod hooks;
mod many;
mod messages;
mod processes;
mod sick_host;
mod signals;
