//! A companion on real parts: PostgreSQL or SQLite, and a private Redis.

#![allow(dead_code, reason = "each test uses a part of it")]

use chrono::{DateTime, Duration, SubsecRound, Utc};
use companion::{
    Companion,
    settings::Settings,
    store::{DEMO_EMAIL, Demo, NewReminder, ReminderPart, User},
};
pub(crate) mod peer;

use compat_tests::{Database, PostgresServer, RedisServer};
use tempfile::TempDir;
use uuid::Uuid;

/// Where the data of a test live.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On {
    Postgres,
    Sqlite,
}

/// A message in the outbox.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Message {
    pub(crate) key: String,
    pub(crate) eta: Option<DateTime<Utc>>,
    pub(crate) publish_at: DateTime<Utc>,
}

pub(crate) struct Setup {
    pub(crate) companion: Companion,
    pub(crate) redis: RedisServer,
    pub(crate) database: Option<Database>,
    pub(crate) folder: TempDir,
    database_url: String,
}

impl Setup {
    /// Migrated and seeded.
    pub(crate) async fn new(on: On) -> Self {
        Self::with(on, &[]).await
    }

    /// Migrated and seeded, with more settings.
    pub(crate) async fn with(on: On, vars: &[(&str, &str)]) -> Self {
        let setup = Self::bare(on, vars);
        setup.companion.store.migrate().await.expect("migrate");
        setup.companion.store.seed(Demo::Always).await.expect("seed");
        setup
    }

    /// With an empty database.
    pub(crate) fn bare(on: On, vars: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start();
        let folder = TempDir::new().expect("a temporary folder");
        let database = match on {
            On::Postgres => Some(PostgresServer::database()),
            On::Sqlite => None,
        };
        let file = format!("sqlite://{}", folder.path().join("companion.db").display());
        let database_url = database.as_ref().map_or(file, |database| database.url().to_owned());
        let companion = open(&database_url, &redis, &folder, vars);
        Self { companion, redis, database, folder, database_url }
    }

    /// One more process on the same parts.
    pub(crate) fn another(&self, vars: &[(&str, &str)]) -> Companion {
        open(&self.database_url, &self.redis, &self.folder, vars)
    }

    pub(crate) async fn demo_user(&self) -> User {
        self.companion.store.user_by_email(DEMO_EMAIL).await.expect("database").expect("the demo user")
    }

    pub(crate) async fn reminder(&self, text: &str, due: DateTime<Utc>) -> Uuid {
        let user_id = self.demo_user().await.id;
        let new = NewReminder {
            user_id,
            text: text.to_owned(),
            due: due.trunc_subsecs(6),
            original_phrase: None,
            correlation_id: "test".to_owned(),
        };
        companion::reminders::create(&self.companion, &new).await.expect("a reminder")
    }

    /// Runs a statement on either database.
    pub(crate) async fn sql(&self, sql: &'static str) {
        match self.companion.store.outbox() {
            celeriac_outbox::Pool::Postgres(pool) => sqlx::query(sql).execute(&pool).await.map(drop),
            celeriac_outbox::Pool::Sqlite(pool) => sqlx::query(sql).execute(&pool).await.map(drop),
        }
        .expect("the statement is carried out");
    }

    /// The messages that are not settled.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        const ALL: &str = "SELECT key, eta, publish_at FROM outbox_messages";
        match self.companion.store.outbox() {
            celeriac_outbox::Pool::Postgres(pool) => sqlx::query_as(ALL).fetch_all(&pool).await,
            celeriac_outbox::Pool::Sqlite(pool) => sqlx::query_as(ALL).fetch_all(&pool).await,
        }
        .expect("the messages")
    }

    /// Leaves the reminders without the messages that deliver them.
    pub(crate) async fn forget_messages(&self) {
        self.sql("DELETE FROM outbox_messages").await;
    }

    /// The reminders in the outbox, in order.
    pub(crate) fn outbox(&self) -> Vec<Uuid> {
        let text = std::fs::read_to_string(self.folder.path().join("outbox.jsonl")).unwrap_or_default();
        let id = |line: &str| {
            let entry: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            entry["reminder_id"].as_str().expect("an id").parse().expect("a uuid")
        };
        text.lines().map(id).collect()
    }
}

fn open(database_url: &str, redis: &RedisServer, folder: &TempDir, vars: &[(&str, &str)]) -> Companion {
    let outbox = folder.path().join("outbox.jsonl").display().to_string();
    let base = [("DATABASE_URL", database_url), ("REDIS_URL", &redis.url()), ("NOTIFY_FILE", &outbox)];
    let vars = base.iter().chain(vars).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Companion::open(Settings::from_vars(vars).expect("valid settings")).expect("a companion")
}

/// A list without limits.
pub(crate) const EVERYTHING: ReminderPart = ReminderPart { limit: 10_000, after: None, status: None };

pub(crate) fn ago(seconds: i64) -> DateTime<Utc> {
    Utc::now() - Duration::seconds(seconds)
}

/// Makes two tests of one, on PostgreSQL and on SQLite.
#[macro_export]
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::support::On::Postgres).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name($crate::support::On::Sqlite).await; })*
        }
    };
}
