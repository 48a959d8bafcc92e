-- What dashboards ask for is kept summed up in each part, by hour and by day. A question is answered
-- from it if all that it names is in one of these; others are answered from the events.
-- What a merge writes, it sums up anew, so that a row that is replaced is not counted. Granules are
-- small where a few consumers are looked up; smaller ones would look more than those of the events.
ALTER TABLE events
    -- By anything that an API consists of.
    ADD PROJECTION IF NOT EXISTS surface
    (
        SELECT
            application, direction, hour, service, route, method, status_code, is_error,
            sum(weight), max(weight), sumIf(weight, is_error),
            sumOrNull(toInt128(response_us) * weight), sumIf(weight, isNotNull(response_us)),
            minOrNull(response_us), maxOrNull(response_us)
        GROUP BY application, direction, hour, service, route, method, status_code, is_error
    ),
    ADD PROJECTION IF NOT EXISTS surface_days
    (
        SELECT
            application, direction, toDate(hour), service, route, method, status_code, is_error,
            sum(weight), max(weight), sumIf(weight, is_error),
            sumOrNull(toInt128(response_us) * weight), sumIf(weight, isNotNull(response_us)),
            minOrNull(response_us), maxOrNull(response_us)
        GROUP BY application, direction, toDate(hour), service, route, method, status_code, is_error
    ),
    -- The hours of a few consumers; who the largest ones are is known from days.
    ADD PROJECTION IF NOT EXISTS consumers
    (
        SELECT
            application, direction, consumer_id, hour,
            sum(weight), max(weight), sumIf(weight, is_error)
        GROUP BY application, direction, consumer_id, hour
    ) WITH SETTINGS (index_granularity = 512),
    ADD PROJECTION IF NOT EXISTS consumer_days
    (
        SELECT
            application, direction, toDate(hour), consumer_id,
            sum(weight), max(weight), sumIf(weight, is_error)
        GROUP BY application, direction, toDate(hour), consumer_id
    ),
    -- The routes and services of a few consumers; the largest consumers of a route or service.
    ADD PROJECTION IF NOT EXISTS consumer_routes
    (
        SELECT
            application, direction, consumer_id, service, route, hour,
            sum(weight), max(weight), sumIf(weight, is_error)
        GROUP BY application, direction, consumer_id, service, route, hour
    ) WITH SETTINGS (index_granularity = 2048),
    ADD PROJECTION IF NOT EXISTS route_consumer_days
    (
        SELECT
            application, direction, service, route, toDate(hour), consumer_id,
            sum(weight), max(weight), sumIf(weight, is_error)
        GROUP BY application, direction, service, route, toDate(hour), consumer_id
    ) WITH SETTINGS (index_granularity = 2048),
    -- Anything else of a consumer, percentiles above all: the events, in another order.
    ADD PROJECTION IF NOT EXISTS consumer_events
    (
        SELECT
            application, direction, consumer_id, hour, service, route, method, status_code, is_error,
            is_stream, response_us, weight
        ORDER BY (application, direction, consumer_id, hour)
    ) WITH SETTINGS (index_granularity = 4096),
    -- How often response times fall into each bin, of which percentiles are taken.
    ADD PROJECTION IF NOT EXISTS bins
    (
        SELECT
            application, direction, hour, route, is_stream,
            if(response_us = 0, 0, toInt32(sign(response_us)) * (toInt32(ceil(log(greatest(toFloat64(ifNull(abs(response_us), 1)), 5e-324)) / 0.01980262729617973)) + 40000)),
            sum(weight), max(weight), min(response_us), max(response_us)
        GROUP BY
            application, direction, hour, route, is_stream,
            if(response_us = 0, 0, toInt32(sign(response_us)) * (toInt32(ceil(log(greatest(toFloat64(ifNull(abs(response_us), 1)), 5e-324)) / 0.01980262729617973)) + 40000))
    ),
    ADD PROJECTION IF NOT EXISTS bin_days
    (
        SELECT
            application, direction, toDate(hour), route, is_stream,
            if(response_us = 0, 0, toInt32(sign(response_us)) * (toInt32(ceil(log(greatest(toFloat64(ifNull(abs(response_us), 1)), 5e-324)) / 0.01980262729617973)) + 40000)),
            sum(weight), max(weight), min(response_us), max(response_us)
        GROUP BY
            application, direction, toDate(hour), route, is_stream,
            if(response_us = 0, 0, toInt32(sign(response_us)) * (toInt32(ceil(log(greatest(toFloat64(ifNull(abs(response_us), 1)), 5e-324)) / 0.01980262729617973)) + 40000))
    );

-- Of what is there already, in the background. Parts with and without cannot become one.
ALTER TABLE events
    MATERIALIZE PROJECTION surface,
    MATERIALIZE PROJECTION surface_days,
    MATERIALIZE PROJECTION consumers,
    MATERIALIZE PROJECTION consumer_days,
    MATERIALIZE PROJECTION consumer_routes,
    MATERIALIZE PROJECTION route_consumer_days,
    MATERIALIZE PROJECTION consumer_events,
    MATERIALIZE PROJECTION bins,
    MATERIALIZE PROJECTION bin_days;
