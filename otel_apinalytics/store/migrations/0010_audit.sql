-- Who asked through a key, and who changed what. An entry is told by the record of the log that it came
-- in, and its place there, so that a second load changes nothing.
CREATE TABLE audit
(
    at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    application LowCardinality(String),
    key_id LowCardinality(String),
    key_name LowCardinality(String),
    action LowCardinality(String),
    method LowCardinality(String),
    route LowCardinality(String),
    parameters Array(Tuple(name String, value String)) CODEC(ZSTD(1)),
    status UInt16,
    rows Nullable(UInt64) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(ZSTD(1)),
    client_address String CODEC(ZSTD(1)),
    record_id FixedString(16) CODEC(ZSTD(1)),
    number UInt32 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (application, at, record_id, number)
SETTINGS
    non_replicated_deduplication_window = 10000,
    min_age_to_force_merge_seconds = 60,
    min_age_to_force_merge_on_partition_only = 1,
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;

-- Limits of single applications that were set while the service ran; null is as the settings say.
CREATE TABLE retention_limits
(
    application String,
    events_days Nullable(UInt32),
    rejected_days Nullable(UInt32),
    rejected_rows Nullable(UInt64),
    ledger_days Nullable(UInt32),
    audit_days Nullable(UInt32),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY application
SETTINGS
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
