//! One subscription connection for everybody who waits for results.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::broker::redis::Link;

/// How often a waiter looks although nothing was announced.
const FALLBACK: Duration = Duration::from_secs(10);

/// Who waits for which key.
#[derive(Clone)]
pub(super) struct Waiters {
    link: Link,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    channels: Mutex<HashMap<String, Watched>>,
    requests: Mutex<Option<mpsc::UnboundedSender<Request>>>,
}

struct Watched {
    changed: Arc<Notify>,
    watchers: usize,
}

enum Request {
    Subscribe(String, oneshot::Sender<()>),
    Unsubscribe(String),
}

/// A subscription to one key; ends when dropped.
pub(crate) struct Waiter {
    channel: String,
    changed: Arc<Notify>,
    waiters: Waiters,
}

impl Waiters {
    pub(super) fn new(link: Link) -> Self {
        Self { link, shared: Arc::default() }
    }

    /// Subscribes to a key; when it returns, every later change is seen.
    pub(super) async fn watch(&self, channel: String) -> Waiter {
        let changed = {
            let mut channels = self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner);
            let watched = channels
                .entry(channel.clone())
                .or_insert_with(|| Watched { changed: Arc::new(Notify::new()), watchers: 0 });
            watched.watchers += 1;
            Arc::clone(&watched.changed)
        };
        let waiter = Waiter { channel: channel.clone(), changed, waiters: self.clone() };
        let (confirm, confirmed) = oneshot::channel();
        self.request(Request::Subscribe(channel, confirm));
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
    /// Returns when the key may have changed.
    pub(crate) async fn changed(&mut self) {
        // Running into the fallback is an ordinary look.
        let _ = tokio::time::timeout(FALLBACK, self.changed.notified()).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut channels = self.waiters.shared.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = channels.get_mut(&self.channel) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                channels.remove(&self.channel);
                drop(channels);
                self.waiters.request(Request::Unsubscribe(std::mem::take(&mut self.channel)));
            }
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
) -> Result<(), BrokerError> {
    let lock = |shared: &Shared, visit: &mut dyn FnMut(&HashMap<String, Watched>)| {
        visit(&shared.channels.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let mut known = Vec::new();
    if let Some(shared) = shared.upgrade() {
        lock(&shared, &mut |channels| known.extend(channels.keys().cloned()));
    }
    if !known.is_empty() {
        link.answered(sink.subscribe(&known)).await?;
    }
    backoff.reset();
    if let Some(shared) = shared.upgrade() {
        lock(&shared, &mut |channels| channels.values().for_each(|watched| watched.changed.notify_waiters()));
    }
    let mut check = tokio::time::interval(link.timing().health_check);
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Subscribe(channel, confirm)) => {
                    link.answered(sink.subscribe(&channel)).await?;
                    // The waiter may have given up meanwhile.
                    let _ = confirm.send(());
                }
                Some(Request::Unsubscribe(channel)) => {
                    let mut wanted = false;
                    if let Some(shared) = shared.upgrade() {
                        lock(&shared, &mut |channels| wanted = channels.contains_key(&channel));
                    }
                    if !wanted {
                        link.answered(sink.unsubscribe(&channel)).await?;
                    }
                }
                None => return Ok(()),
            },
            message = stream.next() => {
                let Some(message) = message else { return Err(link.closed()) };
                if let Some(shared) = shared.upgrade() {
                    lock(&shared, &mut |channels| {
                        if let Some(watched) = channels.get(message.get_channel_name()) {
                            watched.changed.notify_waiters();
                            watched.changed.notify_one();
                        }
                    });
                }
            }
            _ = check.tick() => {
                link.answered(sink.ping::<redis::Value>()).await?;
            }
        }
    }
}
