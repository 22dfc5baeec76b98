//! The contract of the HTTP API, on PostgreSQL and on SQLite.

mod administration;
mod chat;
mod health;
mod reminders;
mod requests;
mod support;
