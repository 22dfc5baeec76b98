//! A private PostgreSQL server.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::Signal;
use crate::eventually::secs;
use crate::guard::guarded_as;
use crate::place::{Port, scratch_dir};
use crate::process::Process;
use crate::run::run;
use crate::usage::Usage;

/// A private PostgreSQL server on loopback, in a folder of its own.
///
/// Most tests want [`PostgresServer::database`]: an empty database on the one server of the test process. A test that
/// kills the server starts its own.
///
/// PostgreSQL refuses to run as root, so root starts it as the user `postgres`. `POSTGRES_BIN_DIR` names the folder of
/// the programs of another version.
pub struct PostgresServer {
    process: Process,
    port: Port,
    folder: TempDir,
    /// Of the program, beside those that each server gets.
    arguments: &'static [&'static str],
    databases: AtomicU32,
}

impl PostgresServer {
    /// An empty database of the test's own.
    ///
    /// # Panics
    /// When the server cannot be started; with its log.
    #[track_caller]
    pub fn database() -> Database {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(Self::start).create_database()
    }

    /// Starts a server that the test may kill; returns when it answers.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&["-F"])
    }

    /// The same, but commits wait for the disk as they do in production.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    #[track_caller]
    pub fn start_durable() -> Self {
        Self::start_with(&[])
    }

    #[track_caller]
    fn start_with(arguments: &'static [&'static str]) -> Self {
        let (port, folder) = (Port::free(), scratch_dir("postgres"));
        give_to_server_user(folder.path());
        let mut initdb = Command::new("setpriv");
        if let Some(user) = server_user() {
            initdb.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        initdb.arg("--").arg(program("initdb")).arg("--pgdata").arg(folder.path().join("data")).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]);
        run(initdb.current_dir(folder.path()), secs(60)).success();
        let process = spawn(&port, &folder, arguments);
        let databases = AtomicU32::new(0);
        let mut server = Self { process, port, folder, arguments, databases };
        server.await_answer();
        server
    }

    /// Makes an empty database.
    ///
    /// # Panics
    /// When the server does not make it.
    #[track_caller]
    pub fn create_database(&self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"));
        Database { url: self.url_of(&name), name, port: self.port.number() }
    }

    /// `postgres://postgres@127.0.0.1:PORT/NAME`
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port.number())
    }

    /// Returns the resources that the server has used.
    pub fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Runs SQL in one of its databases and returns the rows as text, columns apart by `|`.
    ///
    /// # Panics
    /// When the server refuses it.
    #[track_caller]
    pub fn execute(&self, database: &str, sql: &str) -> String {
        psql(self.port.number(), database, sql)
    }

    /// Immediate shutdown, as a crash is: clients lose their connections, the next start recovers.
    pub fn kill(&mut self) {
        if self.process.is_running() {
            self.process.signal(Signal::SIGQUIT);
        }
        self.process.wait(secs(20));
    }

    /// Starts it again on its port, with its data.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.port, &self.folder, self.arguments);
        self.await_answer();
    }

    #[track_caller]
    fn await_answer(&mut self) {
        self.process.wait_for_line("database system is ready to accept connections", secs(30));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An empty database of a test's own.
pub struct Database {
    name: String,
    url: String,
    port: u16,
}

impl Database {
    /// `postgres://postgres@127.0.0.1:PORT/NAME`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs SQL and returns the rows as text, columns apart by `|`.
    ///
    /// # Panics
    /// When the server refuses it.
    #[track_caller]
    pub fn execute(&self, sql: &str) -> String {
        psql(self.port, &self.name, sql)
    }
}

#[track_caller]
fn psql(port: u16, database: &str, sql: &str) -> String {
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"]);
    command.args(["-p", &port.to_string(), "-d", database, "-c", sql]);
    run(&command, secs(30)).success()
}

#[track_caller]
fn spawn(port: &Port, folder: &TempDir, arguments: &[&str]) -> Process {
    let mut command = guarded_as(server_user(), program("postgres").as_os_str());
    command.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
    command.args(["-h", "127.0.0.1", "-p", &port.number().to_string()]).args(arguments);
    command.args(["-c", "shared_buffers=32MB", "-c", "max_connections=200"]).current_dir(folder.path());
    Process::spawn_guarded("postgres", command)
}

/// The server's programs: in `POSTGRES_BIN_DIR`, else of the newest version that Debian's packages have installed, else
/// on the path.
fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("POSTGRES_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    if let Some(version) = newest {
        let path = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}"));
        assert!(path.exists(), "{} is missing; hint: ./scripts/setup test", path.display());
        return path;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("PostgreSQL's {name} is missing; hint: ./scripts/setup test"))
}

/// The user to become, where we are root.
fn server_user() -> Option<&'static str> {
    let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    root.then_some("postgres")
}

fn give_to_server_user(folder: &Path) {
    let Some(user) = server_user() else { return };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user);
    let id = |field: usize| ids.as_ref()?.get(field)?.parse().ok();
    let (Some(uid), Some(gid)) = (id(2), id(3)) else {
        panic!("there is no user {user:?} to run PostgreSQL as (root may not); hint: ./scripts/setup test");
    };
    chown(folder, Some(uid), Some(gid))
        .unwrap_or_else(|error| panic!("cannot chown {}: {error}", folder.display()));
}
