# SPDX-License-Identifier: Apache-2.0
"""All checks, in an order in which one explains the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from otel_apinalytics.doctor import grpc_checks, http_checks
from otel_apinalytics.doctor.checks import Check, State, Target, failed, skipped
from otel_apinalytics.doctor.key_checks import check_keys
from otel_apinalytics.doctor.probes import check_probes
from otel_apinalytics.doctor.sdk_environment import check_environment
from otel_apinalytics.doctor.tls_checks import check_tls
from otel_apinalytics.errors import ClientError


def examine(target: Target, environment: Mapping[str, str], patience_s: float) -> Iterator[Check]:
    """Give what each check found, one after the other; nothing is changed but for probes.

    Args:
        target: The service.
        environment: Variables that an SDK would read.
        patience_s: How long to look for a probe.
    """
    yield from check_tls(target)
    yield from _by_http(target, patience_s)
    yield from check_environment(target, environment)


def _by_http(target: Target, patience_s: float) -> Iterator[Check]:
    try:
        with target.client() as client:
            there = http_checks.is_there(target, client)
            yield there
            yield grpc_checks.is_there(target)
            if there.state is not State.OK:
                yield skipped("all else", "the service must answer by HTTP for that")
                return
            version = http_checks.version_of(client)
            yield http_checks.same_version(version)
            yield http_checks.is_ready(client)
            yield http_checks.same_time(client)
            yield from http_checks.has_room(client)
            keys = check_keys(target)
            yield from keys.values()
            if version:
                usable = {s: k for s, k in target.keys.items() if keys[s].state is State.OK}
                yield from check_probes(replace(target, keys=usable), patience_s)
            else:
                yield skipped("probes", "not sent: a service that old would count them as calls")
    except ClientError as error:
        yield failed("http", str(error), "the connection is not stable, or a file cannot be used")
