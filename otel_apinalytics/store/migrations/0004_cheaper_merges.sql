-- A merge of a column with a dictionary looks every row up again; most dimensions are not worth it.
-- A part with a file for each column is slow to create, so that only large ones are written so.
ALTER TABLE events
    MODIFY COLUMN consumer_source String,
    MODIFY COLUMN organization_id String,
    MODIFY COLUMN plan_id String,
    MODIFY COLUMN direction String,
    MODIFY COLUMN service_version String,
    MODIFY COLUMN environment String,
    MODIFY COLUMN region String,
    MODIFY COLUMN route_source String,
    MODIFY COLUMN api_version String,
    MODIFY COLUMN error_type String,
    MODIFY COLUMN rpc_status String,
    MODIFY COLUMN cache_status String,
    MODIFY COLUMN client_name String,
    MODIFY COLUMN client_version String,
    MODIFY COLUMN protocol_version String,
    MODIFY COLUMN sdk_language String,
    MODIFY COLUMN synthetic String,
    MODIFY COLUMN experiment String,
    MODIFY COLUMN variant String,
    MODIFY COLUMN job_type String;

ALTER TABLE events MODIFY SETTING min_bytes_for_wide_part = 268435456;
