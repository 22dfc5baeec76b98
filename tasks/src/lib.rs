//! The Celery tasks of the AI companion: thin, over the domain in [`companion`].

mod analytics;
mod celery_app;
mod instant;
mod relay;
mod reminders;

use celeriac::Worker;
use companion::Companion;
pub use relay::relay;

pub use companion::reminders::QUEUE;

/// Gives a worker all tasks of the service and the state that they need.
pub fn register(worker: Worker, companion: Companion) -> Worker {
    worker
        .state(companion)
        .task(celery_app::ping)
        .task(reminders::send_due_reminders)
        .task(reminders::deliver_reminder)
        .task(analytics::compute_daily_metrics)
}
