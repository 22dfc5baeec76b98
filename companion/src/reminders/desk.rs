use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    combine::Combiner,
    notify::Channel,
    store::{Begun, Ended, Store, StoreError, Wanted},
};

/// Most deliveries in one transaction.
const MOST: usize = 128;

/// Where deliveries begin and end: those of many tasks in one transaction of the database.
pub(crate) struct Desk {
    begin: Combiner<Wanted, Result<Option<Begun>, StoreError>>,
    end: Combiner<Ended, Result<Option<DateTime<Utc>>, StoreError>>,
}

impl Desk {
    /// A desk for deliveries by these channels. Must be called within a tokio runtime.
    pub(crate) fn new(store: &Store, channels: &Arc<[Channel]>) -> Self {
        let (beginning, ending, channels) = (store.clone(), store.clone(), Arc::clone(channels));
        Self {
            begin: Combiner::new(MOST, move |wanted: Vec<Wanted>| {
                let (store, channels) = (beginning.clone(), Arc::clone(&channels));
                async move { begin(&store, &channels, &wanted).await }
            }),
            end: Combiner::new(MOST, move |ended: Vec<Ended>| {
                let store = ending.clone();
                async move { end(&store, &ended).await }
            }),
        }
    }

    /// Takes the right to deliver a reminder, and records the sendings; nothing when it cannot be had.
    pub(crate) async fn begin(&self, wanted: Wanted) -> Result<Option<Begun>, StoreError> {
        self.begin.call(wanted).await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Records an end and returns when it was; nothing when the right to deliver is somebody else's by now.
    pub(crate) async fn end(&self, ended: Ended) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.end.call(ended).await.unwrap_or(Err(StoreError::Stopped))
    }
}

async fn begin(
    store: &Store,
    channels: &[Channel],
    wanted: &[Wanted],
) -> Vec<Result<Option<Begun>, StoreError>> {
    let plan = |begun: &Begun| super::plan::to_record(&super::plan::of(begun, channels));
    match store.begin_deliveries(wanted, &plan).await {
        Ok(mut begun) => {
            let mut find = |wanted: &Wanted| {
                let place = begun.iter().position(|begun| begun.delivery_token == wanted.token)?;
                Some(begun.swap_remove(place))
            };
            wanted.iter().map(|wanted| Ok(find(wanted))).collect()
        }
        // One that the database refuses must not keep the others from being delivered.
        Err(error) if wanted.len() > 1 && !error.is_retryable() => {
            let mut answers = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                answers.append(&mut Box::pin(begin(store, channels, std::slice::from_ref(wanted))).await);
            }
            answers
        }
        Err(error) => shared(error, wanted.len()),
    }
}

async fn end(store: &Store, ended: &[Ended]) -> Vec<Result<Option<DateTime<Utc>>, StoreError>> {
    match store.end_deliveries(ended).await {
        Ok((recorded, at)) => {
            let is_recorded = |id: Uuid| recorded.contains(&id);
            ended.iter().map(|ended| Ok(is_recorded(ended.reminder).then_some(at))).collect()
        }
        Err(error) if ended.len() > 1 && !error.is_retryable() => {
            let mut answers = Vec::with_capacity(ended.len());
            for ended in ended {
                answers.append(&mut Box::pin(end(store, std::slice::from_ref(ended))).await);
            }
            answers
        }
        Err(error) => shared(error, ended.len()),
    }
}

/// The same error for each of those whom it concerns.
fn shared<T>(error: StoreError, count: usize) -> Vec<Result<T, StoreError>> {
    let error = Arc::new(error);
    (0..count).map(|_| Err(StoreError::Shared(Arc::clone(&error)))).collect()
}
