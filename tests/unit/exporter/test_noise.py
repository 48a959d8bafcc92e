# SPDX-License-Identifier: Apache-2.0
"""Tests of what is left out as noise."""

from __future__ import annotations

import pytest

from otel_apinalytics.exporter.noise import EXCLUDED_PATHS, EXCLUDED_USER_AGENTS, Noise

DEFAULT = Noise(EXCLUDED_PATHS, EXCLUDED_USER_AGENTS)


@pytest.mark.parametrize(
    ("url", "user_agent"),
    [
        ("/health", ""),
        ("/healthz/", "curl/8"),
        ("/health/ready?verbose=1", ""),
        ("/health/db", ""),
        ("/health/live/", ""),
        ("/grpc.health.v1.Health/Check", ""),
        ("/favicon.ico", "Mozilla/5.0"),
        ("/users", "kube-probe/1.30"),
        ("/", "ELB-HealthChecker/2.0"),
    ],
)
def test_what_machines_ask_for_is_noise(url: str, user_agent: str) -> None:
    """By its path or by its user agent."""
    assert DEFAULT.has_path(url) or DEFAULT.has_user_agent(user_agent)


@pytest.mark.parametrize(
    ("url", "user_agent"),
    [
        ("/", ""),
        ("", ""),
        ("/users/7", "curl/8"),
        ("/healthcare", ""),
        ("/health/patients/7", ""),
        ("/health/patients", ""),
        ("/health/ready/7", ""),
        ("/patients/health", ""),
        ("/users?next=/health", ""),
        ("/users", "my kube-probe/1"),
    ],
)
def test_calls_are_not(url: str, user_agent: str) -> None:
    """Also those that look a bit like noise."""
    assert not DEFAULT.has_path(url)
    assert not DEFAULT.has_user_agent(user_agent)


def test_patterns() -> None:
    """A star stands for anything, everything else for itself."""
    noise = Noise(["/a.b/*", "*/internal", "/x"], [])
    assert noise.has_path("/a.b/c/d")
    assert noise.has_path("/y/internal")
    assert noise.has_path("/a.b/\n")
    assert not noise.has_path("/a_b/c")
    assert not noise.has_path("/xy")


def test_nothing_is_noise_without_patterns() -> None:
    """It can be switched off."""
    assert not Noise([], []).has_path("/health")
    assert not Noise([], []).has_user_agent("kube-probe/1.30")
