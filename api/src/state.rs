use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use companion::Companion;

use crate::{
    access::HttpMetrics,
    celery::{CeleryClient, CeleryError},
    guesses::Guesses,
    vitals::Vitals,
};

/// What every handler can reach; cheap to clone.
#[derive(Clone)]
pub struct State {
    /// The domain.
    pub companion: Companion,
    /// The way to the workers.
    pub celery: CeleryClient,
    pub(crate) http: HttpMetrics,
    pub(crate) guesses: Arc<Guesses>,
    pub(crate) vitals: Arc<Vitals>,
    stopping: Arc<AtomicBool>,
}

impl State {
    /// The state of an API over this companion. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the Redis URL cannot serve as a broker.
    pub fn new(companion: Companion) -> Result<Self, CeleryError> {
        let celery = CeleryClient::new(&companion.settings)?;
        Ok(Self {
            companion,
            celery,
            http: HttpMetrics::default(),
            guesses: Arc::default(),
            vitals: Arc::default(),
            stopping: Arc::default(),
        })
    }

    /// Publishes what was just put into the outbox. If that fails, the workers do it.
    pub(crate) async fn publish_outbox(&self) {
        if let Err(error) = self.celery.publish(self.companion.store.outbox()).await {
            log::warn!(error:% = error; "The outbox is left to the workers: {error}");
        }
    }

    /// From now on the service says that it is not ready.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
