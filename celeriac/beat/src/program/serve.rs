//! Running until a signal.

use std::path::PathBuf;

use celeriac::Celery;
use celeriac::config::cli::WorkerOptions;
use log::{info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::keeper::{Keeper, terms, with_store};
use super::pidfile::PidFile;
use super::{BeatError, BeatOptions, Source, probes};
use crate::health::Health;
use crate::scheduler::Scheduler;
use crate::service::run_with;

impl BeatOptions {
    /// Makes the process what the options say, before anything is opened and before there are threads: in the background, as
    /// another user, with its log.
    ///
    /// # Errors
    /// [`BeatError::Settings`] with what the system refuses.
    pub fn enter(&self, with_log: bool) -> Result<(), BeatError> {
        let process = self.process()?;
        process.enter().map_err(|error| refused(&error))?;
        if with_log {
            process.start_log().map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// The part of the options that a worker has too.
    fn process(&self) -> Result<WorkerOptions, BeatError> {
        let mut arguments = vec!["beat".to_owned()];
        let mut give = |option: &str, value: Option<String>| {
            arguments.extend(value.map(|value| format!("--{option}={value}")));
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        give("workdir", path(&self.workdir));
        give("logfile", path(&self.logfile));
        give("uid", self.uid.clone());
        give("gid", self.gid.clone());
        give("umask", self.umask.clone());
        give("loglevel", Some(self.loglevel.map_or("INFO", |level| level.as_str()).to_owned()));
        if self.detach {
            arguments.push("--detach".to_owned());
        }
        let base = celeriac::config::Config::default();
        WorkerOptions::try_parse_over(base, arguments, Vec::new()).map_err(|error| refused(&error))
    }

    /// Runs beat until SIGTERM or SIGINT; SIGHUP reads the entries again.
    ///
    /// Cancel safe, but for the lock of the schedule, which then is free only when it ends by itself.
    ///
    /// # Errors
    /// When the entries are not valid, or the store fails in a way that does not pass by itself.
    pub async fn run(&self, app: Celery, source: Source) -> Result<(), BeatError> {
        self.run_observed(app, source, Health::default()).await
    }

    /// As [`BeatOptions::run`], for a program that looks at the health of its beat.
    ///
    /// # Errors
    /// The same as [`BeatOptions::run`].
    pub async fn run_observed(&self, app: Celery, source: Source, health: Health) -> Result<(), BeatError> {
        let _pidfile = self.pidfile.as_deref().map(PidFile::create).transpose()?;
        self.process()?.let_go().map_err(|error| refused(&error))?;
        let mut terminate = heard(SignalKind::terminate())?;
        let mut interrupt = heard(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: beat ends"),
                _ = interrupt.recv() => info!("SIGINT: beat ends"),
            }
        };
        self.run_until(app, source, health, shutdown).await
    }

    /// Runs beat until `shutdown` is ready; SIGHUP reads the entries again.
    ///
    /// # Errors
    /// The same as [`BeatOptions::run`].
    pub(super) async fn run_until(
        &self,
        app: Celery,
        source: Source,
        health: Health,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), BeatError> {
        let source = self.entries.iter().fold(source, |source, path| source.path(path));
        let configured = source.read()?;
        let keeper = Keeper::choose(self, &app)?;
        info!("beat starts; schedule in {}", keeper.place());
        if let (Keeper::File(..), Some(sync)) =
            (&keeper, Some(app.config().beat_sync_every).filter(|sync| *sync > 0))
        {
            warn!("beat_sync_every = {sync} has no effect: each run is on disk before it is sent");
        }
        let (sender, reloads) = mpsc::channel(1);
        let mut hangup = heard(SignalKind::hangup())?;
        let watch = tokio::spawn(source.watch(sender, move |context| hangup.poll_recv(context).map(drop)));
        let max_interval = self.max_interval.unwrap_or(app.config().beat_max_loop_interval);
        let outcome = with_store!(keeper, store => {
            let scheduler = Scheduler::of(store, app.clone(), configured, terms(&app));
            let scheduler = scheduler.max_interval(max_interval).health_in(health);
            let probes = self.probes(&app, scheduler.health()).await?;
            let pings = self.answer_pings(&app, scheduler.health());
            let outcome = run_with(scheduler, shutdown, reloads).await;
            probes.into_iter().chain(pings).for_each(|beside| beside.abort());
            outcome
        });
        watch.abort();
        Ok(outcome?)
    }

    async fn probes(
        &self,
        app: &Celery,
        health: Health,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, BeatError> {
        let address = self.probe_address.clone().or_else(|| app.config().celeriac_probe_address.clone());
        let Some(address) = address.filter(|address| !address.is_empty()) else { return Ok(None) };
        let listener = tokio::net::TcpListener::bind(&address)
            .await
            .map_err(|reason| BeatError::System { what: format!("probe address {address}"), reason })?;
        Ok(Some(tokio::spawn(probes::serve(listener, health))))
    }
}

fn refused(error: &dyn std::fmt::Display) -> BeatError {
    BeatError::Settings(error.to_string())
}

fn heard(kind: SignalKind) -> Result<Signal, BeatError> {
    signal(kind).map_err(|reason| BeatError::System { what: "signals".to_owned(), reason })
}
