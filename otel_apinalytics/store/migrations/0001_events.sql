-- Where normalized rows arrive. It stores nothing: the views below pass each row on by its outcome.
CREATE TABLE normalized
(
    key_id String,
    transport String,
    record_id FixedString(16),
    timestamp DateTime64(6, 'UTC'),
    consumer_id String,
    consumer_source String,
    method String,
    url String,
    function String,
    route String,
    response_us Nullable(Int64),
    status_code Nullable(UInt16),
    is_error Bool,
    direction String,
    service String,
    host String,
    application String,
    event_id UInt64,
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_span_id FixedString(8),
    received_at DateTime64(6, 'UTC'),
    locality UInt32,
    outcome String,
    reason String,
    version UInt64
)
ENGINE = Null;

-- The key holds only what no rule, mapping, clock or retry can change, so that the same span,
-- stored again, is the same row. `version` picks the row that stays: newer rules, then later arrival.
CREATE TABLE events
(
    timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    consumer_id String CODEC(ZSTD(1)),
    consumer_source LowCardinality(String),
    method LowCardinality(String),
    url String CODEC(ZSTD(1)),
    function LowCardinality(String),
    route LowCardinality(String),
    response_us Nullable(Int64) CODEC(ZSTD(1)),
    status_code Nullable(UInt16) CODEC(ZSTD(1)),
    is_error Bool,
    direction LowCardinality(String),
    service LowCardinality(String),
    host LowCardinality(String),
    application LowCardinality(String),
    event_id UInt64 CODEC(NONE),
    trace_id FixedString(16) CODEC(NONE),
    span_id FixedString(8) CODEC(NONE),
    parent_span_id FixedString(8) CODEC(ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    locality UInt32,
    version UInt64 CODEC(Delta, ZSTD(1)),
    hour DateTime('UTC') MATERIALIZED toStartOfHour(timestamp) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (application, hour, locality, event_id)
SETTINGS
    non_replicated_deduplication_window = 10000,
    -- Ten parts and more at once, so that a row is written again less often.
    merge_selector_base = 10,
    min_age_to_force_merge_seconds = 60,
    min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE rejected
(
    key_id LowCardinality(String),
    transport LowCardinality(String),
    record_id FixedString(16) CODEC(NONE),
    reason LowCardinality(String),
    timestamp DateTime64(6, 'UTC'),
    consumer_id String,
    consumer_source LowCardinality(String),
    method LowCardinality(String),
    url String,
    function LowCardinality(String),
    route LowCardinality(String),
    response_us Nullable(Int64),
    status_code Nullable(UInt16),
    is_error Bool,
    direction LowCardinality(String),
    service LowCardinality(String),
    host LowCardinality(String),
    application LowCardinality(String),
    event_id UInt64,
    trace_id FixedString(16),
    span_id FixedString(8),
    parent_span_id FixedString(8),
    received_at DateTime64(6, 'UTC'),
    locality UInt32,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(received_at)
ORDER BY (application, received_at, record_id, reason, timestamp, locality, event_id)
SETTINGS non_replicated_deduplication_window = 10000;

-- One row per record, outcome and reason. `received` is the door's count, the others are the
-- engine's: two sources, so that the equation can fail.
CREATE TABLE ledger
(
    minute DateTime('UTC'),
    application LowCardinality(String),
    key_id LowCardinality(String),
    transport LowCardinality(String),
    record_id FixedString(16) CODEC(NONE),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    spans UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(minute)
ORDER BY (application, minute, record_id, outcome, reason)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW events_view TO events AS
SELECT * EXCEPT (key_id, transport, record_id, outcome, reason) FROM normalized WHERE outcome = 'stored';

CREATE MATERIALIZED VIEW rejected_view TO rejected AS
SELECT * EXCEPT (outcome) FROM normalized WHERE outcome = 'rejected';

CREATE MATERIALIZED VIEW ledger_view TO ledger AS
SELECT
    toStartOfMinute(received_at) AS minute, application, key_id, transport, record_id, outcome, reason,
    count() AS spans
FROM normalized
GROUP BY ALL;
