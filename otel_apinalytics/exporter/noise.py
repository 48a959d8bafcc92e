# SPDX-License-Identifier: Apache-2.0
"""Noise: requests that no consumer makes, such as those of load balancers that ask for health."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Where programs say that they live, are ready, and what they measured; and what browsers and
# robots ask every host for.
EXCLUDED_PATHS = (
    "/health", "/health/live", "/health/liveness", "/health/alive", "/health/ready",
    "/health/readiness", "/health/startup", "/health/started", "/health/ping", "/health/check",
    "/health/status", "/health/db", "/health/database", "/health/cache", "/health/redis",
    "/healthz", "/healthz/live", "/healthz/ready", "/healthcheck", "/health-check", "/healthy",
    "/live", "/livez", "/liveness", "/ready", "/readyz", "/readiness", "/startupz", "/ping",
    "/_health", "/__health__", "/__heartbeat__", "/__lbheartbeat__", "/metrics", "/favicon.ico",
    "/robots.txt", "/grpc.health.v1.Health/*",
)  # fmt: skip
# Kubernetes, load balancers of the clouds, HAProxy's agents, monitors of uptime, Prometheus.
EXCLUDED_USER_AGENTS = (
    "kube-probe/", "GoogleHC/", "ELB-HealthChecker/", "Amazon-Route53-Health-Check-Service",
    "AlwaysOn", "Edge Health Probe", "Consul Health Check", "Envoy/HC", "HAProxy", "NS-Probe",
    "Prometheus/", "UptimeRobot/", "Mozilla/5.0+(compatible; UptimeRobot/", "Pingdom.com_bot",
    "StatusCake", "Better Uptime Bot", "Site24x7",
)  # fmt: skip


class Noise:
    """Knows which requests to leave out.

    Args:
        paths: Their paths; a `*` stands for anything, a slash at the end for nothing.
        user_agents: How their user agents begin.
    """

    def __init__(self, paths: Sequence[str], user_agents: Sequence[str]) -> None:
        patterns = [".*".join(map(re.escape, path.rstrip("/").split("*"))) for path in paths]
        self._paths = re.compile("|".join(patterns), re.DOTALL) if patterns else None
        self._user_agents = tuple(user_agents)

    def has_user_agent(self, user_agent: str) -> bool:
        """Return whether a request of this user agent is noise."""
        return user_agent.startswith(self._user_agents)

    def has_path(self, url: str) -> bool:
        """Return whether a request of this path, with its query if it has one, is noise."""
        path = url.partition("?")[0].rstrip("/")
        return self._paths is not None and self._paths.fullmatch(path) is not None
