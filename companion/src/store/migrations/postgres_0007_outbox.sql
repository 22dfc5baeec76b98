-- What tells sendings that may have been delivered, and jobs that somebody has seen to.
-- The previous release does not see these columns.
ALTER TABLE reminder_deliveries ADD COLUMN IF NOT EXISTS uncertain_at timestamptz;
ALTER TABLE failed_jobs ADD COLUMN IF NOT EXISTS resolved_at timestamptz;
ALTER TABLE failed_jobs ADD COLUMN IF NOT EXISTS resolution varchar(32);
