CREATE MATERIALIZED VIEW ledger_view TO ledger_records AS
SELECT
    toStartOfMinute(received_at) AS minute, application, key_id, transport, record_id, 'store' AS source,
    arraySort(groupArray((outcome, reason, items))) AS outcomes, max(newest) AS version
FROM
(
    SELECT
        received_at, application, key_id, transport, record_id, outcome, reason,
        count() AS items, max(version) AS newest
    FROM normalized
    GROUP BY received_at, application, key_id, transport, record_id, outcome, reason
)
GROUP BY minute, application, key_id, transport, record_id;

-- As it is read: a row for each outcome of a record.
CREATE VIEW ledger AS
SELECT
    minute, application, key_id, transport, record_id,
    tupleElement(item, 'outcome') AS outcome, tupleElement(item, 'reason') AS reason,
    tupleElement(item, 'items') AS items
FROM ledger_records FINAL ARRAY JOIN outcomes AS item;

-- A few of a kind show what is wrong with a record; the ledger counts them all.
CREATE MATERIALIZED VIEW rejected_view TO rejected AS
SELECT * EXCEPT (outcome) FROM normalized WHERE outcome = 'rejected'
LIMIT 10 BY record_id, reason;

-- The engine syncs nothing by itself. What a merge read must stay until what it wrote is durable,
-- and what a power cut left incomplete must not keep the engine from starting.
ALTER TABLE events MODIFY SETTING
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000,
    deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE rejected MODIFY SETTING
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
ALTER TABLE ledger_records MODIFY SETTING
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
ALTER TABLE applications MODIFY SETTING
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
ALTER TABLE keys MODIFY SETTING
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
ALTER TABLE schema_version MODIFY SETTING
    old_parts_lifetime = 120,
    max_suspicious_broken_parts = 1000000,
    max_suspicious_broken_parts_bytes = 1000000000000000;
