//! A child process: runs one task after the other, and ends when the worker is gone.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::memory::PeakMemory;
use super::wire::{self, Kind};
use crate::app::Celery;
use crate::message::{Accept, envelope};
use crate::node::lock;
use crate::task::{Context, Handler, Request, States, TaskError};
use crate::worker::builtins::Registry;
use crate::worker::execute::{Ended, Limits, execute};
use crate::worker::layers::Layers;
use crate::worker::signals::answer_in_child;
use crate::worker::threads::Seat;

/// Set for child processes to the process id of their worker.
pub(super) const VARIABLE: &str = "CELERIAC_WORKER_OF_CHILD";

/// Whether this process is a child of a worker.
pub(crate) fn is_child() -> bool {
    let parent = std::os::unix::process::parent_id().to_string();
    std::env::var_os(VARIABLE).is_some_and(|worker| worker.to_str() == Some(&parent))
}

/// What runs tasks in a child.
pub(crate) struct Child {
    pub(crate) app: Celery,
    pub(crate) states: States,
    pub(crate) layers: Layers,
    pub(crate) registry: Registry,
    pub(crate) hostname: String,
}

impl Child {
    /// Runs tasks until the worker closes its end; then ends the process.
    ///
    /// # Errors
    /// The connection to the worker cannot be used.
    pub(crate) async fn serve(self) -> io::Result<()> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Programs that a task starts must not read from the worker.
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        let mut runs = receive_runs(socket.try_clone()?)?;
        let current: Arc<Mutex<Option<Context>>> = Arc::default();
        let shown = Arc::clone(&current);
        answer_in_child(move || match &*lock(&shown) {
            Some(context) => format!("runs {}[{}]", context.name(), context.request().id),
            None => "waits for a task".to_owned(),
        })?;
        let limit = self.app.config().worker_max_memory_per_child.filter(|most| *most > 0);
        let memory = limit.map(|_| PeakMemory::new());
        wire::send_blocking(&socket, &wire::frame(Kind::Ready, &[])?)?;
        while let Some((soft, message)) = runs.recv().await {
            let mut answer = self.run(soft, &message, &current).await;
            *lock(&current) = None;
            answer.resident_kib = memory.as_ref().map_or(0, PeakMemory::kib);
            wire::send_blocking(&socket, &wire::frame(Kind::Done, &[&answer.encode()])?)?;
        }
        Ok(())
    }

    async fn run(&self, soft: Option<f64>, message: &[u8], current: &Mutex<Option<Context>>) -> Answer {
        let mut children = Vec::new();
        let ended = match self.context(message) {
            Ok((definition, context)) => {
                let limits = Limits {
                    hard: None,
                    soft,
                    terminate: CancellationToken::new(),
                    abort: CancellationToken::new(),
                };
                *lock(current) = Some(context.clone());
                let running = context.clone();
                let layers = self.layers.clone();
                let seat = match definition.handler {
                    Handler::Blocking(_) => Some(Seat::wait().await),
                    Handler::Async(_) => None,
                };
                let run = tokio::spawn(async move {
                    execute(&layers, &definition.handler, seat, running, limits).await
                });
                let ended = run.await.unwrap_or_else(|error| failed(error.to_string()));
                children = context.children();
                ended
            }
            Err(reason) => failed(reason),
        };
        Answer { ended, children, resident_kib: 0 }
    }

    fn context(&self, message: &[u8]) -> Result<(Arc<crate::task::TaskDefinition>, Context), String> {
        let message = envelope::decode(message).and_then(|message| message.into_task(&Accept::default()));
        let (message, body) = message.map_err(|error| error.to_string())?;
        let request = Request::new(message.headers, message.properties, body, &self.hostname);
        let definition = self
            .registry
            .get(request.task.as_str())
            .ok_or_else(|| format!("a child process does not have the task {}", request.task))?;
        let context =
            Context::for_run(Arc::clone(definition), request, self.states.clone(), self.app.clone());
        Ok((Arc::clone(definition), context))
    }
}

fn failed(reason: String) -> Ended {
    Ended::Returned(Err(TaskError::unexpected(reason)))
}

type Run = (Option<f64>, Vec<u8>);

/// Reads on a thread of its own, so that the process ends with its worker whatever the task does.
fn receive_runs(socket: UnixStream) -> io::Result<mpsc::UnboundedReceiver<Run>> {
    // At most one waits: the worker sends the next run after the answer to the last.
    let (sender, receiver) = mpsc::unbounded_channel();
    let begun = wire::frame(Kind::Begun, &[])?;
    std::thread::Builder::new().name("celeriac-parent".to_owned()).spawn(move || {
        while let Ok((Kind::Run, content)) = wire::receive_blocking(&socket) {
            if wire::send_blocking(&socket, &begun).is_err() {
                break;
            }
            let Some((soft, message)) = content.split_first_chunk() else { break };
            let soft = f64::from_be_bytes(*soft);
            if sender.send(((!soft.is_nan()).then_some(soft), message.to_vec())).is_err() {
                break;
            }
        }
        std::process::exit(0);
    })?;
    Ok(receiver)
}
