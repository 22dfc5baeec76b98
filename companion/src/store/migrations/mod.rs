//! The migrations, in their order. A later release adds to the end and changes none.

/// A step of the schema that adds to it.
pub(in crate::store) struct Migration {
    /// Its name in the table `companion_migrations`.
    pub(in crate::store) name: &'static str,
    /// Statements that take effect together, each of them quick however large the tables are.
    pub(in crate::store) sql: &'static str,
    /// Indexes that PostgreSQL builds afterwards, while others read and write.
    pub(in crate::store) indexes: &'static [Index],
}

/// An index.
pub(in crate::store) struct Index {
    /// Its name.
    pub(in crate::store) name: &'static str,
    /// The table, the columns, and the condition.
    pub(in crate::store) on: &'static str,
}

macro_rules! migration {
    ($folder:literal, $name:literal $(, $index:literal on $on:literal)*) => {
        Migration {
            name: $name,
            sql: include_str!(concat!($folder, "_", $name, ".sql")),
            indexes: &[$(Index { name: $index, on: $on }),*],
        }
    };
}

pub(in crate::store) const POSTGRES: &[Migration] = &[
    migration!("postgres", "0001_contract"),
    migration!("postgres", "0002_delivery",
        "ix_reminders_scheduled_utc_ts" on "reminders (utc_ts) WHERE status = 'scheduled'",
        "ix_reminders_owner" on "reminders (user_id, created_at)",
        "ix_metrics_events_day" on "metrics_events (created_at, user_id)",
        "ix_sessions_owner" on "sessions (user_id, created_at)"
    ),
    migration!("postgres", "0003_embedding"),
    migration!("postgres", "0005_counts"),
    migration!("postgres", "0006_idempotency"),
    migration!("postgres", "0007_outbox",
        "ix_reminder_deliveries_uncertain" on "reminder_deliveries (started_at) WHERE uncertain_at IS NOT NULL",
        "ix_failed_jobs_open" on "failed_jobs ((payload ->> 'reminder_id')) WHERE resolved_at IS NULL"
    ),
    Migration { name: "0008_outbox_messages", sql: celeriac_outbox::postgres::SCHEMA, indexes: &[] },
    migration!("postgres", "0009_once"),
];

pub(in crate::store) const SQLITE: &[Migration] = &[
    migration!("sqlite", "0001_contract"),
    migration!("sqlite", "0005_counts"),
    migration!("sqlite", "0006_idempotency"),
    migration!("sqlite", "0007_outbox"),
    Migration { name: "0008_outbox_messages", sql: celeriac_outbox::sqlite::SCHEMA, indexes: &[] },
    migration!("sqlite", "0009_once"),
];
