//! A worker as a program: what its command line says of it besides the settings.

use std::path::PathBuf;

use super::autoscale::Bounds;
use super::builder::{Parts, Worker};
use super::queues;
use crate::app::{Celery, Result};
use crate::config::cli::WorkerOptions;
use crate::config::{Config, LogLevel};
use crate::daemon::{self, PidFile, ProcessError, Wanted};

/// What a command line says of the program that runs a worker.
#[derive(Debug)]
pub(crate) struct Program {
    pidfile: Option<PathBuf>,
    /// The pid file, once it is this process's.
    lock: Option<PidFile>,
    logfile: Option<PathBuf>,
    pub(crate) loglevel: LogLevel,
    /// Whether the worker prints no banner.
    pub(crate) quiet: bool,
    /// Whether the queues are emptied before the first message is taken.
    pub(crate) purge: bool,
}

impl Program {
    /// Takes the pid file, unless that is done.
    fn lock(&mut self) -> Result<(), ProcessError> {
        if self.lock.is_none() && !super::is_child_process() {
            self.lock = self.pidfile.as_deref().map(PidFile::create).transpose()?;
        }
        Ok(())
    }

    /// Takes the pid file, and lets go of the terminal after `--detach`.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub(crate) fn begin(&mut self) -> Result<(), ProcessError> {
        self.lock()?;
        daemon::settle(self.logfile.as_deref())
    }
}

impl WorkerOptions {
    /// Makes this process what the command line asks for: `--detach`, `--workdir`, `--umask`, `--uid` and `--gid`.
    ///
    /// To be called before anything else that the program does with files, users or threads; [`Worker::from_args`]
    /// does so. With `--detach` the calling process ends here, once the one in the background runs. A child process of
    /// a worker has inherited all this already: there the call does nothing.
    ///
    /// # Errors
    /// [`ProcessError`] names the option and the reason.
    pub fn enter(&self) -> Result<(), ProcessError> {
        if super::is_child_process() {
            return Ok(());
        }
        daemon::enter(Wanted {
            detach: self.detach,
            workdir: self.workdir.as_deref(),
            umask: self.config.worker_umask.as_deref(),
            uid: self.config.worker_uid.as_deref(),
            gid: self.config.worker_gid.as_deref(),
        })
    }

    /// Lets go of the terminal after `--detach`: what is printed later goes to the log file. A worker does so itself once it
    /// has its pid file.
    ///
    /// # Errors
    /// [`ProcessError::Logfile`] when the file cannot be written.
    pub fn let_go(&self) -> Result<(), ProcessError> {
        daemon::settle(self.logfile.as_deref())
    }

    /// Starts the log as `--loglevel` and `--logfile` say, unless the program has set a logger.
    ///
    /// # Errors
    /// [`ProcessError::Logfile`] when the file cannot be written.
    pub fn start_log(&self) -> Result<(), ProcessError> {
        daemon::start_log(self.loglevel, self.logfile.as_deref())
    }
}

impl Worker {
    /// A worker of an application of that name, as the command line and the environment of this process say: all
    /// options of `celery worker`, each setting as an option and a variable, the log, the process itself.
    ///
    /// Like `clap`'s `parse`, it prints what is wrong and ends the process when the command line cannot be used (status
    /// 2), and prints the help. [`Worker::from_options`] returns errors instead.
    ///
    /// ```no_run
    /// use celeriac::prelude::*;
    ///
    /// #[celeriac::task(name = "proj.tasks.add")]
    /// async fn add(x: i64, y: i64) -> TaskResult<i64> {
    ///     Ok(x + y)
    /// }
    ///
    /// #[tokio::main]
    /// async fn main() -> celeriac::Result<Stopped> {
    ///     Worker::from_args("proj").task(add).run().await
    /// }
    /// ```
    pub fn from_args(name: &str) -> Self {
        Self::from_args_over(name, Config::default())
    }

    /// As [`Worker::from_args`], over settings of the program's own, which environment and command line override.
    pub fn from_args_over(name: &str, base: Config) -> Self {
        let options = WorkerOptions::parse_over(base);
        let entered = options.enter().and_then(|()| options.start_log());
        if let Err(error) = entered {
            fail(&error, error.exit_code());
        }
        let mut worker = Self::from_options(name, &options).unwrap_or_else(|error| fail(&error, 1));
        if let Some(Err(error)) = worker.program.as_mut().map(Program::lock) {
            fail(&error, error.exit_code());
        }
        worker
    }

    /// A worker of an application of that name as its command line says: settings, node name, queues, pid file.
    ///
    /// The program itself calls [`WorkerOptions::enter`] before, and starts its log.
    ///
    /// # Errors
    /// The same as [`Celery::new`].
    pub fn from_options(name: &str, options: &WorkerOptions) -> Result<Self> {
        let mut worker = Self::new(Celery::new(name, options.config.clone())?);
        worker.hostname = Some(options.node_name.to_string());
        if !options.queues.is_empty() {
            worker.queues = Some(options.queues.clone());
        }
        if !options.exclude_queues.is_empty() {
            let mut queues =
                worker.queues.take().unwrap_or_else(|| queues::default_names(worker.app.config()));
            queues.retain(|queue| !options.exclude_queues.contains(queue));
            worker.queues = Some(queues);
        }
        worker.parts = Parts {
            without_gossip: options.without_gossip,
            without_mingle: options.without_mingle,
            without_heartbeat: options.without_heartbeat,
            without_service: false,
            heartbeat_interval: options
                .heartbeat_interval
                .filter(|interval| !interval.is_zero())
                .unwrap_or(worker.parts.heartbeat_interval),
        };
        worker.autoscale =
            options.autoscale.map(|bounds| Bounds { min: bounds.min as usize, max: bounds.max as usize });
        worker.program = Some(Program {
            pidfile: options.pidfile.clone(),
            lock: None,
            logfile: options.logfile.clone(),
            loglevel: options.loglevel,
            quiet: options.quiet,
            purge: options.purge,
        });
        Ok(worker)
    }
}

fn fail(error: &dyn std::fmt::Display, status: i32) -> ! {
    eprintln!("error: {error}");
    std::process::exit(status)
}
