-- What tells sendings that may have been delivered, and jobs that somebody has seen to.
ALTER TABLE reminder_deliveries ADD COLUMN uncertain_at text;
ALTER TABLE failed_jobs ADD COLUMN resolved_at text;
ALTER TABLE failed_jobs ADD COLUMN resolution text;
CREATE INDEX ix_reminder_deliveries_uncertain ON reminder_deliveries (started_at) WHERE uncertain_at IS NOT NULL;
CREATE INDEX ix_failed_jobs_open ON failed_jobs (payload ->> 'reminder_id') WHERE resolved_at IS NULL;
