//! One subscription connection for everybody who waits for results.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::backend::BackendError;
use crate::backoff::Backoff;
use crate::broker::redis::Link;

/// How often a waiter looks although nothing was announced.
const FALLBACK: Duration = Duration::from_secs(10);

/// Most keys that one command subscribes to.
const BATCH: usize = 1000;

/// Who waits for which key.
#[derive(Clone)]
pub(super) struct Waiters {
    link: Link,
    shared: Arc<Shared>,
}

/// For each key its watchers, each with the number that the key has among the watcher's keys.
type Watched = HashMap<String, Vec<(Arc<News>, usize)>>;

#[derive(Default)]
struct Shared {
    channels: Mutex<Watched>,
    requests: Mutex<Option<mpsc::UnboundedSender<Request>>>,
}

impl Shared {
    fn channels(&self) -> MutexGuard<'_, Watched> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The changes that a waiter has not taken note of yet.
#[derive(Default)]
struct News {
    places: Mutex<BTreeSet<usize>>,
    arrived: Notify,
}

impl News {
    fn add(&self, place: usize) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
        // Kept for a waiter that does not look at this moment.
        self.arrived.notify_one();
    }

    fn take(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

enum Request {
    Subscribe(Vec<String>, oneshot::Sender<()>),
    Unsubscribe(Vec<String>),
}

/// A subscription to some keys; ends when dropped.
pub(crate) struct Waiter {
    channels: Vec<String>,
    news: Arc<News>,
    waiters: Waiters,
}

impl Waiters {
    pub(super) fn new(link: Link) -> Self {
        Self { link, shared: Arc::default() }
    }

    /// Subscribes to keys; when it returns, every later change is seen.
    pub(super) async fn watch(&self, channels: Vec<String>) -> Waiter {
        let news = Arc::new(News::default());
        {
            let mut watched = self.shared.channels();
            for (place, channel) in channels.iter().enumerate() {
                watched.entry(channel.clone()).or_default().push((Arc::clone(&news), place));
            }
        }
        let waiter = Waiter { channels, news, waiters: self.clone() };
        let (confirm, confirmed) = oneshot::channel();
        self.request(Request::Subscribe(waiter.channels.clone(), confirm));
        // Without a confirmation the fallback of `changed` still looks now and then.
        let _ = tokio::time::timeout(FALLBACK, confirmed).await;
        waiter
    }

    /// Hands a request to the task that owns the connection, starting it for the first one.
    fn request(&self, request: Request) {
        let mut requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match &*requests {
            Some(sender) => sender.send(request).err().map(|refused| refused.0),
            None => Some(request),
        };
        if let Some(request) = refused
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (sender, receiver) = mpsc::unbounded_channel();
            // The receiver was made in the line above.
            let _ = sender.send(request);
            *requests = Some(sender);
            runtime.spawn(serve(self.link.clone(), Arc::downgrade(&self.shared), receiver));
        }
    }
}

impl Waiter {
    /// Waits until a key may have changed, and returns the places of such keys among those that are watched.
    pub(crate) async fn changed(&mut self) -> BTreeSet<usize> {
        let looking = async {
            loop {
                let places = self.news.take();
                if !places.is_empty() {
                    return places;
                }
                self.news.arrived.notified().await;
            }
        };
        // Running into the fallback is an ordinary look at all of them.
        tokio::time::timeout(FALLBACK, looking).await.unwrap_or_else(|_| (0..self.channels.len()).collect())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let channels = std::mem::take(&mut self.channels);
        let mut watched = self.waiters.shared.channels();
        let mut unwatched = Vec::new();
        for channel in channels {
            let Some(watchers) = watched.get_mut(&channel) else { continue };
            watchers.retain(|(news, _)| !Arc::ptr_eq(news, &self.news));
            if watchers.is_empty() {
                watched.remove(&channel);
                unwatched.push(channel);
            }
        }
        drop(watched);
        if !unwatched.is_empty() {
            self.waiters.request(Request::Unsubscribe(unwatched));
        }
    }
}

/// Owns the connection until nobody can ask for anything any more.
async fn serve(link: Link, shared: std::sync::Weak<Shared>, mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut backoff = Backoff::default();
    loop {
        match link.subscriber().await {
            Ok((sink, stream)) => {
                if forward(&link, sink, stream, &shared, &mut requests, &mut backoff).await.is_ok() {
                    return;
                }
            }
            Err(error) => {
                log::warn!(backend:% = link.endpoint(); "Cannot subscribe to results: {error}")
            }
        }
        if shared.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn forward(
    link: &Link,
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    shared: &std::sync::Weak<Shared>,
    requests: &mut mpsc::UnboundedReceiver<Request>,
    backoff: &mut Backoff,
) -> Result<(), BackendError> {
    let known: Vec<String> =
        shared.upgrade().map(|shared| shared.channels().keys().cloned().collect()).unwrap_or_default();
    for known in known.chunks(BATCH) {
        link.answered(sink.subscribe(known)).await?;
    }
    backoff.reset();
    if let Some(shared) = shared.upgrade() {
        shared.channels().values().flatten().for_each(|(news, place)| news.add(*place));
    }
    let mut check = tokio::time::interval(link.timing().health_check);
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Subscribe(channels, confirm)) => {
                    for channels in channels.chunks(BATCH) {
                        link.answered(sink.subscribe(channels)).await?;
                    }
                    // The waiter may have given up meanwhile.
                    let _ = confirm.send(());
                }
                Some(Request::Unsubscribe(mut channels)) => {
                    if let Some(shared) = shared.upgrade() {
                        let watched = shared.channels();
                        channels.retain(|channel| !watched.contains_key(channel));
                    }
                    for channels in channels.chunks(BATCH) {
                        link.answered(sink.unsubscribe(channels)).await?;
                    }
                }
                None => return Ok(()),
            },
            message = stream.next() => {
                let Some(message) = message else { return Err(link.closed().into()) };
                if let Some(shared) = shared.upgrade() {
                    let watched = shared.channels();
                    let watchers = watched.get(message.get_channel_name()).into_iter().flatten();
                    watchers.for_each(|(news, place)| news.add(*place));
                }
            }
            _ = check.tick() => {
                link.answered(sink.ping::<redis::Value>()).await?;
            }
        }
    }
}
