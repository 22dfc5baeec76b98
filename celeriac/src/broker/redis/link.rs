//! A connection that is made when it is needed and made again when it broke.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    RedisResult, Value,
};
use tokio::sync::mpsc::UnboundedSender;

use super::Endpoint;
use super::connection::{Connection, server_error, words};
use super::dial::{Address, Watched, dial};
use super::find::{self, Route};
use super::redirect::{self, Redirect};
use super::timing::Timing;
use super::tls;
use crate::broker::BrokerError;
use crate::broker::refusal::is_elsewhere;

/// How long an attempt to connect may show nothing before another begins beside it: a path that is back is used at
/// once, whatever has become of the packets of the attempt before.
const SECOND_ATTEMPT: Duration = Duration::from_secs(1);
/// How long a cluster that moves its keys is given between two looks.
const MOVING: Duration = Duration::from_millis(50);

/// A shared, self-mending connection to one Redis database; cheap to clone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    timing: Timing,
    current: Mutex<Option<Attempt>>,
}

/// The connection that everybody shares, or the attempt to make it, for which all wait together.
type Attempt = Shared<BoxFuture<'static, Result<Connection, BrokerError>>>;

impl Link {
    /// A link to that database; nothing is connected yet.
    pub fn new(endpoint: Endpoint, timing: Timing) -> Self {
        Self { inner: Arc::new(Inner { endpoint, timing, current: Mutex::new(None) }) }
    }

    /// Another link to the same database, with a connection of its own.
    pub(crate) fn sibling(&self) -> Self {
        Self::new(self.inner.endpoint.clone(), self.inner.timing)
    }

    /// Where the link leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// How long things may take.
    pub fn timing(&self) -> &Timing {
        &self.inner.timing
    }

    /// Sends the commands and returns one reply each; a reply may be an error of the server.
    ///
    /// It takes no longer than connecting may take (`broker_connection_timeout` for each alternative), and then than the
    /// server may be silent; whoever sends while a connection is made waits for that one attempt.
    ///
    /// If it is cancelled, the commands may be carried out all the same.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] when the server cannot be reached or the connection broke on the way, and
    /// [`BrokerError::Timeout`] when the server is silent; whether the commands were carried out is then unknown.
    pub async fn send(&self, commands: &mut Pipeline) -> Result<Vec<Value>, BrokerError> {
        let mut outcome = self.send_once(commands).await;
        if !self.inner.endpoint.is_cluster() {
            return outcome;
        }
        let patience = Instant::now() + self.inner.timing.silence;
        while let Some(redirect) = redirect::of(&outcome) {
            if Instant::now() > patience {
                break;
            }
            let (mut rest, places) = redirect::unanswered(commands, &outcome);
            let answers = match redirect {
                Redirect::Ask(node) if !commands.is_transaction() => self.ask(node, &rest).await,
                Redirect::Moved => self.send_once(&mut rest).await,
                Redirect::Ask(_) | Redirect::Later => {
                    tokio::time::sleep(MOVING).await;
                    self.send_once(&mut rest).await
                }
            };
            match (&mut outcome, answers) {
                (Ok(replies), Ok(answers)) => {
                    places.into_iter().zip(answers).for_each(|(place, answer)| replies[place] = answer);
                }
                (_, answers) => outcome = answers,
            }
        }
        outcome
    }

    /// Sends commands to the node to which their keys are being moved.
    async fn ask(&self, node: Address, commands: &Pipeline) -> Result<Vec<Value>, BrokerError> {
        let Inner { endpoint, timing, .. } = &*self.inner;
        let mut asking = Pipeline::new();
        asking.ignore_errors();
        for command in commands.cmd_iter() {
            asking.cmd("ASKING").add_command(command.clone());
        }
        let asked = find::ask(&node, endpoint.access(), timing.keepalive, asking);
        match tokio::time::timeout(timing.connect, asked).await {
            Ok(Ok(answers)) => Ok(answers.into_iter().skip(1).step_by(2).collect()),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(BrokerError::Timeout { url: endpoint.to_string(), deadline: timing.connect }),
        }
    }

    async fn send_once(&self, commands: &mut Pipeline) -> Result<Vec<Value>, BrokerError> {
        let mut connection = self.connection().await?;
        let result = connection.replies(commands).await;
        let moved = match &result {
            Ok(replies) => replies.iter().filter_map(server_error).any(|reason| is_elsewhere(&reason)),
            Err(error) => {
                let refusals = error.clone().into_server_errors().unwrap_or_default();
                refusals.iter().any(|(_, refusal)| is_elsewhere(&words(refusal)))
            }
        };
        if moved {
            self.inner.endpoint.avoid(connection.address());
        }
        // A server that only refuses a transaction leaves the connection as good as before.
        if moved || result.as_ref().is_err_and(|error| error.code().is_none()) {
            self.leave(&connection);
        }
        result.map_err(|error| match error.clone().into_server_errors().as_deref() {
            Some([(index, refusal), ..]) => self.refused(commands, *index, words(refusal)),
            _ => self.failed("a transaction", error),
        })
    }

    /// As [`Link::send`], but a reply that is an error of the server fails the call.
    ///
    /// If it is cancelled, the commands may be carried out all the same.
    ///
    /// # Errors
    /// The same as [`Link::send`], and [`BrokerError::Refused`].
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
    /// [`BrokerError::Connection`] when the server cannot be reached, and those of logging in and of TLS.
    pub(crate) async fn dedicated(
        &self,
        pushes: Option<UnboundedSender<PushInfo>>,
    ) -> Result<Connection, BrokerError> {
        let protocol = if pushes.is_some() { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        let silence = self.inner.timing.silence;
        let greet = |address: Address, greeting: RedisConnectionInfo, stream: Watched| {
            let mut config =
                AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            if let Some(pushes) = pushes.clone() {
                config = config.set_push_sender(pushes);
            }
            async move {
                let signs = stream.signs();
                let (commands, driver) =
                    MultiplexedConnection::new_with_config(&greeting, stream, config).await?;
                let driver = tokio::spawn(driver).abort_handle();
                Ok(Connection::new(commands, driver, signs, silence, address))
            }
        };
        // Boxed, so that whoever spawns what connects need not prove that it may change threads.
        self.reach(protocol, greet).boxed().await
    }

    /// A new connection that hears what is published.
    ///
    /// # Errors
    /// The same as [`Link::dedicated`].
    pub(crate) async fn subscriber(&self) -> Result<(PubSubSink, PubSubStream), BrokerError> {
        let greet = |_: Address, greeting: RedisConnectionInfo, stream: Watched| async move {
            PubSub::new(&greeting, stream).await.map(PubSub::split)
        };
        self.reach(ProtocolVersion::RESP2, greet).boxed().await
    }

    /// The answer to something that was asked over a connection of [`Link::subscriber`], if it comes in time.
    pub(crate) async fn answered<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, BrokerError> {
        let silence = self.inner.timing.silence;
        match tokio::time::timeout(silence, answer).await {
            Ok(answer) => answer.map_err(|error| self.failed("a subscription", error)),
            Err(_) => Err(BrokerError::Timeout { url: self.inner.endpoint.to_string(), deadline: silence }),
        }
    }

    /// What to say of a connection that the server has closed.
    pub(crate) fn closed(&self) -> BrokerError {
        self.broken(closed())
    }

    async fn connection(&self) -> Result<Connection, BrokerError> {
        let attempt = {
            let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
            let under_way = match current.as_ref().map(|attempt| (attempt, attempt.peek())) {
                Some((_, Some(Ok(connection)))) if !connection.has_ended() => return Ok(connection.clone()),
                // One that nobody waits for any more stands still.
                Some((attempt, None)) if attempt.strong_count() > Some(1) => Some(attempt.clone()),
                _ => None,
            };
            under_way.unwrap_or_else(|| {
                // Of its own, so that it keeps nothing alive that waits for it.
                let link = self.sibling();
                let attempt = async move { link.dedicated(None).await }.boxed().shared();
                *current = Some(attempt.clone());
                attempt
            })
        };
        attempt.await
    }

    /// Looks for another server, if what a server refused over that connection of [`Link::dedicated`] says so.
    pub(crate) fn note_refusal(&self, connection: &Connection, reason: &str) {
        if is_elsewhere(reason) {
            self.inner.endpoint.avoid(connection.address());
        }
    }

    /// Lets the next user connect anew.
    pub(crate) fn forget_connection(&self) {
        *self.inner.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets the next user connect anew, unless somebody has done so already.
    fn leave(&self, connection: &Connection) {
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = current.as_ref().and_then(Attempt::peek);
        if shared.is_some_and(|shared| shared.as_ref().is_ok_and(|shared| shared.is(connection))) {
            *current = None;
        }
    }

    /// Connects to the server, wherever it is now, and greets it.
    async fn reach<T, F>(
        &self,
        protocol: ProtocolVersion,
        greet: impl Fn(Address, RedisConnectionInfo, Watched) -> F,
    ) -> Result<T, BrokerError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Inner { endpoint, timing, .. } = &*self.inner;
        let (greet, shaking) = (&greet, &AtomicBool::default());
        let attempt = || async move {
            let route = endpoint.find(timing.keepalive).await?;
            let Route { address, access } = route;
            let mut stream = dial(&address, access.tls.as_ref(), timing.keepalive, shaking).await?;
            access.introduce(&mut stream).await?;
            greet(address, access.greeting(endpoint.database(), protocol).await?, stream).await
        };
        let mut failure = self.broken(closed());
        for _ in 0..endpoint.alternatives() {
            let current = endpoint.current();
            match tokio::time::timeout(timing.connect, overlapping(attempt)).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(error)) => failure = self.broken(error),
                Err(_) => failure = self.unreachable(shaking.swap(false, Ordering::Relaxed)),
            }
            if let Some(current) = current {
                endpoint.avoid(&current);
            }
        }
        Err(failure)
    }

    /// What to say of a server to which no connection came about in time, perhaps because TLS was not agreed upon.
    fn unreachable(&self, is_shaking: bool) -> BrokerError {
        let (url, deadline) = (self.inner.endpoint.to_string(), self.inner.timing.connect);
        if !is_shaking {
            return BrokerError::Timeout { url, deadline };
        }
        let reason = format!("the handshake was not answered within {}s", deadline.as_secs_f32());
        BrokerError::Tls { url, reason, hint: tls::PLAIN }
    }

    /// What to say of a connection that failed so.
    pub(crate) fn broken(&self, source: RedisError) -> BrokerError {
        self.failed("the login", source)
    }

    fn refused(&self, commands: &Pipeline, index: usize, reason: String) -> BrokerError {
        BrokerError::Refused {
            url: self.inner.endpoint.to_string(),
            command: command_name(commands, index),
            reason,
        }
    }

    fn failed(&self, command: &str, source: RedisError) -> BrokerError {
        let Inner { endpoint, timing, .. } = &*self.inner;
        let url = endpoint.to_string();
        if source.is_timeout() {
            return BrokerError::Timeout { url, deadline: timing.silence };
        }
        if let Some((reason, hint)) = tls::trouble(&source) {
            return BrokerError::Tls { url, reason, hint };
        }
        match source.code() {
            Some(code) => {
                let reason = format!("{code} {}", source.detail().unwrap_or_default());
                BrokerError::Refused {
                    url,
                    command: command.to_owned(),
                    reason: reason.trim_end().to_owned(),
                }
            }
            None if source.kind() == ErrorKind::AuthenticationFailed => {
                let reason = source.detail().unwrap_or("wrong user or password").to_owned();
                BrokerError::Refused { url, command: "the login".to_owned(), reason }
            }
            None => BrokerError::Connection { url, reason: source.to_string() },
        }
    }
}

/// Makes the attempt, and while it shows nothing further ones beside it; the first outcome counts.
async fn overlapping<T, F>(attempt: impl Fn() -> F) -> RedisResult<T>
where
    F: Future<Output = RedisResult<T>>,
{
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.push(attempt());
        if let Ok(Some(outcome)) = tokio::time::timeout(SECOND_ATTEMPT, attempts.next()).await {
            return outcome;
        }
    }
}

fn closed() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

fn command_name(commands: &Pipeline, index: usize) -> String {
    let name = commands.cmd_iter().nth(index).and_then(|command| match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    });
    name.unwrap_or_else(|| "a transaction".to_owned())
}
