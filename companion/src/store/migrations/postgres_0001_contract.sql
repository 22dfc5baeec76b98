-- The schema that the Python service left, made where it is not there yet. Additions only.
DO $$ BEGIN CREATE TYPE plan_enum AS ENUM ('free', 'pro'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE reminder_status_enum AS ENUM ('scheduled', 'sent', 'canceled', 'error'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE api_key_status_enum AS ENUM ('active', 'revoked'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE memory_type_enum AS ENUM ('note', 'goal', 'habit', 'preference', 'contact'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE task_status_enum AS ENUM ('pending', 'done'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(320) NOT NULL UNIQUE,
    plan plan_enum NOT NULL DEFAULT 'free',
    push_token varchar(255),
    google_refresh_token text,
    stripe_customer_id varchar(255),
    stripe_subscription_id varchar(255),
    current_persona_key varchar(64),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS reminders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    text text NOT NULL,
    run_ts timestamptz NOT NULL,
    original_phrase text,
    local_ts timestamptz NOT NULL,
    utc_ts timestamptz NOT NULL,
    correlation_id varchar(64) NOT NULL,
    status reminder_status_enum NOT NULL DEFAULT 'scheduled',
    last_attempt_at timestamptz,
    sent_at timestamptz,
    calendar_event_id varchar(255)
);

CREATE TABLE IF NOT EXISTS api_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    prefix varchar(16) NOT NULL UNIQUE,
    key_hash varchar(128) NOT NULL,
    status api_key_status_enum NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS failed_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_name varchar(255) NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    error_message text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    last_error_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS personas (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key varchar(64) NOT NULL UNIQUE,
    name varchar(255) NOT NULL,
    system_prompt text NOT NULL
);

CREATE TABLE IF NOT EXISTS sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    transcript jsonb NOT NULL DEFAULT '[]',
    tokens_used integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS memories (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    type memory_type_enum NOT NULL,
    text text NOT NULL,
    source varchar(255),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS tasks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    title text NOT NULL,
    due_ts timestamptz,
    status task_status_enum NOT NULL DEFAULT 'pending',
    linked_calendar_event_id varchar(255)
);

CREATE TABLE IF NOT EXISTS habits (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name varchar(255) NOT NULL,
    cadence jsonb NOT NULL DEFAULT '{}',
    streak integer NOT NULL DEFAULT 0,
    last_check_ts timestamptz
);

CREATE TABLE IF NOT EXISTS feature_flags (
    key varchar(64) PRIMARY KEY,
    enabled boolean NOT NULL DEFAULT false,
    description text,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS metrics_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    event_name varchar(128) NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS metrics_daily (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    metrics_date date NOT NULL UNIQUE,
    cohort_size integer NOT NULL DEFAULT 0,
    retained_day1 integer NOT NULL DEFAULT 0,
    retained_day7 integer NOT NULL DEFAULT 0,
    active_users integer NOT NULL DEFAULT 0,
    retention_rate_day1 double precision,
    retention_rate_day7 double precision,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
