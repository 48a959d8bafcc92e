-- How the requests of a few consumers ended: of one with millions, a small part is read.
ALTER TABLE events
    ADD PROJECTION IF NOT EXISTS consumer_statuses
    (
        SELECT
            application, direction, consumer_id, method, status_code, is_error, hour,
            sum(weight), max(weight), sumIf(weight, is_error)
        GROUP BY application, direction, consumer_id, method, status_code, is_error, hour
    ) WITH SETTINGS (index_granularity = 512);

-- In the background, as before.
ALTER TABLE events MATERIALIZE PROJECTION consumer_statuses;
