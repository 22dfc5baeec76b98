//! The worker's events.

use crate::backend::ExceptionInfo;
use crate::message::{Headers, Value};

/// Sends the events of a worker.
#[derive(Default)]
pub(crate) struct Events;

impl Events {
    pub(crate) fn task_received(&self, _headers: &Headers) {}
    pub(crate) fn task_started(&self, _id: &str) {}
    pub(crate) fn task_succeeded(&self, _id: &str, _result: &Value, _runtime: f64) {}
    pub(crate) fn task_failed(&self, _id: &str, _exception: &ExceptionInfo, _traceback: Option<&str>) {}
    pub(crate) fn task_retried(&self, _id: &str, _exception: Option<&ExceptionInfo>, _traceback: &str) {}
    pub(crate) fn task_rejected(&self, _id: &str, _requeue: bool) {}
    pub(crate) fn task_revoked(&self, _id: &str, _terminated: bool, _signum: Option<i32>, _expired: bool) {}
}
