//! A master, its replica, and the Sentinels that watch them.

use std::process::Command;

use tempfile::TempDir;

use crate::eventually;
use crate::eventually::secs;
use crate::place::{Port, scratch_dir};
use crate::process::Process;
use crate::redis_server::{RedisOptions, RedisServer, server_program};

/// Two Redis servers under three Sentinels that call the master `mymaster`.
pub struct Sentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    password: Option<String>,
    /// Which of the servers is the master.
    master: usize,
}

struct Sentinel {
    port: Port,
    _tls_port: Option<Port>,
    _process: Process,
    _folder: TempDir,
}

impl Sentinels {
    /// Starts servers with those options, and Sentinels that want that password; returns when all know each other.
    /// Servers with TLS are reached by TLS.
    ///
    /// # Panics
    /// When one does not start.
    #[track_caller]
    pub fn start(options: &RedisOptions, password: Option<&str>) -> Self {
        let first = options.clone().start();
        let second = options.clone().replica_of(first.served_port()).start();
        let sentinels = (0..3).map(|_| Sentinel::start(&first, options, password)).collect();
        let password = password.map(str::to_owned);
        let mut this = Self { servers: vec![first, second], sentinels, password, master: 0 };
        this.await_replica();
        this
    }

    /// `sentinel://...;sentinel://...` with that login of the server, and that database.
    pub fn url(&self, login: &str, database: u8) -> String {
        let of = |sentinel: &Sentinel| {
            format!("sentinel://{login}127.0.0.1:{}/{database}", sentinel.port.number())
        };
        self.sentinels.iter().map(of).collect::<Vec<_>>().join(";")
    }

    /// The master.
    pub fn master(&self) -> &RedisServer {
        &self.servers[self.master]
    }

    /// The replica.
    pub fn replica(&self) -> &RedisServer {
        &self.servers[1 - self.master]
    }

    /// Kills the master, waits until the Sentinels have made the replica the master, and starts the killed one again as
    /// its replica.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn kill_master(&mut self) {
        let old = self.master;
        self.servers[old].kill();
        self.await_promotion();
        let master = self.master().served_port();
        self.servers[old].restart_as_replica_of(master);
        self.await_replica();
    }

    /// Stops the master without a word, as in [`Sentinels::kill_master`]: its connections stay open and it comes back
    /// believing that it is the master.
    ///
    /// # Panics
    /// When the replica does not become the master.
    #[track_caller]
    pub fn freeze_master(&mut self) {
        let old = self.master;
        self.servers[old].pause();
        self.await_promotion();
        self.servers[old].resume();
        self.await_replica();
    }

    /// Lets the Sentinels change the roles while both servers live.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn switch(&mut self) {
        eventually("a Sentinel fails over", secs(30), || {
            self.ask::<String>(0, &["SENTINEL", "FAILOVER", "mymaster"])
        });
        self.await_promotion();
        self.await_replica();
    }

    /// Waits until what the master has taken so far is on the replica.
    ///
    /// # Panics
    /// When that does not happen.
    #[track_caller]
    pub fn await_replicated(&self) {
        eventually("the replica has everything", secs(30), || {
            let offset = |server: &RedisServer| {
                let info = server.replication();
                let line = info.lines().find(|line| line.starts_with("master_repl_offset:"));
                line.and_then(|line| line.split(':').nth(1)?.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            let wanted = offset(self.master());
            match offset(self.replica()) {
                there if there >= wanted => Ok(()),
                there => Err(format!("{there} of {wanted}")),
            }
        });
    }

    #[track_caller]
    fn await_promotion(&mut self) {
        let next = 1 - self.master;
        let port = self.servers[next].served_port().to_string();
        eventually("the Sentinels name the new master", secs(60), || {
            for sentinel in 0..self.sentinels.len() {
                let named: Vec<String> = self
                    .ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])
                    .map_err(|error| error.to_string())?;
                if named.get(1) != Some(&port) {
                    return Err(format!("{named:?}"));
                }
            }
            Ok(())
        });
        self.master = next;
    }

    /// The roles may have changed once more meanwhile: the Sentinels know the master.
    #[track_caller]
    fn await_replica(&mut self) {
        eventually("the Sentinels see the replica and each other", secs(60), || {
            let named: Vec<String> = self
                .ask(0, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])
                .map_err(|error| error.to_string())?;
            let is_named = |server: &RedisServer| named.get(1) == Some(&server.served_port().to_string());
            self.master = self.servers.iter().position(is_named).ok_or(format!("{named:?}"))?;
            let replica = self.replica().replication();
            let linked = replica.contains("role:slave") && replica.contains("master_link_status:up");
            for sentinel in 0..self.sentinels.len() {
                let all: Vec<std::collections::HashMap<String, String>> =
                    self.ask(sentinel, &["SENTINEL", "MASTERS"]).map_err(|error| error.to_string())?;
                let of = |name: &str| all[0].get(name).cloned().unwrap_or_default();
                if of("num-other-sentinels") != "2"
                    || of("num-slaves") != "1"
                    || of("flags") != "master"
                    || !linked
                {
                    return Err(format!("{replica} {all:?}"));
                }
            }
            Ok(())
        });
    }

    fn ask<T: redis::FromRedisValue>(&self, sentinel: usize, command: &[&str]) -> redis::RedisResult<T> {
        let Sentinel { port, .. } = &self.sentinels[sentinel];
        let login = self.password.as_ref().map(|word| format!(":{word}@")).unwrap_or_default();
        let client = redis::Client::open(format!("redis://{login}127.0.0.1:{}", port.number()))?;
        let mut connection = client.get_connection_with_timeout(secs(5))?;
        let mut ask = redis::cmd(command[0]);
        command[1..].iter().for_each(|argument| {
            ask.arg(argument);
        });
        ask.query(&mut connection)
    }
}

impl Sentinel {
    #[track_caller]
    fn start(master: &RedisServer, options: &RedisOptions, password: Option<&str>) -> Self {
        let (port, folder) = (Port::free(), scratch_dir("sentinel"));
        let mut settings = vec![
            format!("port {}", port.number()),
            "bind 127.0.0.1".to_owned(),
            format!("sentinel monitor mymaster 127.0.0.1 {} 2", master.served_port()),
            // Shorter, a busy machine is taken for a dead master, and the roles change once more.
            "sentinel down-after-milliseconds mymaster 3000".to_owned(),
            "sentinel failover-timeout mymaster 5000".to_owned(),
        ];
        if let Some(word) = options.password_word() {
            settings.push(format!("sentinel auth-pass mymaster {word}"));
        }
        if let Some(word) = password {
            settings.extend([format!("requirepass {word}"), format!("sentinel sentinel-pass {word}")]);
        }
        let tls_port = options.tls_settings().map(|tls| {
            let tls_port = Port::free();
            settings.push(format!("tls-port {}", tls_port.number()));
            settings.extend(
                tls.chunks(2).map(|pair| format!("{} {}", pair[0].trim_start_matches("--"), pair[1])),
            );
            tls_port
        });
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, settings.join("\n") + "\n").expect("the folder takes files");
        let mut command = Command::new(server_program());
        command.arg(&file).arg("--sentinel").current_dir(folder.path());
        let mut process = Process::spawn("redis-server --sentinel", &command);
        process.wait_for_line("monitor master mymaster", secs(20));
        Self { port, _tls_port: tls_port, _process: process, _folder: folder }
    }
}
