//! The thread on which a worker is told what to do and tells what it does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::commands::Commands;
use super::gossip::Gossip;
use super::panel::Panel;
use super::pidbox::Pidbox;
use super::probes::{self, Watch};
use super::revocations::Revocations;
use super::worker_port::WorkerPort;
use crate::broker::Broker;
use crate::events::{Dispatcher, LogicalClock, Vitals, events_of, publish_until};
use crate::message::{Message, Signature};
use crate::node::{Stage, lock};

/// How often workers that went silent are forgotten.
const GOSSIP_INTERVAL: Duration = Duration::from_secs(5);
/// Commands that may be carried out at a time; further ones wait.
const COMMANDS: usize = 100;
/// How often it is looked for revocations of which a broadcast did not tell, because the connection was away.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);
/// How long commands that are being carried out may delay the end.
const LAST_COMMANDS: Duration = Duration::from_secs(2);

/// Which parts of the service a worker wants.
#[derive(Debug)]
pub(crate) struct ServiceOptions {
    /// Whether commands are answered (`worker_enable_remote_control`).
    pub(crate) remote_control: bool,
    /// Time between heartbeats; `None` sends none (`--heartbeat-interval`, `--without-heartbeat`).
    pub(crate) heartbeat: Option<Duration>,
    /// Whether the worker listens to the others (`--without-gossip`).
    pub(crate) gossip: bool,
    /// Where probes are answered (`celeriac_probe_address`).
    pub(crate) probes: Option<std::net::TcpListener>,
}

/// A running service.
///
/// It has a thread, a runtime and connections of its own: tasks that keep every thread of the worker's runtime busy
/// delay neither answers nor heartbeats.
pub(crate) struct Service {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Service {
    /// Starts the service; returns once it listens, or once the broker was found to be away.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub(crate) async fn start(
        worker: Arc<dyn WorkerPort>,
        events: Dispatcher,
        commands: Commands,
        broker: &Broker,
        options: ServiceOptions,
    ) -> std::io::Result<Self> {
        let config = worker.config();
        let pidbox_exchange = format!("{}.pidbox", config.control_exchange);
        // A shared connection would live in the runtime of the worker.
        let broker = broker.sibling();
        let state = worker.state();
        let gossip = options
            .gossip
            .then(|| Arc::new(Mutex::new(Gossip::new(&state.hostname, state.pid, events.clone()))));
        let revocations = Revocations::new(broker.clone());
        let panel = Panel::new(Arc::clone(&worker), events.clone(), broker.clone(), revocations, gossip);
        let codecs = worker.codecs();
        let pidbox = Pidbox {
            panel,
            commands: Arc::new(commands),
            broker,
            accept: codecs.accept(config).unwrap_or_default(),
            codec: codecs.codec(config.task_serializer.as_str()).unwrap_or_default(),
            clock: LogicalClock::default(),
            unreadable: Arc::default(),
        };
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let part = Part { pidbox, events, options, pidbox_exchange, stop: stop.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let watch = Arc::new(Watch::new(worker));
        std::thread::Builder::new().name("celeriac-control".to_owned()).spawn(move || {
            runtime.block_on(part.run(ready, watch));
            // Nobody may wait any more.
            let _ = end.send(());
        })?;
        let _ = is_ready.await;
        Ok(Self { stop, ended })
    }

    /// Says goodbye, sends the last events and ends; to be called when the last task is done.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let _ = (&mut self.ended).await;
    }
}

/// A worker that gives up leaves no thread behind.
impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Reads now and then what was revoked.
async fn reread(panel: Panel, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REREAD_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = panel.revocations().read(&panel.state().revoked).await {
            log::debug!(error:% = error; "What was revoked cannot be read now: {error}");
        }
    }
}

/// What runs on the thread.
struct Part {
    pidbox: Pidbox,
    events: Dispatcher,
    options: ServiceOptions,
    pidbox_exchange: String,
    stop: CancellationToken,
}

impl Part {
    async fn run(mut self, ready: oneshot::Sender<()>, watch: Arc<Watch>) {
        // All of them end with the runtime, when the last task is done: probes are answered until then.
        tokio::spawn(Arc::clone(&watch).run(self.pidbox.broker.clone(), self.stop.clone()));
        tokio::spawn(reread(self.pidbox.panel.clone(), self.stop.clone()));
        if let Some(listener) = self.options.probes.take() {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    tokio::spawn(probes::serve(listener, watch, self.events.clone(), self.stop.clone()));
                }
                Err(error) => log::error!(error:% = error; "Probes cannot be answered: {error}"),
            }
        }
        let publishing = CancellationToken::new();
        let publisher =
            tokio::spawn(publish_until(self.events.clone(), self.pidbox.broker.clone(), publishing.clone()));
        self.beat("worker-online");
        let commands = TaskTracker::new();
        self.serve(ready, &commands).await;
        commands.close();
        if tokio::time::timeout(LAST_COMMANDS, commands.wait()).await.is_err() {
            log::warn!("Control commands that took too long were left behind");
        }
        self.beat("worker-offline");
        publishing.cancel();
        if let Err(error) = publisher.await {
            log::error!(error:% = error; "Sending events failed: {error}");
        }
    }

    async fn serve(&self, ready: oneshot::Sender<()>, commands: &TaskTracker) {
        let mut topics = Vec::new();
        if self.options.remote_control {
            topics.push((self.pidbox_exchange.as_str(), ""));
        }
        if self.options.gossip {
            topics.push((self.events.options().exchange.as_str(), "worker.#"));
        }
        let mut subscription = match topics.is_empty() {
            true => None,
            false => Some(self.pidbox.broker.subscribe(&topics).await),
        };
        // The worker may have been ended meanwhile.
        let _ = ready.send(());
        let mut next = async || match &mut subscription {
            Some(subscription) => subscription.next().await,
            None => std::future::pending().await,
        };
        let period =
            self.options.heartbeat.unwrap_or(Duration::from_secs(3600)).max(Duration::from_millis(10));
        let mut heartbeats = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        heartbeats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gossip = tokio::time::interval(GOSSIP_INTERVAL);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                message = next(), if commands.len() < COMMANDS => match message {
                    Some(message) => {
                        self.receive(message, commands);
                        // Lets the command begin before the next message is looked at: an election's own offer goes out
                        // before the acknowledgement of another's, without which Celery's worker ends with an IndexError.
                        tokio::task::yield_now().await;
                    }
                    None => return self.stop.cancelled().await,
                },
                _ = heartbeats.tick() => self.beat("worker-heartbeat"),
                _ = gossip.tick() => if let Some(gossip) = self.pidbox.panel.gossip() {
                    lock(gossip).remove_lost();
                },
            }
        }
    }

    fn receive(&self, message: Message, commands: &TaskTracker) {
        if message.properties.delivery_info.exchange == self.pidbox_exchange {
            commands.spawn(self.pidbox.clone().receive(message));
            return;
        }
        let Some(gossip) = self.pidbox.panel.gossip() else { return };
        let worker = self.pidbox.panel.worker();
        for event in events_of(&message, &self.pidbox.accept, &worker.state().clock) {
            if let Some((topic, action)) = lock(gossip).event(&event) {
                match (topic.as_str(), Signature::from_value(&action)) {
                    ("task", Ok(signature)) => worker.apply(signature),
                    ("task", Err(error)) => log::error!(error:% = error; "Could not call task: {error}"),
                    _ => log::error!(topic = topic.as_str(); "Unknown election topic {topic:?}"),
                }
            }
        }
    }

    fn beat(&self, kind: &str) {
        let Some(period) = self.options.heartbeat else { return };
        let state = self.pidbox.panel.state();
        let active =
            state.requests().values().filter(|known| matches!(known.stage, Stage::Active(_))).count();
        let vitals = Vitals { frequency: period.as_secs_f64(), active, processed: state.processed() };
        self.events.worker(kind, vitals);
    }
}
