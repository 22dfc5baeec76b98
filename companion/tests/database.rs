//! The database when it fails: the cause has a name, nothing waits for ever, and schema changes stand in nobody's way.

mod support;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use companion::{
    reminders,
    settings::Settings,
    store::{DatabaseFault, Store, StoreError, Wanted},
};
use compat_tests::{PostgresServer, Proxy, eventually_async, secs};
use sqlx::{Connection, PgConnection};
use support::{EVERYTHING, On, Setup, ago};

/// As `/healthz` asks.
const PATIENCE: Duration = Duration::from_millis(900);

fn store(url: &str, vars: &[(&str, &str)]) -> Store {
    let vars = vars.iter().copied().chain([("DATABASE_URL", url)]);
    Store::open(&Settings::from_vars(vars).expect("valid settings")).expect("opens lazily")
}

async fn session(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connect")
}

#[tokio::test]
async fn a_database_that_cannot_be_used_says_why_within_a_second() {
    let mut server = PostgresServer::start();
    let hba = server.execute("postgres", "SHOW hba_file");
    server.execute("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'right'");
    server.execute(
        "postgres",
        &format!(
            "COPY (SELECT unnest(ARRAY['host all postgres 127.0.0.1/32 trust', 'host all clerk 127.0.0.1/32 scram-sha-256'])) \
             TO '{}'; SELECT pg_reload_conf()",
            hba.trim()
        ),
    );
    let port = server.port();
    let database = server.create_database();
    let url = |user: &str, database: &str| format!("postgresql://{user}@127.0.0.1:{port}/{database}");
    let fault = async |url: &str| {
        let asked = Instant::now();
        let fault = store(url, &[]).check(PATIENCE).await.expect_err(url);
        assert!(asked.elapsed() < secs(5), "{fault} after {:?}", asked.elapsed());
        let said = fault.to_string();
        assert!(!["clerk", "127.0.0.1", "wrong-one"].iter().any(|hidden| said.contains(hidden)), "{said}");
        fault
    };
    assert_eq!(fault(&url("clerk:wrong-one", "postgres")).await, DatabaseFault::Password);
    assert_eq!(fault(&url("nobody", "postgres")).await, DatabaseFault::User);
    assert_eq!(fault(&url("postgres", "nowhere")).await, DatabaseFault::NoDatabase);
    assert_eq!(fault("postgresql://u:p@127.0.0.1:1/x").await, DatabaseFault::Refused);
    assert!(matches!(fault("postgresql://u:p@no-such-host.invalid/x").await, DatabaseFault::Unreachable(_)));
    let bare = fault(database.url()).await;
    assert!(
        matches!(&bare, DatabaseFault::NotMigrated(missing) if missing.contains(&"0001_contract")),
        "{bare}"
    );

    let store = store(database.url(), &[]);
    store.migrate().await.expect("migrate");
    store.check(PATIENCE).await.expect("it works");
    server.kill();
    assert!(store.check(PATIENCE).await.is_err());
    assert_eq!(store.check(PATIENCE).await, Err(DatabaseFault::Refused));
    server.restart();
    eventually_async("it is back", secs(20), async || store.check(PATIENCE).await.is_ok()).await;
}

#[tokio::test]
async fn an_sqlite_file_that_cannot_be_used_says_why() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("companion.db");
    let url = format!("sqlite://{}", path.display());
    std::fs::write(
        &path,
        "not a database, though it is long enough to be read as the head of one".repeat(20),
    )
    .expect("write");
    assert_eq!(store(&url, &[]).check(PATIENCE).await, Err(DatabaseFault::NotADatabase));
    std::fs::remove_file(&path).expect("remove");
    let fault = store(&url, &[]).check(PATIENCE).await.expect_err("it is empty");
    assert!(matches!(fault, DatabaseFault::NotMigrated(_)), "{fault}");
    let away = format!("sqlite://{}/companion.db", folder.path().join("gone").display());
    let store = store(&away, &[]);
    std::fs::remove_dir(folder.path().join("gone")).expect("remove");
    assert_eq!(store.check(PATIENCE).await, Err(DatabaseFault::File));
}

#[tokio::test]
async fn migrating_names_host_and_cause() {
    let error =
        store("postgresql://clerk:hidden@127.0.0.1:1/x", &[]).migrate().await.expect_err("nothing listens");
    assert!(error.is_retryable(), "{error}");
    let said = error.to_string();
    assert!(said.contains("postgresql://127.0.0.1:1/x: connection refused"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_lost_silently_stops_nobody_for_long() {
    let server = PostgresServer::start();
    let path = Proxy::to(server.port());
    let database = server.create_database();
    let url = database.url().replace(&format!(":{}/", server.port()), &format!(":{}/", path.port()));
    let store = store(&url, &[("DATABASE_STATEMENT_TIMEOUT", "1"), ("DATABASE_POOL_SIZE", "4")]);
    store.migrate().await.expect("migrate");
    let asked = async || {
        let started = Instant::now();
        (store.feature_flags().await, started.elapsed())
    };
    // All connections of the pool are open, and idle.
    for (answer, _) in futures_util::future::join_all((0..4).map(|_| asked())).await {
        answer.expect("it works");
    }
    path.black_hole();
    for (answer, took) in futures_util::future::join_all((0..8).map(|_| asked())).await {
        let error = answer.expect_err("nothing comes through");
        assert!(error.is_retryable(), "{error}");
        assert!(took < secs(15), "{took:?}");
    }
    assert!(matches!(store.check(PATIENCE).await, Err(DatabaseFault::Silent(_))));
    // New connections come through; those of before stay dead.
    path.forget();
    eventually_async("it works again", secs(15), async || store.feature_flags().await.is_ok()).await;
    for (answer, took) in futures_util::future::join_all((0..8).map(|_| asked())).await {
        answer.expect("no dead connection is used");
        assert!(took < secs(5), "{took:?}");
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_and_its_connection_used_again() {
    let setup =
        Setup::with(On::Postgres, &[("DATABASE_STATEMENT_TIMEOUT", "1"), ("DATABASE_POOL_SIZE", "1")]).await;
    let store = &setup.companion.store;
    let user = setup.demo_user().await;
    let url = setup.database.as_ref().expect("PostgreSQL").url();
    let mut other = session(url).await;
    let mut holding = other.begin().await.expect("begin");
    sqlx::raw_sql("LOCK TABLE reminders IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holding)
        .await
        .expect("lock");
    let started = Instant::now();
    let error = reminders::list(&setup.companion, &user, &EVERYTHING).await.expect_err("it is locked");
    assert!(error.is_retryable() && started.elapsed() < secs(15), "{error} after {:?}", started.elapsed());
    holding.rollback().await.expect("rollback");
    reminders::list(&setup.companion, &user, &EVERYTHING).await.expect("it is free");
    assert!(store.feature_flags().await.is_ok());
}

/// The host's clock is right, and the database's is five minutes ahead.
#[tokio::test]
async fn claims_go_by_the_clock_of_the_database() {
    let setup = Setup::new(On::Postgres).await;
    let database = setup.database.as_ref().expect("PostgreSQL");
    database.execute(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
         $$ SELECT pg_catalog.clock_timestamp() + interval '5 minutes' $$; \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$",
    );
    let (ahead, right) = (setup.another(&[]), &setup.companion);
    let id = setup.reminder("stretch", ago(60)).await;
    let skew = ahead.store.now().await.expect("a time") - chrono::Utc::now();
    assert!((skew - TimeDelta::minutes(5)).abs() < TimeDelta::seconds(20), "{skew}");
    let exported = ahead.store.clock_skew().expect("it was read");
    assert!((exported - TimeDelta::minutes(5)).abs() < TimeDelta::seconds(20), "{exported}");
    assert!(right.store.clock_skew().expect("it was read").abs() < TimeDelta::seconds(20));

    let wanted = Wanted {
        reminder: id,
        token: uuid::Uuid::new_v4(),
        due_at: ahead.store.now().await.expect("a time"),
        lease: secs(30),
    };
    let begun = ahead.store.begin_deliveries(&[wanted], &|_| Vec::new()).await.expect("begin");
    assert_eq!(begun.len(), 1);
    let until = database.execute(&format!(
        "SELECT delivery_until > pg_catalog.clock_timestamp() + interval '5 minutes' FROM reminders WHERE id = '{id}'"
    ));
    assert_eq!(until.trim(), "t", "the lease begins by the database's clock");
}

const OLD_TABLE: &str = "CREATE TYPE reminder_status_enum AS ENUM ('scheduled', 'sent', 'canceled', 'error'); \
    CREATE TABLE alembic_version (version_num varchar(32)); \
    CREATE TABLE users (id uuid PRIMARY KEY, email varchar(255) NOT NULL UNIQUE); \
    CREATE TABLE reminders (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, \
        text text NOT NULL, run_ts timestamptz NOT NULL, local_ts timestamptz NOT NULL, utc_ts timestamptz NOT NULL, \
        correlation_id varchar(64) NOT NULL, status reminder_status_enum NOT NULL, last_attempt_at timestamptz, \
        sent_at timestamptz, original_phrase text, calendar_event_id varchar(255))";

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_a_long_transaction_without_stopping_others() {
    let setup = Setup::bare(On::Postgres, &[]);
    let database = setup.database.as_ref().expect("PostgreSQL");
    database.execute(OLD_TABLE);
    let mut writer = session(database.url()).await;
    let mut writing = writer.begin().await.expect("begin");
    sqlx::raw_sql("LOCK TABLE reminders IN ROW EXCLUSIVE MODE").execute(&mut *writing).await.expect("lock");
    let migrating = tokio::spawn({
        let store = setup.companion.store.clone();
        async move { store.migrate().await }
    });
    let mut reader = session(database.url()).await;
    let waits =
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'reminders'::regclass)";
    eventually_async("the migration waits for the table", secs(20), async || {
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut reader).await.expect("a row")
    })
    .await;
    let asked = Instant::now();
    sqlx::raw_sql("SELECT count(*) FROM reminders").execute(&mut reader).await.expect("it can be read");
    assert!(asked.elapsed() < secs(10), "{:?}", asked.elapsed());
    assert!(!migrating.is_finished());
    writing.rollback().await.expect("rollback");
    let migrated = migrating.await.expect("no panic").expect("migrate");
    assert!(migrated.adopted && migrated.applied.contains(&"0002_delivery"), "{migrated:?}");
}

#[tokio::test]
async fn indexes_are_built_while_others_write_and_half_built_ones_again() {
    let setup = Setup::new(On::Postgres).await;
    let database = setup.database.as_ref().expect("PostgreSQL");
    // As a run leaves it that was killed while it built the index.
    database.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_reminders_owner'::regclass; \
         DROP INDEX ix_sessions_owner; DELETE FROM companion_migrations WHERE name = '0002_delivery'",
    );
    let mut writer = session(database.url()).await;
    let mut writing = writer.begin().await.expect("begin");
    // Held through the whole run: to build an index in the plain way waits for it, to build it beside others does not take
    // a lock that it stands against, but waits for the transaction to end.
    sqlx::raw_sql("SELECT count(*) FROM users; LOCK TABLE tasks IN ROW EXCLUSIVE MODE")
        .execute(&mut *writing)
        .await
        .expect("lock");
    let migrating = tokio::spawn({
        let store = setup.companion.store.clone();
        async move { store.migrate().await }
    });
    eventually_async("an index is being built", secs(20), async || {
        database.execute("SELECT count(*) FROM pg_stat_progress_create_index").trim() != "0"
            || migrating.is_finished()
    })
    .await;
    // Reminders can be written meanwhile.
    setup.reminder("stretch", ago(60)).await;
    writing.rollback().await.expect("rollback");
    let migrated = migrating.await.expect("no panic").expect("migrate");
    assert_eq!(migrated.applied, ["0002_delivery"]);
    let valid = database.execute(
        "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid IN \
         ('ix_reminders_owner'::regclass, 'ix_sessions_owner'::regclass)",
    );
    assert_eq!(valid.trim(), "2");
}

#[test]
fn the_pool_has_its_settings() {
    let settings = Settings::from_vars([("DATABASE_POOL_SIZE", "3"), ("DATABASE_STATEMENT_TIMEOUT", "7")])
        .expect("valid");
    assert_eq!((settings.database_pool.size, settings.database_pool.statement_timeout), (3, secs(7)));
    let error = Settings::from_vars([("DATABASE_POOL_SIZE", "0")]).expect_err("no pool").to_string();
    assert!(error.contains("DATABASE_POOL_SIZE is \"0\"; expected a whole number above 0"), "{error}");
    let error = StoreError::Busy { what: "x".to_owned(), waited: secs(1) };
    assert!(error.is_retryable());
}
