//! A connection that is made when it is needed and made again when it broke.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Pipeline, ProtocolVersion, PushInfo, RedisError, ServerError, Value,
};
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::Endpoint;
use crate::broker::BrokerError;

/// A shared, self-mending connection to one Redis database; cheap to clone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    connect_timeout: Duration,
    response_timeout: Option<Duration>,
    current: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    /// A link to that database; nothing is connected yet.
    pub fn new(endpoint: Endpoint, connect_timeout: Duration, response_timeout: Option<Duration>) -> Self {
        Self {
            inner: Arc::new(Inner { endpoint, connect_timeout, response_timeout, current: Mutex::new(None) }),
        }
    }

    /// Where the link leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Sends the commands and returns one reply each; a reply may be an error of the server.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] when the server cannot be reached or the connection broke on the way; whether the
    /// commands were carried out is then unknown. [`BrokerError::Refused`] when the server refused a transaction.
    pub async fn send(&self, commands: &mut Pipeline) -> Result<Vec<Value>, BrokerError> {
        let mut connection = self.connection().await?;
        match replies(&mut connection, commands).await {
            Ok(replies) => Ok(replies),
            Err(error) => match error.clone().into_server_errors().as_deref() {
                // The server refused a transaction; the connection is as good as before.
                Some([(index, refusal), ..]) => Err(self.refused(commands, *index, words(refusal))),
                _ => {
                    self.inner.current.lock().await.take();
                    Err(self.broken(error))
                }
            },
        }
    }

    /// As [`Link::send`], but a reply that is an error of the server fails the call.
    ///
    /// # Errors
    /// Those of [`Link::send`], and [`BrokerError::Refused`].
    pub async fn call(&self, commands: &mut Pipeline) -> Result<Vec<Value>, BrokerError> {
        let replies = self.send(commands).await?;
        let refusal =
            replies.iter().enumerate().find_map(|(index, reply)| Some((index, server_error(reply)?)));
        match refusal {
            Some((index, reason)) => Err(self.refused(commands, index, reason)),
            None => Ok(replies),
        }
    }

    /// A new connection of its own, not shared with the link's other users; pushed messages go to `pushes`.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] when the server cannot be reached.
    pub(crate) async fn dedicated(
        &self,
        pushes: Option<UnboundedSender<PushInfo>>,
    ) -> Result<MultiplexedConnection, BrokerError> {
        self.connect(pushes).await.map_err(|error| self.broken(error))
    }

    async fn connection(&self) -> Result<MultiplexedConnection, BrokerError> {
        let mut current = self.inner.current.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let connection = self.connect(None).await.map_err(|error| self.broken(error))?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    async fn connect(
        &self,
        pushes: Option<UnboundedSender<PushInfo>>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let Inner { endpoint, connect_timeout, response_timeout, .. } = &*self.inner;
        let protocol = if pushes.is_some() { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(*connect_timeout))
            .set_response_timeout(*response_timeout);
        if let Some(pushes) = pushes {
            config = config.set_push_sender(pushes);
        }
        let client = Client::open(endpoint.connection_info(protocol))?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn refused(&self, commands: &Pipeline, index: usize, reason: String) -> BrokerError {
        BrokerError::Refused {
            url: self.inner.endpoint.to_string(),
            command: command_name(commands, index),
            reason,
        }
    }

    fn broken(&self, source: RedisError) -> BrokerError {
        BrokerError::Connection { url: self.inner.endpoint.to_string(), source }
    }
}

/// Sends the commands over that connection; replies that are errors stand among the others.
pub(crate) async fn replies(
    connection: &mut MultiplexedConnection,
    commands: &mut Pipeline,
) -> Result<Vec<Value>, RedisError> {
    commands.ignore_errors().query_async::<Vec<Value>>(connection).await
}

/// The server's words, if the reply is an error.
pub(crate) fn server_error(reply: &Value) -> Option<String> {
    match reply {
        Value::ServerError(error) => Some(words(error)),
        Value::Array(items) => items.iter().find_map(server_error),
        _ => None,
    }
}

fn words(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or("")).trim_end().to_owned()
}

fn command_name(commands: &Pipeline, index: usize) -> String {
    let name = commands.cmd_iter().nth(index).and_then(|command| match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    });
    name.unwrap_or_else(|| "a transaction".to_owned())
}
