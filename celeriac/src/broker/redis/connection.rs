//! One connection, given up when the server is silent.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, ServerError, Value};
use tokio::task::AbortHandle;

use super::dial::{Address, Signs};

/// One connection; the clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    commands: MultiplexedConnection,
    signs: Signs,
    silence: Duration,
    address: Address,
    driver: Arc<Driver>,
}

/// What reads and writes for a connection; ends with it, whatever is still under way.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    pub(super) fn new(
        commands: MultiplexedConnection,
        driver: AbortHandle,
        signs: Signs,
        silence: Duration,
        address: Address,
    ) -> Self {
        Self { commands, signs, silence, address, driver: Arc::new(Driver(driver)) }
    }

    /// Where it leads.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is known to have broken: nothing that is given to it will be sent.
    pub(super) fn has_ended(&self) -> bool {
        self.driver.0.is_finished()
    }

    /// Whether both are clones of one.
    pub(super) fn is(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }

    /// Sends the commands; replies that are errors of the server stand among the others.
    pub(crate) async fn replies(&mut self, commands: &mut Pipeline) -> RedisResult<Vec<Value>> {
        let (signs, silence) = (self.signs.clone(), self.silence);
        let commands = commands.ignore_errors();
        unless_silent(&signs, silence, commands.query_async(&mut self.commands)).await
    }

    /// Sends one command, which the server may take its time for if that is no longer than the longest silence.
    pub(crate) async fn reply(&mut self, command: &Cmd) -> RedisResult<Value> {
        let (signs, silence) = (self.signs.clone(), self.silence);
        unless_silent(&signs, silence, command.query_async(&mut self.commands)).await
    }
}

/// Bytes a second below which a connection counts as broken, over twice the longest silence: a drip is no sign of life.
const DRIP: u64 = 512;

/// Waits for a reply as long as the other side gives or takes bytes at least that often, and more than a drip.
async fn unless_silent<T>(
    signs: &Signs,
    silence: Duration,
    reply: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let mut reply = pin!(reply);
    let begin = Instant::now();
    let span = silence.saturating_mul(2);
    let (mut span_begin, mut bytes) = (begin, signs.bytes());
    loop {
        let left = silence.saturating_sub(signs.last().max(begin).elapsed());
        if let Ok(reply) = tokio::time::timeout(left, &mut reply).await {
            return reply;
        }
        let is_silent = signs.last().max(begin).elapsed() >= silence;
        let is_span_over = span_begin.elapsed() >= span;
        if is_silent || (is_span_over && signs.bytes() - bytes < DRIP * span.as_secs().max(1)) {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        }
        if is_span_over {
            (span_begin, bytes) = (Instant::now(), signs.bytes());
        }
    }
}

/// Sends the commands over that connection; replies that are errors stand among the others.
pub(crate) async fn replies(connection: &mut Connection, commands: &mut Pipeline) -> RedisResult<Vec<Value>> {
    connection.replies(commands).await
}

/// The server's words, if the reply is an error.
pub(crate) fn server_error(reply: &Value) -> Option<String> {
    match reply {
        Value::ServerError(error) => Some(words(error)),
        Value::Array(items) => items.iter().find_map(server_error),
        _ => None,
    }
}

pub(super) fn words(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or("")).trim_end().to_owned()
}
