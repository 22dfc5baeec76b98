//! The schema: on an empty database, on one that the Python service left, and when two processes migrate at once.

mod support;

use companion::{
    auth,
    store::{DEMO_EMAIL, Demo, ReminderStatus, Seeded},
};
use compat_tests::PostgresServer;
use support::{EVERYTHING, On, Setup};

on_both! {
    an_empty_database_is_migrated_once_even_by_many_at_once
    the_seed_may_run_again
    the_demo_user_is_made_only_where_asked_for
    keys_that_begin_alike_are_told_apart
}

async fn an_empty_database_is_migrated_once_even_by_many_at_once(on: On) {
    let setup = Setup::bare(on, &[]);
    let runs = (0..6).map(|_| {
        let store = setup.another(&[]).store;
        tokio::spawn(async move { store.migrate().await.expect("migrate") })
    });
    let mut applied = 0;
    for run in runs.collect::<Vec<_>>() {
        applied += usize::from(!run.await.expect("no panic").applied.is_empty());
    }
    assert_eq!(applied, 1);
    assert!(setup.companion.store.migrate().await.expect("migrate").applied.is_empty());
}

async fn the_demo_user_is_made_only_where_asked_for(on: On) {
    let setup = Setup::bare(on, &[]);
    let store = &setup.companion.store;
    store.migrate().await.expect("migrate");
    let demo = async || store.user_by_email(DEMO_EMAIL).await.expect("database").is_some();

    assert!(!store.seed(Demo::Never).await.expect("seed").demo);
    assert!(!demo().await, "a development database gets no public key either");
    assert!(store.insert_user("ann@example.com", None).await.expect("database"));
    assert!(!store.seed(Demo::IfEmpty).await.expect("seed").demo);
    assert!(!demo().await, "somebody uses this database");
    assert!(store.seed(Demo::Always).await.expect("seed").demo);
    assert!(demo().await);

    let empty = Setup::bare(on, &[]);
    empty.companion.store.migrate().await.expect("migrate");
    for _ in 0..2 {
        assert!(empty.companion.store.seed(Demo::IfEmpty).await.expect("seed").demo);
    }
}

async fn the_seed_may_run_again(on: On) {
    let setup = Setup::new(on).await;
    let nothing_new = Seeded { demo: true, ..Seeded::default() };
    assert_eq!(setup.companion.store.seed(Demo::Always).await.expect("seed"), nothing_new);
    let flags = setup.companion.store.feature_flags().await.expect("flags");
    let keys: Vec<&str> = flags.iter().map(|flag| flag.key.as_str()).collect();
    assert_eq!(keys, ["calendar_integration", "multi_channel_notifications", "voice_mode"]);
}

async fn keys_that_begin_alike_are_told_apart(on: On) {
    let setup = Setup::new(on).await;
    let store = &setup.companion.store;
    store.insert_user("calm@example.com", None).await.expect("a user");
    let calm = store.user_by_email("calm@example.com").await.expect("database").expect("the user");
    assert!(auth::register(store, calm.id, "sk-demo-calm").await.expect("database"));
    assert!(!auth::register(store, calm.id, "sk-demo-calm").await.expect("database"));
    let whose =
        async |key: &str| auth::authenticate(store, key).await.expect("database").map(|user| user.email);
    assert_eq!(whose("sk-demo-calm").await.as_deref(), Some("calm@example.com"));
    assert_eq!(whose("sk-demo-accountability").await.as_deref(), Some("demo@example.com"));
    for wrong in [
        "",
        "sk",
        "sk-demo-",
        "sk-demo-coach",
        "sk-demo-accountabilitY",
        "sk-demo-accountability ",
        "ключ-ключ-ключ",
    ] {
        assert_eq!(whose(wrong).await, None, "{wrong:?}");
    }
}

/// As SQLAlchemy and Alembic made it: no defaults for what Python fills in, times and enumerations as in production.
const LEFT_BY_PYTHON: &str = "
    CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('20250101_0007');
    CREATE TYPE plan_enum AS ENUM ('free', 'pro');
    CREATE TYPE reminder_status_enum AS ENUM ('scheduled', 'sent', 'canceled', 'error');
    CREATE TYPE api_key_status_enum AS ENUM ('active', 'revoked');
    CREATE TYPE memory_type_enum AS ENUM ('note', 'goal', 'habit', 'preference', 'contact');
    CREATE TYPE task_status_enum AS ENUM ('pending', 'done');
    CREATE TABLE users (id uuid PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, plan plan_enum NOT NULL,
        push_token varchar(255), google_refresh_token varchar, stripe_customer_id varchar, stripe_subscription_id varchar,
        current_persona_key varchar(50), created_at timestamptz NOT NULL);
    CREATE TABLE reminders (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        text text NOT NULL, run_ts timestamptz NOT NULL, original_phrase text, local_ts timestamptz NOT NULL,
        utc_ts timestamptz NOT NULL, correlation_id varchar(64) NOT NULL, status reminder_status_enum NOT NULL,
        last_attempt_at timestamptz, sent_at timestamptz, calendar_event_id varchar(255));
    CREATE TABLE api_keys (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        prefix varchar(16) NOT NULL UNIQUE, key_hash varchar(128) NOT NULL, status api_key_status_enum NOT NULL,
        created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
    CREATE TABLE failed_jobs (id uuid PRIMARY KEY, job_name varchar(255) NOT NULL, payload jsonb NOT NULL,
        error_message text NOT NULL, attempts integer NOT NULL, last_error_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
    CREATE TABLE personas (id uuid PRIMARY KEY, key varchar(50) NOT NULL UNIQUE, name varchar(100) NOT NULL,
        system_prompt text NOT NULL);
    CREATE TABLE sessions (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        transcript jsonb NOT NULL, tokens_used integer NOT NULL, created_at timestamptz NOT NULL);
    CREATE TABLE memories (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        type memory_type_enum NOT NULL, text text NOT NULL, embedding double precision[], source varchar(255),
        created_at timestamptz NOT NULL);
    CREATE TABLE tasks (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        title text NOT NULL, due_ts timestamptz, status task_status_enum NOT NULL, linked_calendar_event_id varchar(255));
    CREATE TABLE habits (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        name varchar(255) NOT NULL, cadence jsonb NOT NULL, streak integer NOT NULL, last_check_ts timestamptz);
    CREATE TABLE feature_flags (key varchar(64) PRIMARY KEY, enabled boolean NOT NULL, description text,
        updated_at timestamptz NOT NULL);
    CREATE TABLE metrics_events (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        event_name varchar(100) NOT NULL, properties jsonb NOT NULL, created_at timestamptz NOT NULL);
    CREATE TABLE metrics_daily (id uuid PRIMARY KEY, metrics_date date NOT NULL UNIQUE, cohort_size integer NOT NULL,
        retained_day1 integer NOT NULL, retained_day7 integer NOT NULL, active_users integer NOT NULL,
        retention_rate_day1 double precision, retention_rate_day7 double precision,
        created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
    INSERT INTO users VALUES ('11111111-1111-1111-1111-111111111111', 'ada@example.com', 'pro', NULL, NULL, NULL, NULL,
        'calm', now());
    INSERT INTO api_keys VALUES ('22222222-2222-2222-2222-222222222222', '11111111-1111-1111-1111-111111111111',
        'sk-live-', encode(sha256('sk-live-ada'), 'hex'), 'active', now(), now());
    INSERT INTO reminders VALUES ('33333333-3333-3333-3333-333333333333', '11111111-1111-1111-1111-111111111111',
        'water the plants', now(), NULL, now(), now() - interval '1 minute', 'old', 'scheduled');
    INSERT INTO memories VALUES ('44444444-4444-4444-4444-444444444444', '11111111-1111-1111-1111-111111111111',
        'note', 'likes tea', ARRAY[0.5, 0.5], 'chat', now());
";

/// Every column with its type, one a line.
const COLUMNS: &str = "SELECT table_name, column_name, data_type, udt_name, is_nullable FROM information_schema.columns \
    WHERE table_schema = 'public' ORDER BY 1, 2";

#[tokio::test]
async fn a_database_of_the_python_service_is_adopted_with_additions_only() {
    let setup = Setup::bare(On::Postgres, &[]);
    let database = setup.database.as_ref().expect("PostgreSQL");
    database.execute(LEFT_BY_PYTHON);
    let before = database.execute(COLUMNS);
    let store = &setup.companion.store;
    let migrated = store.migrate().await.expect("migrate");
    assert!(migrated.adopted && !migrated.applied.is_empty());
    let after = database.execute(COLUMNS);
    for column in before.lines() {
        assert!(after.lines().any(|line| line == column), "{column} was changed");
    }
    store.seed(Demo::Always).await.expect("seed");

    let ada = auth::authenticate(store, "sk-live-ada").await.expect("database").expect("the old key works");
    assert_eq!(ada.email, "ada@example.com");
    let queued = companion::reminders::queue_due(&setup.companion, chrono::Utc::now(), None).await;
    assert_eq!(queued.expect("scan"), 1);
    let left = "33333333-3333-3333-3333-333333333333".parse().expect("a uuid");
    let delivered = companion::reminders::deliver(&setup.companion, left, chrono::Utc::now(), 0).await;
    assert_eq!(delivered.expect("deliver"), companion::reminders::Delivery::Sent);
    let request = companion::chat::Request {
        user: &ada,
        message: "Remind me to sleep in 2 hours",
        persona_key: None,
        correlation_id: "new",
        once: None,
    };
    companion::chat::chat(&setup.companion, request).await.expect("chat");
    let request = companion::chat::Request { message: "Remember that I like tea", ..request };
    companion::chat::chat(&setup.companion, request).await.expect("chat");
    companion::analytics::compute_daily_metrics(&setup.companion, chrono::Utc::now().date_naive())
        .await
        .expect("metrics");
    let reminders =
        companion::reminders::list(&setup.companion, &ada, &EVERYTHING).await.expect("reminders").reminders;
    assert_eq!(
        reminders.iter().map(|reminder| reminder.text.as_str()).collect::<Vec<_>>(),
        ["sleep", "water the plants"]
    );
    assert_eq!(reminders[1].status, ReminderStatus::Sent);
    // The previous release goes on writing as it did.
    database.execute(
        "INSERT INTO reminders (id, user_id, text, run_ts, local_ts, utc_ts, correlation_id, status) VALUES \
         (gen_random_uuid(), '11111111-1111-1111-1111-111111111111', 'x', now(), now(), now(), 'old', 'scheduled')",
    );
}

#[tokio::test]
async fn an_empty_postgres_gets_the_columns_of_the_contract() {
    let setup = Setup::new(On::Postgres).await;
    let database = setup.database.as_ref().expect("PostgreSQL");
    let old = PostgresServer::database();
    old.execute(LEFT_BY_PYTHON);
    let names = |columns: String| -> Vec<String> {
        columns.lines().map(|line| line.split('|').take(3).collect::<Vec<_>>().join("|")).collect()
    };
    let now = names(database.execute(COLUMNS));
    for column in names(old.execute(COLUMNS)) {
        let left_out = column.starts_with("alembic_version|") || column.starts_with("memories|embedding");
        let longer = column.replace("character varying", "text");
        assert!(left_out || now.contains(&column) || now.contains(&longer), "{column} is missing");
    }
    database.execute(
        "INSERT INTO reminders (user_id, text, run_ts, local_ts, utc_ts, correlation_id) \
        SELECT id, 'x', now(), now(), now(), 'x' FROM users",
    );
    database.execute("DELETE FROM users");
    assert_eq!(database.execute("SELECT count(*) FROM reminders").trim(), "0");
}
