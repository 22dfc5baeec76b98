//! The relay of the outbox, which runs beside each worker.

use celeriac::Celery;
use celeriac::config::Config;
use celeriac_outbox::{CeleryPublisher, Relay};
use companion::Companion;

use crate::QUEUE;

/// The relay that publishes what the companion's outbox holds, under the settings of the worker.
///
/// # Errors
/// Those of the settings.
pub fn relay(companion: &Companion, config: &Config) -> anyhow::Result<Relay<CeleryPublisher>> {
    let mut config = config.clone();
    // The relay tries again by itself, and asks the database first.
    config.set("task_publish_retry", "false")?;
    let app = Celery::new("ai_companion", config)?;
    Ok(Relay::new(companion.store.outbox(), CeleryPublisher::new(app, [QUEUE])))
}
