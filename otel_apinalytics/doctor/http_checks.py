# SPDX-License-Identifier: Apache-2.0
"""Checks by HTTP that need no key: is it there, which version, is it ready, its clock, its disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from prometheus_client.parser import text_string_to_metric_families

from otel_apinalytics import __version__
from otel_apinalytics.client import Answer, Client
from otel_apinalytics.doctor.checks import Check, Target, failed, ok, skipped
from otel_apinalytics.doctor.grpc_checks import speaks_grpc
from otel_apinalytics.errors import ClientError

# Beyond, what happens at the same time is minutes apart in a chart.
_MAX_SKEW_S = 30.0
_GIGABYTE = 1e9
_FREE = "apinalytics_disk_free_bytes"
_MIN_FREE = "apinalytics_disk_min_free_bytes"
_LIVE = "/health/live"


def is_there(target: Target, client: Client) -> Check:
    """Say whether the service answers by HTTP."""
    name = "http"
    try:
        answer = client.exchange("GET", _LIVE)
    except ClientError as error:
        if speaks_grpc(target, target.url.partition("://")[2]):
            return failed(
                name,
                f"{target.url} is the gRPC port",
                "give the port of HTTP, which is 4318 by default: --server",
            )
        return failed(
            name,
            str(error),
            "start `apinalytics serve`, or name the right place: --server; a firewall or a proxy "
            "may be in between",
        )
    if answer.status == 200 and _field(answer, "status") == "live":
        return ok(name, f"{target.url} answers")
    return failed(
        name,
        f"{target.url} answers with {answer.status}, and is no apinalytics service",
        "give the port of HTTP, which is 4318 by default: --server",
    )


def version_of(client: Client) -> str:
    """Return the version of a service that is there; empty if it does not say."""
    return _field(client.exchange("GET", _LIVE), "version")


def same_version(version: str) -> Check:
    """Say whether the service is of this program's version."""
    name = "version"
    if not version:
        return skipped(name, f"the service does not say its version; this is {__version__}")
    if _compatible(version) == _compatible(__version__):
        return ok(name, f"the service is {version}, this program {__version__}")
    return failed(
        name,
        f"the service is {version}, this program {__version__}",
        f"install the same: pip install 'otel-apinalytics[server]=={version}'",
    )


def _compatible(version: str) -> list[str]:
    """Return what two versions have in common that understand each other (Semantic Versioning)."""
    parts = version.split(".")
    return parts[: 2 if parts[0] == "0" else 1]


def is_ready(client: Client) -> Check:
    """Say whether the service takes data now."""
    name = "ready"
    answer = client.exchange("GET", "/health/ready")
    if answer.status == 200:
        return ok(name, "data is taken")
    content = answer.json()
    reasons = content.get("reasons", []) if isinstance(content, dict) else []
    said = ", ".join(map(str, reasons)) or f"it answers with {answer.status}"
    return failed(name, f"no data is taken now: {said}", "look at the log of the service")


def same_time(client: Client) -> Check:
    """Compare this machine's clock with the service's."""
    name = "clock"
    before = time.time()
    date = client.exchange("GET", _LIVE).headers.get("date", "")
    after = time.time()
    try:
        # It says whole seconds, cut off.
        told = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        return skipped(name, "the service does not say its time")
    skew_s = (before + after) / 2 - told
    # So much is not known.
    doubt_s = (after - before) / 2 + 0.5
    if abs(skew_s) - doubt_s <= _MAX_SKEW_S:
        return ok(name, f"within {abs(skew_s) + doubt_s:.0f} s of the service's")
    which = "ahead of" if skew_s > 0 else "behind"
    return failed(
        name,
        f"this machine's clock is {abs(skew_s):.0f} s {which} the service's",
        "run NTP on both: events have the time of their sender, and those a day ahead are rejected",
    )


def has_room(client: Client) -> Iterator[Check]:
    """Say how much disk there is, and how much waits to be loaded."""
    name = "disk"
    answer = client.exchange("GET", "/metrics")
    values = _values(answer) if answer.status == 200 else {}
    free, floor = values.get(_FREE), values.get(_MIN_FREE)
    # Not a number, where the service does not know.
    if free is None or floor is None or free != free:
        yield skipped(name, "/metrics does not say it: a proxy may keep it away")
        return
    found = f"{free / _GIGABYTE:.1f} GB are free where the data is"
    limit = f"{floor / _GIGABYTE:.1f} GB"
    if free >= floor:
        yield ok(name, f"{found}; below {limit}, data is refused")
    else:
        yield failed(
            name,
            f"{found}, and below {limit} data is refused",
            "make room, shorten the retention, or lower APINALYTICS_MIN_FREE_BYTES",
        )


def _values(answer: Answer) -> dict[str, float]:
    """Return the samples without labels of a page of metrics; none of a page that is none."""
    try:
        families = list(text_string_to_metric_families(answer.content.decode()))
    except ValueError:
        return {}
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


def _field(answer: Answer, name: str) -> str:
    content = answer.json()
    return str(content.get(name, "")) if isinstance(content, dict) else ""
