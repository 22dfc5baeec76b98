//! The task by which anybody can see that the worker works.

#[celeriac::task(name = "app.celery_app.ping")]
pub(crate) async fn ping() -> &'static str {
    "pong"
}
