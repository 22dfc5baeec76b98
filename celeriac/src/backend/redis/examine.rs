//! Results that stay forever though they should expire.

use std::time::{Duration, Instant};

use redis::{Pipeline, Value as Reply};

use super::RedisBackend;
use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::broker::redis::{each_key, examine_server, literally};
use crate::finding::Finding;

const SUBJECT: &str = "results";

impl RedisBackend {
    /// Looks at the server.
    ///
    /// # Errors
    /// [`BackendError::Connection`] and [`BackendError::Timeout`].
    pub(crate) async fn examine_server(&self) -> Result<Vec<Finding>, BackendError> {
        Ok(examine_server(&self.link).await?)
    }

    /// Looks for results that never expire, for as long as `patience` lasts.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`], and [`BackendError::Refused`] without a right.
    pub(crate) async fn survey(&self, patience: Duration) -> Result<Vec<Finding>, BackendError> {
        if self.link.endpoint().is_cluster() {
            return Ok(Vec::new());
        }
        let (mut count, mut lasting, mut example) = (0_u64, 0_u64, None);
        let look = async |keys: &[String]| {
            let mut ask = Pipeline::new();
            keys.iter().for_each(|key| {
                ask.cmd("TTL").arg(key);
            });
            if keys.is_empty() {
                return Ok::<(), BrokerError>(());
            }
            for (key, answer) in keys.iter().zip(self.link.call(&mut ask).await?) {
                count += 1;
                if answer == Reply::Int(-1) {
                    lasting += 1;
                    example.get_or_insert_with(|| key.clone());
                }
            }
            Ok(())
        };
        let pattern = format!("{}celery-task*meta-*", literally(&self.prefix));
        let is_whole = each_key(&self.link, &pattern, Instant::now() + patience, look).await?;
        let most = if is_whole { "" } else { "at least " };
        Ok(vec![match (self.expires, example) {
            (0, _) => Finding::note(
                SUBJECT,
                format!("{most}{count} record(s) of results, which never expire (result_expires)"),
            ),
            (_, None) => {
                Finding::good(SUBJECT, format!("{most}{count} record(s) of results, and all expire"))
            }
            (_, Some(example)) => Finding::warning(
                SUBJECT,
                format!("{most}{lasting} of {count} record(s) of results never expire, such as {example}"),
                "whoever stored them had result_expires 0 or none: give all workers the same result_expires, and these keys an EXPIRE",
            ),
        }])
    }
}
