-- What becomes of reminders is counted by triggers, together with the change itself: nothing is counted twice or not at all,
-- whatever is away meanwhile, and whichever release makes the change.
CREATE TABLE IF NOT EXISTS reminder_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event varchar(16) NOT NULL,
    latency_seconds double precision
);

-- The sums of the events that were summed up and removed.
CREATE TABLE IF NOT EXISTS counters (
    name varchar(64) PRIMARY KEY,
    value double precision NOT NULL
);

CREATE OR REPLACE FUNCTION count_reminder() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO reminder_events (event, latency_seconds)
    VALUES (NEW.status::text,
            CASE WHEN NEW.status = 'sent' THEN greatest(0, extract(epoch FROM NEW.sent_at - NEW.utc_ts)) END);
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS count_made_reminder ON reminders;
CREATE TRIGGER count_made_reminder AFTER INSERT ON reminders
    FOR EACH ROW WHEN (NEW.status = 'scheduled') EXECUTE FUNCTION count_reminder();

DROP TRIGGER IF EXISTS count_ended_reminder ON reminders;
CREATE TRIGGER count_ended_reminder AFTER UPDATE OF status ON reminders
    FOR EACH ROW WHEN (NEW.status <> OLD.status AND NEW.status <> 'scheduled') EXECUTE FUNCTION count_reminder();
