-- Applications and keys have names, and keys an end, a binding and limits. The row that was written
-- last holds. Applications from before were made by the service itself, for whoever runs it.
ALTER TABLE applications
    ADD COLUMN IF NOT EXISTS name String,
    ADD COLUMN IF NOT EXISTS note String,
    ADD COLUMN IF NOT EXISTS is_operators Bool DEFAULT true,
    ADD COLUMN IF NOT EXISTS removed_at Nullable(DateTime64(6, 'UTC')),
    ADD COLUMN IF NOT EXISTS changed_at DateTime64(6, 'UTC') DEFAULT created_at;

ALTER TABLE keys
    ADD COLUMN IF NOT EXISTS name String,
    ADD COLUMN IF NOT EXISTS note String,
    ADD COLUMN IF NOT EXISTS expires_at Nullable(DateTime64(6, 'UTC')),
    ADD COLUMN IF NOT EXISTS bound_field LowCardinality(String),
    ADD COLUMN IF NOT EXISTS bound_value String,
    ADD COLUMN IF NOT EXISTS requests_per_minute Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS rows_per_minute Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS changed_at DateTime64(6, 'UTC') DEFAULT created_at;

-- A table of its own: whatever two receivers write of a key at once, it stays revoked.
CREATE TABLE revoked_keys
(
    application String,
    key_id String,
    revoked_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (application, key_id)
SETTINGS
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;

CREATE TABLE key_uses
(
    application String,
    key_id String,
    used_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(used_at)
ORDER BY (application, key_id)
SETTINGS
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
