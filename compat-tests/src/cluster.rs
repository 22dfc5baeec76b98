//! A private Redis Cluster.

use std::collections::HashSet;

use redis::{Cmd, FromRedisValue};

use crate::eventually;
use crate::eventually::secs;
use crate::place::Port;
use crate::redis_server::{RedisOptions, RedisServer};

/// All slots of a cluster.
const SLOTS: u16 = 16_384;

/// Three masters, each with a replica if wanted.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    _buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts three masters that share the slots, and as many replicas; returns when all nodes agree.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn start(options: &RedisOptions, with_replicas: bool) -> Self {
        Self::with_ranges(options, with_replicas, SLOTS.div_ceil(3))
    }

    /// The same, with the slots scattered as after many moves: the masters have `length` slots in turn.
    ///
    /// # Panics
    /// When the nodes do not agree.
    #[track_caller]
    pub fn with_ranges(options: &RedisOptions, with_replicas: bool, length: u16) -> Self {
        let count = if with_replicas { 6 } else { 3 };
        let buses: Vec<Port> = (0..count).map(|_| Port::free()).collect();
        let nodes = buses.iter().map(|bus| {
            let options = options.clone().argument("--cluster-enabled", "yes");
            let options = options.argument("--cluster-node-timeout", "1500");
            options.argument("--cluster-port", &bus.number().to_string()).start()
        });
        let this = Self { nodes: nodes.collect(), _buses: buses };
        for node in 0..count {
            this.ask::<String>(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(node + 1).to_string()]);
            if node > 0 {
                let [port, bus] =
                    [this.nodes[node].port(), this._buses[node].number()].map(|port| port.to_string());
                this.ask::<String>(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        for master in 0..3_usize {
            let mut add = vec!["CLUSTER".to_owned(), "ADDSLOTSRANGE".to_owned()];
            for first in (0..SLOTS).step_by(usize::from(length)).skip(master).step_by(3) {
                add.extend(
                    [first, first.saturating_add(length - 1).min(SLOTS - 1)].map(|slot| slot.to_string()),
                );
            }
            this.ask::<String>(master, &add.iter().map(String::as_str).collect::<Vec<_>>());
        }
        this.await_agreement();
        for replica in 3..count {
            let master = this.id(replica - 3);
            this.ask::<String>(replica, &["CLUSTER", "REPLICATE", &master]);
        }
        this.await_agreement();
        this
    }

    /// `redis+cluster://...;redis+cluster://...`: two of its nodes.
    pub fn url(&self) -> String {
        let of = |node: &RedisServer| format!("redis+cluster://127.0.0.1:{}", node.port());
        self.nodes.iter().take(2).map(of).collect::<Vec<_>>().join(";")
    }

    /// All nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The node that serves the slot of a key now.
    ///
    /// # Panics
    /// When none does.
    #[track_caller]
    pub fn owner(&self, key: &str) -> &RedisServer {
        &self.nodes[self.owner_index(self.slot(key))]
    }

    /// Moves the slot of a key, with all its keys, to another master, as `redis-cli --cluster reshard` does; `batch` keys
    /// at a time.
    ///
    /// # Panics
    /// When a node refuses.
    #[track_caller]
    pub fn move_slot(&self, key: &str, batch: usize) {
        let slot = self.slot(key);
        let from = self.owner_index(slot);
        let to = (0..self.nodes.len())
            .find(|node| *node != from && self.is_master(*node))
            .expect("another master");
        let [from_id, to_id] = [self.id(from), self.id(to)];
        let slot = slot.to_string();
        self.ask::<String>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.ask::<String>(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let port = self.nodes[to].port().to_string();
        loop {
            let keys: Vec<String> = self.ask(from, &["CLUSTER", "GETKEYSINSLOT", &slot, &batch.to_string()]);
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            self.ask::<String>(from, &migrate);
        }
        for node in [to, from].into_iter().chain((0..self.nodes.len()).filter(|node| self.is_master(*node))) {
            self.ask::<String>(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }

    /// Kills the master of a key's slot, waits until its replica serves it, and starts the killed one again.
    ///
    /// # Panics
    /// When the replica does not take over.
    #[track_caller]
    pub fn kill_owner(&mut self, key: &str) {
        let slot = self.slot(key);
        let owner = self.owner_index(slot);
        self.nodes[owner].kill();
        eventually("a replica takes the slot over", secs(60), || {
            (0..self.nodes.len()).any(|node| node != owner && self.serves(node, slot))
        });
        self.nodes[owner].restart();
        self.await_agreement();
    }

    /// Waits until every node says that the cluster is whole and all nodes are known to it.
    #[track_caller]
    fn await_agreement(&self) {
        eventually("the cluster is whole", secs(60), || {
            for node in &self.nodes {
                let mut connection = node.connection();
                let info: String = redis::cmd("CLUSTER")
                    .arg("INFO")
                    .query(&mut connection)
                    .map_err(|error| error.to_string())?;
                let known = format!("cluster_known_nodes:{}\r", self.nodes.len());
                let lines: HashSet<&str> = info.split_inclusive('\r').map(str::trim_start).collect();
                if !lines.contains("cluster_state:ok\r") || !lines.contains(known.as_str()) {
                    return Err(info);
                }
                let replication = node.replication();
                if replication.contains("role:slave") && !replication.contains("master_link_status:up") {
                    return Err(replication);
                }
            }
            Ok(())
        });
    }

    fn slot(&self, key: &str) -> u16 {
        self.ask(0, &["CLUSTER", "KEYSLOT", key])
    }

    fn id(&self, node: usize) -> String {
        self.ask(node, &["CLUSTER", "MYID"])
    }

    fn is_master(&self, node: usize) -> bool {
        self.nodes[node].replication().contains("role:master")
    }

    #[track_caller]
    fn owner_index(&self, slot: u16) -> usize {
        eventually("a node serves the slot", secs(30), || {
            (0..self.nodes.len()).find(|node| self.serves(*node, slot))
        })
    }

    /// Whether that node itself says that it is the master of the slot.
    fn serves(&self, node: usize, slot: u16) -> bool {
        let mut nodes = redis::cmd("CLUSTER");
        nodes.arg("NODES");
        let lines: String = self.try_ask(node, &nodes).unwrap_or_default();
        let own = lines.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
        own.split_whitespace().skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let read = |text: &str| text.parse::<u16>().ok();
            read(first).zip(read(last)).is_some_and(|(first, last)| (first..=last).contains(&slot))
        })
    }

    #[track_caller]
    fn ask<T: FromRedisValue>(&self, node: usize, command: &[&str]) -> T {
        let mut ask = redis::cmd(command[0]);
        command[1..].iter().for_each(|argument| {
            ask.arg(argument);
        });
        self.try_ask(node, &ask).unwrap_or_else(|error| panic!("node {node} refuses {command:?}: {error}"))
    }

    fn try_ask<T: FromRedisValue>(&self, node: usize, command: &Cmd) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.nodes[node].url())?;
        command.query(&mut client.get_connection_with_timeout(secs(5))?)
    }
}
