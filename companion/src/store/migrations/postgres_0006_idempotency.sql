-- Answers to requests that carried an Idempotency-Key, for a day: whoever repeats the request gets the same answer.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    owner varchar(64) NOT NULL,
    key varchar(255) NOT NULL,
    request_hash varchar(64) NOT NULL,
    begun_at timestamptz NOT NULL,
    answer text,
    PRIMARY KEY (owner, key)
);
CREATE INDEX IF NOT EXISTS ix_idempotency_keys_begun_at ON idempotency_keys (begun_at);
