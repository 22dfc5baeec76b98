//! The pool of connections to PostgreSQL, in which nothing waits for ever.
//!
//! The server ends a statement that takes too long (`statement_timeout`), and gives up a client that has vanished
//! (`tcp_user_timeout`). Neither helps a client whose link is lost without a word: the driver would wait until the system
//! gives the connection up, a quarter of an hour later. So each statement also has a deadline here, a little beyond the
//! server's own. A connection that misses it is closed at once, and all that were opened before are not trusted any more.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    Either, Error, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::clock::Clock;
use crate::settings::PoolSettings;

/// The longest wait for a free connection, or for a new one.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond the server's own limit, how long its answer may take.
const SLACK: Duration = Duration::from_secs(2);
/// Connections that were idle for longer are tried before they are used, and have this long to answer.
const TRUSTED: Duration = Duration::from_secs(1);

/// Sets the session up; settings that a server does not know are left out.
const PREPARE: &str = "SELECT set_config(wanted.name, wanted.value, false) FROM (VALUES \
        ('statement_timeout', $1), ('tcp_user_timeout', $2), ('idle_in_transaction_session_timeout', $2)) \
        AS wanted (name, value) \
    WHERE EXISTS (SELECT 1 FROM pg_settings WHERE pg_settings.name = wanted.name)";

/// The connections to a PostgreSQL server; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pool: PgPool,
    deadline: Duration,
    lost: Lost,
    pub(super) clock: Arc<Clock>,
    /// How a connection outside the pool is made.
    pub(super) options: Arc<PgConnectOptions>,
    /// The connection that health checks use, so that they neither wait for the pool nor take from it.
    pub(super) probe: Arc<tokio::sync::Mutex<Option<PgConnection>>>,
}

/// When a connection last missed its deadline. Connections that are older are not trusted.
#[derive(Clone, Debug, Default)]
struct Lost(Arc<Mutex<Option<Instant>>>);

impl Lost {
    fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether a connection of this age was there when one was lost.
    fn concerns(&self, age: Duration) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_some_and(|lost| lost.elapsed() <= age)
    }
}

impl Link {
    /// Prepares the pool; connections are made when needed.
    pub(super) fn open(options: &PgConnectOptions, settings: &PoolSettings) -> Self {
        let options = options.clone().application_name("ai-companion");
        let (lost, patience) = (Lost::default(), settings.statement_timeout);
        let suspects = lost.clone();
        let pool = PgPoolOptions::new()
            .max_connections(settings.size)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(move |connection, _| prepare(connection, patience).boxed())
            .before_acquire(move |connection, meta| {
                let suspects = suspects.clone();
                async move {
                    if suspects.concerns(meta.age) {
                        return Err(silence(TRUSTED));
                    }
                    if meta.idle_for < TRUSTED {
                        return Ok(true);
                    }
                    let answer = tokio::time::timeout(TRUSTED, sqlx::Connection::ping(connection)).await;
                    answer.unwrap_or_else(|_| {
                        suspects.mark();
                        Err(silence(TRUSTED))
                    })?;
                    Ok(true)
                }
                .boxed()
            })
            .connect_lazy_with(options.clone());
        Self {
            pool,
            deadline: patience + SLACK,
            lost,
            clock: Arc::default(),
            options: Arc::new(options),
            probe: Arc::default(),
        }
    }

    /// Closes all connections, waiting for statements under way.
    pub(super) async fn close(&self) {
        self.probe.lock().await.take();
        self.pool.close().await;
    }

    /// The connections themselves, for whoever sets a deadline of its own.
    pub(super) fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// Takes a connection from the pool.
    pub(super) async fn hold(&self) -> Result<Held, Error> {
        let connection = Some(self.pool.acquire().await?);
        let watch = Watch { deadline: self.deadline, lost: self.lost.clone(), is_settled: true };
        Ok(Held { connection, watch, in_transaction: false })
    }
}

/// Sets a new session up.
async fn prepare(connection: &mut PgConnection, patience: Duration) -> Result<(), Error> {
    let (statement, link) = (patience.as_millis(), (patience + SLACK).as_millis());
    sqlx::query(PREPARE)
        .bind(statement.to_string())
        .bind(link.to_string())
        .execute(connection)
        .await
        .map(drop)
}

fn silence(patience: Duration) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}")))
}

/// A connection that is in use. Others use it next, unless a statement is still under way when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// There until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    watch: Watch,
    in_transaction: bool,
}

/// The deadline of statements.
#[derive(Debug)]
struct Watch {
    deadline: Duration,
    lost: Lost,
    /// Whether the last statement has been answered.
    is_settled: bool,
}

impl Watch {
    async fn over<T>(&mut self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.is_settled = false;
        let answer = tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(|_| {
            self.lost.mark();
            Err(silence(self.deadline))
        });
        self.is_settled = !matches!(answer, Err(Error::Io(_) | Error::Tls(_) | Error::Protocol(_)));
        answer
    }
}

impl Held {
    async fn rows<'q, E>(&mut self, query: E) -> Result<Vec<Either<PgQueryResult, PgRow>>, Error>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let connection = self.connection.as_deref_mut().ok_or(Error::PoolClosed)?;
        self.watch.over(connection.fetch_many(query).try_collect()).await
    }

    async fn row<'q, E>(&mut self, query: E) -> Result<Option<PgRow>, Error>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let connection = self.connection.as_deref_mut().ok_or(Error::PoolClosed)?;
        self.watch.over(connection.fetch_optional(query)).await
    }

    async fn statement(&mut self, sql: SqlStr, parameters: &[PgTypeInfo]) -> Result<PgStatement, Error> {
        let connection = self.connection.as_deref_mut().ok_or(Error::PoolClosed)?;
        self.watch.over(connection.prepare_with(sql, parameters)).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.watch.is_settled => {
                runtime.spawn(give_back(connection, self.in_transaction));
            }
            // Closed without a farewell: the server undoes what was not committed.
            _ => drop(connection.detach()),
        }
    }
}

async fn give_back(mut connection: PoolConnection<Postgres>, in_transaction: bool) {
    if in_transaction
        && !matches!(tokio::time::timeout(TRUSTED, connection.execute("ROLLBACK")).await, Ok(Ok(_)))
    {
        return drop(connection.detach());
    }
    // Dropped at the deadline, the connection is closed.
    let _ = tokio::time::timeout(TRUSTED, connection.return_to_pool()).await;
}

/// A transaction, undone when it is dropped before it is committed.
pub(super) struct Work {
    held: Held,
}

impl Work {
    /// Begins one.
    pub(super) async fn begin(link: &Link) -> Result<Self, Error> {
        let mut held = link.hold().await?;
        held.in_transaction = true;
        held.rows("BEGIN").await?;
        Ok(Self { held })
    }

    /// Makes it last.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        self.held.rows("COMMIT").await?;
        self.held.in_transaction = false;
        Ok(())
    }
}

impl Deref for Work {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut Held {
        &mut self.held
    }
}

type Answers<'e> = BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>;

/// Answers that have come, as the stream in which the driver's users expect them.
fn streamed<'e>(
    rows: impl Future<Output = Result<Vec<Either<PgQueryResult, PgRow>>, Error>> + Send + 'e,
) -> Answers<'e> {
    stream::once(rows).map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
}

impl<'c> Executor<'c> for &'c mut Held {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Answers<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        streamed(self.rows(query))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.row(query).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        self.statement(sql, parameters).boxed()
    }
}

impl<'p> Executor<'p> for &'_ Link {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Answers<'e>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let link = self.clone();
        streamed(async move { link.hold().await?.rows(query).await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let link = self.clone();
        async move { link.hold().await?.row(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let link = self.clone();
        async move { link.hold().await?.statement(sql, parameters).await }.boxed()
    }
}
