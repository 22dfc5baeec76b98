-- Answers to requests that carried an Idempotency-Key, as on PostgreSQL.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    owner text NOT NULL,
    key text NOT NULL,
    request_hash text NOT NULL,
    begun_at text NOT NULL,
    answer text,
    PRIMARY KEY (owner, key)
);
CREATE INDEX IF NOT EXISTS ix_idempotency_keys_begun_at ON idempotency_keys (begun_at);
