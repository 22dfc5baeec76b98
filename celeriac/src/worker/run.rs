//! Running a worker, from its start to its end.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::assembly::{Plan, assemble};
#[cfg(feature = "cli")]
use super::banner;
use super::builder::{Parts, Worker};
use super::error::WorkerError;
use super::lifetime::{EndOnDrop, outlive};
use super::loops::Loops;
use super::port::Port;
use super::processes::{Child, is_child};
use super::runtime::Runtime;
use super::signals::{self, Signals};
use super::{Stopped, hooks, panics};
use crate::app::Result;
use crate::control::{Commands, Service, ServiceOptions};
use crate::daemon;

impl Worker {
    /// Runs until it is shut down: warm by TERM, cold by QUIT.
    ///
    /// HUP shuts down warm and then starts the program again, in the same process with the same arguments, unless it is
    /// attached to a terminal; `main` does not go on then. USR1 logs what tasks and threads do.
    ///
    /// For tasks of the pool `process` the program starts itself again, with the same arguments: `main` comes to this
    /// call there too, and runs the tasks that the worker hands over. So what stands before it should be quick and
    /// harmless to do again: it is done for each child process, at the first task and whenever a child is replaced.
    /// [`is_child_process`](crate::worker::is_child_process) tells the two apart; [`Worker::on_worker_init`] and [`Worker::on_worker_process_init`] are
    /// the places for what is to be done only in the worker, or only in its children.
    ///
    /// # Cancellation
    /// Dropping the future shuts the worker down cold, as QUIT does: it takes no more messages, ends what runs, gives
    /// back what it holds and leaves. This goes on in the runtime in which the worker ran. If that runtime ends too,
    /// other workers bring the messages back when the worker's lease is over, within 40 s.
    ///
    /// # Errors
    /// [`Error::Worker`](crate::Error::Worker) when the worker cannot start as it was built. A broker that is away is waited for as long as
    /// `broker_connection_retry`, `broker_connection_retry_on_startup` and `broker_connection_max_retries` say, by default
    /// for ever; then it is [`BrokerError::GaveUp`](crate::broker::BrokerError::GaveUp).
    pub async fn run(self) -> Result<Stopped> {
        outlive(|abandoned| self.run_unless(abandoned)).await
    }

    /// Runs until it is shut down, which happens at once when it is abandoned.
    async fn run_unless(mut self, abandoned: CancellationToken) -> Result<Stopped> {
        if self.hooks_panics {
            panics::install();
        }
        let plan = Plan::of(&self)?;
        if is_child() {
            return self.serve_as_child(plan).await;
        }
        #[cfg(feature = "cli")]
        if let Some(program) = &mut self.program {
            program.begin()?;
        }
        let signals = if self.handles_signals { Signals::listen().ok() } else { None };
        hooks::each(&self.hooks.worker_init, |hook| hook());
        for remark in self.app.config().remarks() {
            log::warn!("{remark}");
        }
        let (declared, queues) = (plan.declared.clone(), plan.queues.clone());
        let (stop, answers_signals) = (self.stop.clone(), self.handles_signals);
        let (parts, commands) = (self.parts.clone(), std::mem::take(&mut self.commands));
        // It holds the lock of the pid file.
        #[cfg(feature = "cli")]
        let program = self.program.take();
        let assembled = assemble(self, plan)?;
        let runtime = Arc::clone(&assembled.runtime);
        let _end = EndOnDrop(runtime.life.clone());
        let service = match parts.without_service {
            true => None,
            false => Some(start_service(&runtime, &parts, commands).await?),
        };
        let finish = runtime.life.finish.clone();
        if answers_signals && let Err(error) = signals::answer(Arc::downgrade(&runtime), finish) {
            log::warn!(error:% = error; "SIGUSR1 and SIGUSR2 are not answered: {error}");
        }
        #[cfg(feature = "cli")]
        if let Some(program) = program.as_ref().filter(|program| !program.quiet) {
            banner::print(&runtime, &declared, program.loglevel);
        }
        #[cfg(feature = "cli")]
        let purges = program.as_ref().is_some_and(|program| program.purge);
        #[cfg(not(feature = "cli"))]
        let purges = false;
        let purged = if purges { queues } else { Vec::new() };
        let loops = Loops::start(assembled, &parts, declared, purged);
        let stopped = loops.run(stop, signals, abandoned, service).await?;
        log::info!(worker = runtime.state.hostname.as_str(); "{} stopped", runtime.state.hostname);
        if stopped.is_hangup {
            let error = daemon::replace();
            log::error!(error:% = error; "The program cannot be started again: {error}");
        }
        Ok(stopped)
    }

    /// Runs the tasks that the worker hands over to this process.
    async fn serve_as_child(self, plan: Plan) -> Result<Stopped> {
        hooks::each(&self.hooks.worker_process_init, |hook| hook());
        let Plan { hostname, registry, .. } = plan;
        let child = Child { app: self.app, states: self.states, layers: self.layers, registry, hostname };
        let served = child.serve().await;
        served.map_err(|error| WorkerError::LostWorker { reason: error.to_string() })?;
        Ok(Stopped::default())
    }
}

/// Starts remote control, events and probes.
async fn start_service(runtime: &Arc<Runtime>, parts: &Parts, commands: Commands) -> Result<Service> {
    let config = runtime.config();
    let options = ServiceOptions {
        remote_control: config.worker_enable_remote_control,
        heartbeat: (!parts.without_heartbeat).then_some(parts.heartbeat_interval),
        gossip: !parts.without_gossip,
        probes: config.celeriac_probe_address.as_deref().map(listen).transpose()?,
    };
    let (port, events) = (Port::new(runtime), runtime.events.clone());
    let service = Service::start(port, events, commands, runtime.app.broker(), options).await;
    Ok(service.map_err(|error| WorkerError::NoThread { reason: error.to_string() })?)
}

/// Opens the address at which probes are answered.
fn listen(address: &str) -> Result<std::net::TcpListener, WorkerError> {
    let listening = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        log::info!(address = address; "Probes are answered at http://{}", listener.local_addr()?);
        Ok(listener)
    });
    listening.map_err(|error| WorkerError::Probes { address: address.to_owned(), reason: error.to_string() })
}
