-- The ledger has a row for each record and source: what the door counted, and all that became of it
-- in the store. A record that is loaded again under other rules replaces its whole account; with a
-- row for each outcome, those that it does not have any more would stay.
DROP VIEW IF EXISTS ledger_view;
DROP VIEW IF EXISTS rejected_view;

CREATE TABLE ledger_records
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    application LowCardinality(String),
    key_id LowCardinality(String),
    transport LowCardinality(String),
    record_id FixedString(16) CODEC(ZSTD(1)),
    source LowCardinality(String),
    outcomes Array(Tuple(outcome String, reason String, items UInt64)) CODEC(ZSTD(1)),
    version UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(minute)
ORDER BY (application, minute, record_id, source)
SETTINGS
    non_replicated_deduplication_window = 10000,
    min_age_to_force_merge_seconds = 60,
    min_age_to_force_merge_on_partition_only = 1;

-- As it was, for a migration that is run again after it dropped it.
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
ORDER BY (application, minute, record_id, outcome, reason);

INSERT INTO ledger_records
SELECT
    minute, application, any(key_id), any(transport), record_id,
    if(outcome = 'received', 'door', 'store') AS source,
    arraySort(groupArray((toString(outcome), toString(reason), spans))), 0
FROM ledger FINAL
GROUP BY minute, application, record_id, source;

DROP TABLE ledger;
