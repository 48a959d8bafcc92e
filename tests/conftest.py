# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a service in this process, shared by a session's integration tests.

The embedded engine allows one directory per process, so there is one such service; tests tell their
data apart by consumer, route or time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_apinalytics.exporter import hashing
from otel_apinalytics.service import Service
from otel_apinalytics.settings import read_settings
from tests.support.clients import KEY_SETTINGS, Client

# The engine without a service.
pytest_plugins = ["tests.engine_fixtures"]


def pytest_configure() -> None:
    """Let programs that tests start heed Ctrl-C, which a shell's background jobs ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests, and what an exporter left in the process."""
    monkeypatch.setattr(hashing, "_given", None)
    for name in list(os.environ):
        if name.startswith(("APINALYTICS_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the real service on free ports, with the real embedded engine."""
    arguments = {
        **KEY_SETTINGS,
        "data_dir": tmp_path_factory.mktemp("service") / "data",
        "grpc": "localhost:0",
        "http": "localhost:0",
    }
    # A service works in its data directory; it owns its process, other than here.
    here = Path.cwd()
    running = Service(read_settings(arguments))
    running.start()
    yield running
    running.stop()
    os.chdir(here)


@pytest.fixture(scope="session")
def client(service: Service) -> Client:
    """Talk to the service of this process."""
    return Client(grpc=service.grpc_address, http=service.http_address)
