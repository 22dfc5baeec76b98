//! Which server to talk to now: the current alternative, the master that Sentinels name, the owner of a cluster's slot.
//!
//! Source of the questions to Sentinels: redis-py `Sentinel.discover_master`.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use futures_util::future::select_ok;
use indexmap::IndexSet;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, ProtocolVersion, RedisError, RedisResult, Value};

use super::dial::{Address, Keepalive, dial};
use super::endpoint::{Access, Cluster, Endpoint, Place, Sentinels};
use super::script::texts;

/// The server to talk to now.
pub(super) struct Route<'a> {
    pub(super) address: Address,
    pub(super) access: &'a Access,
}

impl Endpoint {
    /// Finds the server. Whoever awaits this sets a limit to the time it may take.
    pub(super) async fn find(&self, keepalive: Option<Keepalive>) -> RedisResult<Route<'_>> {
        let access = &self.inner.access;
        match &self.inner.place {
            Place::Alternatives(alternatives) => {
                let (address, access) = &alternatives.servers[alternatives.current()];
                Ok(Route { address: address.clone(), access })
            }
            Place::Sentinels(sentinels) => {
                let asked = sentinels
                    .addresses
                    .iter()
                    .map(|address| Box::pin(master_of(address, sentinels, keepalive)));
                let (address, _) = select_ok(asked).await?;
                is_master(&address, access, keepalive).await?;
                Ok(Route { address, access })
            }
            Place::Cluster(cluster) => {
                let known = cluster.known();
                let asked =
                    known.iter().map(|address| Box::pin(owner_by(address, cluster, access, keepalive)));
                let (address, _) = select_ok(asked).await?;
                Ok(Route { address, access })
            }
        }
    }
}

/// Where that Sentinel says the master is.
async fn master_of(
    sentinel: &Address,
    sentinels: &Sentinels,
    keepalive: Option<Keepalive>,
) -> RedisResult<Address> {
    let Sentinels { access, master_name, min_other_sentinels, .. } = sentinels;
    let mut question = Pipeline::new();
    question.cmd("SENTINEL").arg("MASTER").arg(master_name);
    let asked = ask(sentinel, access, keepalive, question).await;
    let mut answer = asked.map_err(|error| match error.code() {
        Some(_) => lost(format!("Sentinel {sentinel} on master {master_name:?}: {error}")),
        None => error,
    })?;
    let state = fields(&answer.swap_remove(0));
    let field = |name: &str| state.get(name).map_or("", String::as_str);
    let flags: Vec<&str> = field("flags").split(',').collect();
    if !flags.contains(&"master") || flags.contains(&"s_down") || flags.contains(&"o_down") {
        return Err(lost(format!(
            "Sentinel {sentinel} says that master {master_name:?} is down ({})",
            field("flags")
        )));
    }
    let others = field("num-other-sentinels").parse::<u64>().unwrap_or(0);
    if others < *min_other_sentinels {
        return Err(lost(format!(
            "Sentinel {sentinel} sees {others} others, fewer than min_other_sentinels {min_other_sentinels}"
        )));
    }
    let port = field("port")
        .parse()
        .map_err(|_| lost(format!("Sentinel {sentinel} gave no port of {master_name:?}")))?;
    Ok(Address::Tcp(field("ip").to_owned(), port))
}

/// Makes sure that the server at that address is a master: a Sentinel may not have heard yet that it is none any more.
async fn is_master(address: &Address, access: &Access, keepalive: Option<Keepalive>) -> RedisResult<()> {
    let mut question = Pipeline::new();
    question.cmd("ROLE");
    let role = texts(&ask(address, access, keepalive, question).await?.swap_remove(0)).into_iter().next();
    match role.as_deref() {
        Some("master") => Ok(()),
        role => Err(lost(format!(
            "{address} is no master but a {}",
            role.unwrap_or("server that does not say what it is")
        ))),
    }
}

/// Which node that node of a cluster takes for the owner of the prefix's slot.
async fn owner_by(
    node: &Address,
    cluster: &Cluster,
    access: &Access,
    keepalive: Option<Keepalive>,
) -> RedisResult<Address> {
    let mut question = Pipeline::new();
    question.cmd("CLUSTER").arg("KEYSLOT").arg(&cluster.prefix);
    question.cmd("CLUSTER").arg("SLOTS");
    let answers = ask(node, access, keepalive, question).await?;
    let [Value::Int(slot), Value::Array(ranges)] = answers.as_slice() else {
        return Err(lost(format!("{node} does not say which slots it has")));
    };
    let mut owner = None;
    // In the order of the slots, each once: a cluster has many more ranges than nodes.
    let mut known = IndexSet::new();
    for range in ranges {
        let Value::Array(parts) = range else { continue };
        let [Value::Int(first), Value::Int(last), nodes @ ..] = parts.as_slice() else { continue };
        let nodes: Vec<Address> = nodes.iter().filter_map(|named| address_of(named, node)).collect();
        if (first..=last).contains(&slot) {
            owner = nodes.first().cloned();
        }
        known.extend(nodes);
    }
    cluster.remember(known.into_iter().collect());
    owner.ok_or_else(|| lost(format!("no node of the cluster has slot {slot}, says {node}")))
}

/// The address of a node in the reply to `CLUSTER SLOTS`; no host means the one that was asked.
fn address_of(named: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = named else { return None };
    let (host, port) = (parts.first()?, parts.get(1)?);
    let Value::Int(port) = port else { return None };
    let host = match (host, asked) {
        (Value::BulkString(host), _) if !host.is_empty() && host != b"?" => {
            String::from_utf8_lossy(host).into_owned()
        }
        (_, Address::Tcp(host, _)) => host.clone(),
        _ => return None,
    };
    Some(Address::Tcp(host, u16::try_from(*port).ok()?))
}

/// Puts questions to one server over a connection of their own.
pub(super) async fn ask(
    address: &Address,
    access: &Access,
    keepalive: Option<Keepalive>,
    questions: Pipeline,
) -> RedisResult<Vec<Value>> {
    let mut stream = dial(address, access.tls.as_ref(), keepalive, &AtomicBool::default()).await?;
    access.introduce(&mut stream).await?;
    let greeting = access.greeting(0, ProtocolVersion::RESP2).await?;
    let (mut connection, driver) = MultiplexedConnection::new(&greeting, stream).await?;
    tokio::select! {
        answers = questions.query_async(&mut connection) => answers,
        () = driver => Err(lost(format!("{address} closed the connection"))),
    }
}

/// A reply that is a map in RESP2: names and values in turn.
fn fields(reply: &Value) -> HashMap<String, String> {
    let mut parts = texts(reply).into_iter();
    std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect()
}

fn lost(reason: String) -> RedisError {
    std::io::Error::other(reason).into()
}
