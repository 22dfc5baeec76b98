-- From what the ids follow that a request with an Idempotency-Key makes, and when it was first made: whoever goes on with it after a
-- crash makes nothing twice. The previous release does not see these columns.
ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS seed uuid;
ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS asked_at timestamptz;
