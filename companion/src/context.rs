use std::sync::Arc;

use crate::{
    metrics::Metrics,
    notify::{Channel, ChannelError},
    rate_limit::RateLimiter,
    redis_link::{OpenRedisError, RedisLink},
    reminders::Desk,
    settings::Settings,
    store::{Store, StoreError},
};

/// What api and workers hold: settings, database, Redis and the channels. Cheap to clone.
#[derive(Clone)]
pub struct Companion {
    /// The settings it was made from.
    pub settings: Arc<Settings>,
    /// The database.
    pub store: Store,
    /// The Redis of counters and limits.
    pub redis: RedisLink,
    /// The counters.
    pub metrics: Metrics,
    /// The limit on chat requests.
    pub rate_limiter: Arc<RateLimiter>,
    /// The configured channels, in the order in which they are told.
    pub channels: Arc<[Channel]>,
    /// Where deliveries begin and end.
    pub(crate) desk: Arc<Desk>,
    /// The HTTP client for the model; nothing when none is configured.
    pub(crate) http: Option<reqwest::Client>,
}

/// Why the service cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] OpenRedisError),
    /// A notification channel.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl Companion {
    /// Puts everything together without waiting for any server. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When something local is wrong, such as a folder that cannot be made.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let redis = RedisLink::open(&settings.redis_url)?;
        let limits = (settings.rate_limit_per_minute, settings.rate_limit_per_hour);
        let store = Store::open(&settings)?;
        let channels = Channel::configured(&settings)?.into();
        Ok(Self {
            desk: Arc::new(Desk::new(&store, &channels)),
            metrics: Metrics::new(store.clone(), redis.clone()),
            store,
            rate_limiter: Arc::new(RateLimiter::new(redis.clone(), limits.0, limits.1)),
            channels,
            http: settings.openai.as_ref().map(|_| crate::notify::http_client()).transpose()?,
            redis,
            settings: Arc::new(settings),
        })
    }
}
