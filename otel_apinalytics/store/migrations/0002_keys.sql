-- Applications and their keys. A key is random and 256 bits long, so that a plain SHA-256 of it
-- cannot be reversed; the key itself is stored nowhere.
CREATE TABLE applications
(
    application String,
    created_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY application;

CREATE TABLE keys
(
    application String,
    key_id String,
    scope LowCardinality(String),
    key_sha256 FixedString(32),
    created_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (application, key_id);
