-- As on PostgreSQL.
ALTER TABLE idempotency_keys ADD COLUMN seed blob;
ALTER TABLE idempotency_keys ADD COLUMN asked_at text;
