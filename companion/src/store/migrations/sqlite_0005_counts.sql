-- What becomes of reminders is counted by triggers, as on PostgreSQL.
CREATE TABLE IF NOT EXISTS reminder_events (
    id integer PRIMARY KEY,
    event text NOT NULL,
    latency_seconds real
);

CREATE TABLE IF NOT EXISTS counters (
    name text PRIMARY KEY,
    value real NOT NULL
);

CREATE TRIGGER IF NOT EXISTS count_made_reminder AFTER INSERT ON reminders WHEN NEW.status = 'scheduled'
BEGIN
    INSERT INTO reminder_events (event) VALUES ('scheduled');
END;

CREATE TRIGGER IF NOT EXISTS count_ended_reminder AFTER UPDATE OF status ON reminders
WHEN NEW.status <> OLD.status AND NEW.status <> 'scheduled'
BEGIN
    INSERT INTO reminder_events (event, latency_seconds)
    VALUES (NEW.status,
            CASE WHEN NEW.status = 'sent'
                THEN max(0, (julianday(NEW.sent_at) - julianday(NEW.utc_ts)) * 86400.0) END);
END;
