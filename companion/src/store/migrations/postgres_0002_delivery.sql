-- What a delivery that is never repeated needs. The previous release does not see these columns.
ALTER TABLE reminders ADD COLUMN IF NOT EXISTS created_at timestamptz;
ALTER TABLE reminders ALTER COLUMN created_at SET DEFAULT now();
ALTER TABLE reminders ADD COLUMN IF NOT EXISTS claimed_until timestamptz;
ALTER TABLE reminders ADD COLUMN IF NOT EXISTS delivery_token uuid;
ALTER TABLE reminders ADD COLUMN IF NOT EXISTS delivery_until timestamptz;
ALTER TABLE reminders ADD COLUMN IF NOT EXISTS delivery_attempts integer NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS reminder_deliveries (
    reminder_id uuid NOT NULL REFERENCES reminders (id) ON DELETE CASCADE,
    channel varchar(32) NOT NULL,
    status varchar(16) NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (reminder_id, channel)
);
