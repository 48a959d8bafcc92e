# SPDX-License-Identifier: Apache-2.0
"""Builds realistic events straight in the engine: a data directory's store of millions of rows.

    python -m benchmarks.dataset DIRECTORY [--events 10000000] [--days 90]

Consumers and routes are skewed as those of real APIs are (a few make most calls), a route has its
service, method, speed and errors, a consumer its plan, organization and client; calls follow the
hours of the day and the week, and now and then a service fails for an hour. All of it follows from
numbers: two runs with the same arguments make the same events but for their days.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.schema import migrate

APPLICATION = "shop"
CONSUMERS = 5_000
ROUTES = 150
SERVICES = 6
# Of one statement, and of a part: those of a day have been merged when it is over.
_ROWS = 1_500_000
_DAY_S = 86_400
# What an hour of the day has of the calls; the night a tenth of noon.
_HOURS = [round(0.55 - 0.45 * math.cos((hour - 3) / 24 * 2 * math.pi), 3) for hour in range(24)]
_WEEKEND = 0.5


def _uniform(salt: int) -> str:
    """Return a number in (0, 1] that follows from the row's, in SQL."""
    return f"((cityHash64(n, {salt}) / 18446744073709551616.) + 1e-12)"


def _skewed(count: int, salt: int) -> str:
    """Return a number below `count`, those of which the first are the most frequent, in SQL."""
    return f"toUInt32(least(floor(pow({count}, {_uniform(salt)})), {count}) - 1)"


def _one_of(texts: tuple[str, ...], number: str) -> str:
    return f"[{', '.join(map(repr, texts))}][{number} % {len(texts)} + 1]"


# Neither names nor numbers of the largest ones are next to each other.
_CONSUMER_NAME = f"(consumer * 2741 + 1303) % {CONSUMERS}"
_ROUTE_NAME = f"(route_number * 67 + 41) % {ROUTES}"
LARGEST_CONSUMER = "customer-01303"
LARGEST_ROUTE = "/v1/resource-41/{id}"
# What other columns are made of; each may use those before it.
_DRAWN = {
    "consumer": _skewed(CONSUMERS, 1),
    "route_number": _skewed(ROUTES, 2),
    "normal": f"sqrt(-2 * log({_uniform(3)})) * cos(2 * pi() * {_uniform(4)})",
    "luck": _uniform(5),
    "consumer_name": _CONSUMER_NAME,
    "route_name": _ROUTE_NAME,
    "service_number": f"cityHash64(route_number) % {SERVICES}",
    "is_incident": "cityHash64(toStartOfHour(at), service_number) % 400 = 0",
    "status": (
        "multiIf(is_incident AND luck < 0.4, 503, luck < 0.004, 500, luck < 0.006, 502, "
        "luck < 0.03 AND consumer % 7 = 0, 429, luck < 0.045, 404, luck < 0.06, 400, "
        "luck < 0.07 AND consumer % 5 = 0, 401, route_number % 5 = 1, 201, route_number % 11 = 3, "
        "204, 200)"
    ),
    "speed": "exp(8 + cityHash64(route_number, 7) % 40 / 10 + normal * 0.6)",
    "item": "cityHash64(n, 8) % 100000",
}
_COLUMNS = {
    "timestamp": "at",
    "consumer_id": "concat('customer-', leftPad(toString(consumer_name), 5, '0'))",
    "consumer_source": "'attribute'",
    "organization_id": "concat('org-', toString(intDiv(consumer, 10)))",
    "plan_id": _one_of(("free", "free", "team", "business"), "consumer"),
    "client_id": "concat('client-', toString(consumer % 900))",
    "direction": "if(cityHash64(n, 9) % 20 = 0, 'outbound', 'inbound')",
    "service": "concat('service-', toString(service_number))",
    "service_version": "concat('1.', toString(cityHash64(toDate(at), service_number) % 9))",
    "environment": "'production'",
    "region": _one_of(("eu-west-1", "eu-west-1", "us-east-1"), "consumer"),
    "host": "concat('api-', toString(cityHash64(n, 10) % 8), '.example.com')",
    "method": _one_of(("GET", "POST", "GET", "PUT", "GET", "DELETE", "GET"), "route_number"),
    "url": "concat('/v1/resource-', toString(route_name), '/', toString(item))",
    "route": "concat('/v1/resource-', toString(route_name), '/{id}')",
    "route_source": "'attribute'",
    "function": "concat('resource_', toString(route_name))",
    "status_code": "status",
    "is_error": "status >= 500",
    "error_type": "if(status >= 500, toString(status), '')",
    "response_us": "toInt64(speed * if(status >= 500, 3, 1)) + 200",
    "request_bytes": "if(route_number % 5 = 1, toInt64(exp(6 + normal)), NULL)",
    "response_bytes": "toInt64(exp(7 + abs(normal) * 1.5))",
    "weight": "1000",
    "user_agent": "concat('client/', toString(consumer % 30), ' python/3.12')",
    "client_name": "concat('client-', toString(consumer % 12))",
    "client_version": "toString(consumer % 30)",
    "protocol_version": "'1.1'",
    "sdk_language": "'python'",
    "attributes": "map('tier', toString(consumer % 3))",
    "application": f"'{APPLICATION}'",
    "event_id": "cityHash64(n, 11)",
    "trace_id": "reinterpretAsFixedString(sipHash128(n, 12))",
    "span_id": "reinterpretAsFixedString(sipHash64(n, 13))",
    "received_at": "at + toIntervalMicrosecond(speed + cityHash64(n, 14) % 5000000)",
    "locality": "toUInt32(cityHash64(route_number, 15))",
    "version": "toUnixTimestamp64Micro(toDateTime64(at, 6, 'UTC'))",
}


def build(engine: Engine, events: int, days: int, last: datetime) -> Iterator[int]:
    """Insert events of so many days before a midnight, and yield how many there are so far.

    Args:
        engine: A store with this program's schema.
        events: How many in all, about.
        days: Over how many days.
        last: The midnight at which they end.
    """
    dates = [last - timedelta(days=days - day) for day in range(days)]
    shares = [_WEEKEND if date.weekday() >= 5 else 1.0 for date in dates]
    first = 0
    for date, share in zip(dates, shares, strict=True):
        end = first + round(events * share / sum(shares))
        for begin in range(first, end, _ROWS):
            engine.command(_insert(date, begin, min(begin + _ROWS, end)))
        first = end
        yield end


def _insert(date: datetime, begin: int, end: int) -> str:
    total = sum(_HOURS)
    sums = [round(sum(_HOURS[: hour + 1]) / total, 6) for hour in range(24)]
    hour = f"arrayFirstIndex(sum -> sum >= least({_uniform(20)}, {sums[-1]}), {sums}) - 1"
    at = (
        f"toDateTime64({int(date.timestamp())} + hour * 3600, 6, 'UTC') "
        f"+ toIntervalMicrosecond(cityHash64(n, 21) % 3600000000)"
    )
    drawn = ", ".join(f"{sql} AS {name}" for name, sql in _DRAWN.items())
    return (
        f"INSERT INTO events ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS.values())} "
        f"FROM (SELECT *, {drawn} FROM (SELECT number AS n, {hour} AS hour, {at} AS at "
        f"FROM numbers({begin}, {end - begin}))) "
        f"SETTINGS min_insert_block_size_rows = {_ROWS}, min_insert_block_size_bytes = 0"
    )


def main() -> None:
    """Build the store that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="a data directory, to be served afterwards")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    arguments = parser.parse_args()
    store = arguments.directory.absolute() / "db"
    store.parent.mkdir(parents=True, exist_ok=True)
    engine = Engine(f"chdb://{store}")
    migrate(engine)
    now = datetime.now(timezone.utc)
    begun = time.monotonic()
    for done in build(
        engine,
        arguments.events,
        arguments.days,
        now.replace(hour=0, minute=0, second=0, microsecond=0),
    ):
        print(f"{done:,} events, {time.monotonic() - begun:,.0f} s", flush=True)
    engine.close()


if __name__ == "__main__":
    main()
