-- The same tables as on PostgreSQL. Enumerations are checked texts, uuids are blobs, times are texts in UTC.

CREATE TABLE IF NOT EXISTS users (
    id blob PRIMARY KEY,
    email text NOT NULL UNIQUE,
    plan text NOT NULL DEFAULT 'free' CHECK (plan IN ('free', 'pro')),
    push_token text,
    google_refresh_token text,
    stripe_customer_id text,
    stripe_subscription_id text,
    current_persona_key text,
    created_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS reminders (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    text text NOT NULL,
    run_ts text NOT NULL,
    original_phrase text,
    local_ts text NOT NULL,
    utc_ts text NOT NULL,
    correlation_id text NOT NULL,
    status text NOT NULL DEFAULT 'scheduled' CHECK (status IN ('scheduled', 'sent', 'canceled', 'error')),
    last_attempt_at text,
    sent_at text,
    calendar_event_id text,
    created_at text,
    claimed_until text,
    delivery_token blob,
    delivery_until text,
    delivery_attempts integer NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS api_keys (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    prefix text NOT NULL UNIQUE,
    key_hash text NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'revoked')),
    created_at text NOT NULL,
    updated_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS failed_jobs (
    id blob PRIMARY KEY,
    job_name text NOT NULL,
    payload text NOT NULL DEFAULT '{}',
    error_message text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    last_error_at text NOT NULL,
    created_at text NOT NULL,
    updated_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS personas (
    id blob PRIMARY KEY,
    key text NOT NULL UNIQUE,
    name text NOT NULL,
    system_prompt text NOT NULL
);

CREATE TABLE IF NOT EXISTS sessions (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    transcript text NOT NULL DEFAULT '[]',
    tokens_used integer NOT NULL DEFAULT 0,
    created_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS memories (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    type text NOT NULL CHECK (type IN ('note', 'goal', 'habit', 'preference', 'contact')),
    text text NOT NULL,
    source text,
    created_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS tasks (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    title text NOT NULL,
    due_ts text,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done')),
    linked_calendar_event_id text
);

CREATE TABLE IF NOT EXISTS habits (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name text NOT NULL,
    cadence text NOT NULL DEFAULT '{}',
    streak integer NOT NULL DEFAULT 0,
    last_check_ts text
);

CREATE TABLE IF NOT EXISTS feature_flags (
    key text PRIMARY KEY,
    enabled boolean NOT NULL DEFAULT false,
    description text,
    updated_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS metrics_events (
    id blob PRIMARY KEY,
    user_id blob NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    event_name text NOT NULL,
    properties text NOT NULL DEFAULT '{}',
    created_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS metrics_daily (
    id blob PRIMARY KEY,
    metrics_date text NOT NULL UNIQUE,
    cohort_size integer NOT NULL DEFAULT 0,
    retained_day1 integer NOT NULL DEFAULT 0,
    retained_day7 integer NOT NULL DEFAULT 0,
    active_users integer NOT NULL DEFAULT 0,
    retention_rate_day1 real,
    retention_rate_day7 real,
    created_at text NOT NULL,
    updated_at text NOT NULL
);

CREATE TABLE IF NOT EXISTS reminder_deliveries (
    reminder_id blob NOT NULL REFERENCES reminders (id) ON DELETE CASCADE,
    channel text NOT NULL,
    status text NOT NULL,
    started_at text NOT NULL,
    finished_at text,
    PRIMARY KEY (reminder_id, channel)
);

CREATE INDEX IF NOT EXISTS ix_reminders_scheduled_utc_ts ON reminders (utc_ts) WHERE status = 'scheduled';
CREATE INDEX IF NOT EXISTS ix_reminders_owner ON reminders (user_id, created_at);
CREATE INDEX IF NOT EXISTS ix_metrics_events_day ON metrics_events (created_at, user_id);
CREATE INDEX IF NOT EXISTS ix_sessions_owner ON sessions (user_id, created_at);
