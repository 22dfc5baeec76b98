//! The outbox with a real PostgreSQL, SQLite and Redis: what is committed is published, once and in batches.

use std::time::Duration;

use celeriac::Celery;
use celeriac::config::Config;
use celeriac_outbox::{CeleryPublisher, Message, Pool, Relay, postgres, sqlite};
use chrono::{TimeDelta, Utc};
use compat_tests::{Database, PostgresServer, RedisServer, eventually_async, secs};
use sqlx::{PgPool, SqlitePool, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

struct Setup {
    pool: Pool,
    redis: RedisServer,
    _database: Option<Database>,
    _folder: TempDir,
}

impl Setup {
    async fn on_postgres() -> Self {
        let database = PostgresServer::database();
        let pool = PgPool::connect(database.url()).await.expect("PostgreSQL");
        sqlx::raw_sql(postgres::SCHEMA).execute(&pool).await.expect("the table");
        Self::new(Pool::Postgres(pool), Some(database))
    }

    async fn on_sqlite() -> Self {
        let folder = TempDir::new().expect("a folder");
        let options =
            SqliteConnectOptions::new().filename(folder.path().join("outbox.db")).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.expect("SQLite");
        sqlx::raw_sql(sqlite::SCHEMA).execute(&pool).await.expect("the table");
        Self { _folder: folder, ..Self::new(Pool::Sqlite(pool), None) }
    }

    fn new(pool: Pool, database: Option<Database>) -> Self {
        let folder = TempDir::new().expect("a folder");
        Self { pool, redis: RedisServer::start(), _database: database, _folder: folder }
    }

    /// Adds messages in a transaction, and commits it or not.
    async fn add(&self, messages: &[Message], commit: bool) -> u64 {
        match &self.pool {
            Pool::Postgres(pool) => {
                let mut tx = pool.begin().await.expect("begin");
                let added = postgres::add(&mut *tx, messages).await.expect("add");
                if commit { tx.commit().await } else { tx.rollback().await }.expect("the end");
                added
            }
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin().await.expect("begin");
                let added = sqlite::add(&mut tx, messages).await.expect("add");
                if commit { tx.commit().await } else { tx.rollback().await }.expect("the end");
                added
            }
        }
    }

    async fn settle(&self, key: &str) -> u64 {
        match &self.pool {
            Pool::Postgres(pool) => postgres::settle(pool, &[key.to_owned()]).await,
            Pool::Sqlite(pool) => {
                let mut connection = pool.acquire().await.expect("a connection");
                sqlite::settle(&mut connection, &[key.to_owned()]).await
            }
        }
        .expect("settle")
    }

    fn relay(&self) -> Relay<CeleryPublisher> {
        let mut config = Config::default();
        config.set("broker_url", &self.redis.url()).expect("a URL");
        config.set("task_publish_retry", "false").expect("a setting");
        let app = Celery::new("outbox", config).expect("an application");
        Relay::new(self.pool.clone(), CeleryPublisher::new(app, ["celery"]))
    }

    async fn publish(&self) {
        self.relay().publish_once().await.expect("it is published");
    }

    /// The ids of the messages that wait at the broker, oldest first.
    fn waiting(&self) -> Vec<String> {
        let list: Vec<String> = redis::cmd("LRANGE")
            .arg("celery")
            .arg(0)
            .arg(-1)
            .query(&mut self.redis.connection())
            .expect("the queue");
        let id = |message: &String| {
            let message: serde_json::Value = serde_json::from_str(message).expect("a message");
            message["headers"]["id"].as_str().expect("an id").to_owned()
        };
        list.iter().rev().map(id).collect()
    }

    async fn overdue(&self) -> i64 {
        self.pool.overdue().await.expect("a count")
    }
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Setup::on_postgres().await).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Setup::on_sqlite().await).await; })*
        }
    };
}

on_both! {
    only_what_is_committed_is_published
    a_key_has_one_message_until_it_is_settled
    relays_at_once_publish_each_message_once
    a_broker_that_lost_its_data_gets_them_again
    the_broker_is_never_given_more_than_it_may_hold
    a_message_that_cannot_be_published_holds_up_no_other
}

fn message() -> Message {
    Message::new("proj.tasks.add").arg(1).kwarg("y", 2)
}

async fn only_what_is_committed_is_published(setup: Setup) {
    let (kept, undone) = (message(), message());
    let later = message().eta(Utc::now() + TimeDelta::hours(1), Duration::from_secs(60));
    let ahead = message().eta(Utc::now() + TimeDelta::seconds(30), Duration::from_secs(60));
    setup.add(&[undone], false).await;
    setup.add(&[kept.clone(), later], true).await;
    setup.publish().await;
    assert_eq!(setup.waiting(), [kept.id().to_string()]);
    setup.add(std::slice::from_ref(&ahead), true).await;
    setup.publish().await;
    setup.publish().await;
    assert_eq!(setup.waiting(), [kept.id().to_string(), ahead.id().to_string()], "each once");
}

async fn a_key_has_one_message_until_it_is_settled(setup: Setup) {
    let first = message().key("order/7");
    assert_eq!(setup.add(&[first.clone(), message().key("order/7")], true).await, 1);
    assert_eq!(setup.add(&[message().key("order/7")], true).await, 0);
    setup.publish().await;
    assert_eq!(setup.add(&[message().key("order/7")], true).await, 0, "published, not settled");
    setup.publish().await;
    assert_eq!(setup.waiting(), [first.id().to_string()]);
    assert_eq!(setup.settle("order/7").await, 1);
    let second = message().key("order/7").eta(Utc::now() + TimeDelta::hours(1), Duration::ZERO);
    assert_eq!(setup.add(&[second], true).await, 1);
    let hastened = message().key("order/7");
    assert_eq!(
        setup.add(std::slice::from_ref(&hastened), true).await,
        1,
        "it is to be published much earlier"
    );
    setup.publish().await;
    assert_eq!(setup.waiting(), [first.id().to_string(), hastened.id().to_string()]);
}

async fn relays_at_once_publish_each_message_once(setup: Setup) {
    let messages: Vec<Message> = (0..500).map(|number| message().key(format!("order/{number}"))).collect();
    assert_eq!(setup.add(&messages, true).await, 500);
    let (stop, _) = tokio::sync::broadcast::channel::<()>(1);
    let relays: Vec<_> = (0..4)
        .map(|_| {
            let mut stopped = stop.subscribe();
            tokio::spawn(setup.relay().batch(20).run_until(async move { drop(stopped.recv().await) }))
        })
        .collect();
    eventually_async("all are published", secs(60), async || setup.waiting().len() >= 500).await;
    stop.send(()).expect("relays");
    for relay in relays {
        relay.await.expect("no panic");
    }
    let mut published = setup.waiting();
    published.sort();
    let mut expected: Vec<String> = messages.iter().map(|message| message.id().to_string()).collect();
    expected.sort();
    assert_eq!(published, expected);
    assert_eq!(setup.overdue().await, 0);
}

async fn a_broker_that_lost_its_data_gets_them_again(setup: Setup) {
    let (kept, forgotten) = (message().key("order/7"), message());
    setup.add(&[kept.clone(), forgotten], true).await;
    setup.publish().await;
    assert_eq!(setup.waiting().len(), 2);
    let () = redis::cmd("FLUSHALL").query(&mut setup.redis.connection()).expect("flushed");
    setup.publish().await;
    assert_eq!(setup.waiting(), [kept.id().to_string()], "what is not settled, under its old id");
    setup.publish().await;
    assert_eq!(setup.waiting().len(), 1);
}

async fn the_broker_is_never_given_more_than_it_may_hold(setup: Setup) {
    setup.add(&(0..30).map(|_| message()).collect::<Vec<_>>(), true).await;
    for _ in 0..3 {
        setup.relay().most_waiting(12).publish_once().await.expect("it is published");
    }
    assert_eq!((setup.waiting().len(), setup.overdue().await), (12, 18));
}

async fn a_message_that_cannot_be_published_holds_up_no_other(setup: Setup) {
    let (bad, good) = (message().option("countdown", "soon"), message());
    setup.add(&[bad, good.clone()], true).await;
    setup.publish().await;
    assert_eq!(setup.waiting(), [good.id().to_string()]);
    assert_eq!(setup.overdue().await, 0, "it waits for an hour");
}
