# SPDX-License-Identifier: Apache-2.0
"""A campaign of power cuts: starts a service again and again, under load, and cuts its power."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.clients import KEY_SETTINGS, Client
from tests.support.disk.account import Account, read_calls, take_stock, wait_for_loads
from tests.support.disk.power import Power
from tests.support.disk.traffic import Traffic
from tests.support.service_process import (
    ServiceProcess,
    environment,
    serve_command,
    service_process,
)

# Small segments: a second has several loads, and merges follow.
_SETTINGS = {"log_segment_bytes": str(1 << 16), "min_free_bytes": str(1 << 20)}


@dataclass(slots=True)
class Campaign:
    """Runs a service through power cuts.

    Args:
        data_dir: Its data directory.
        power: Its power.
        choice: Decides when to cut.
        traffic: What is sent meanwhile; to be started by the caller.
        settings: Settings of the service.
        start_s: Seconds of each start until the service was ready.
    """

    data_dir: Path
    power: Power
    choice: random.Random
    traffic: Traffic = field(default_factory=Traffic)
    settings: dict[str, str] = field(default_factory=lambda: dict(_SETTINGS))
    start_s: list[float] = field(default_factory=list)
    _checked: int = 0
    _checked_at: int = 0

    def cut_under_load(self, longest_s: float, idle_s: float = 0.0, *, check: bool = False) -> None:
        """Start the service, and cut the power at some instant.

        Args:
            longest_s: Longest time from ready to the cut, in seconds.
            idle_s: So long nothing is sent before the cut: loads end, merges follow.
            check: Whether to look before, whether all that was acknowledged is there.

        Raises:
            AssertionError: Something was acknowledged and is not there.
        """
        with self._service() as service:
            self.traffic.direct(service.client)
            if check:
                self._check(service.client)
            time.sleep(self.choice.uniform(0, longest_s))
            if idle_s:
                with self.traffic.pause():
                    time.sleep(idle_s)
                    self.power.cut(service.process)
            else:
                self.power.cut(service.process)
            self.traffic.direct(None)

    def cut_while_starting(self, longest_s: float = 2.0) -> None:
        """Start the service, and cut the power most likely before it is ready."""
        command = serve_command(
            "--data-dir", str(self.data_dir), "--grpc", "localhost:0", "--http", "localhost:0"
        )
        variables = environment(**KEY_SETTINGS, **self.settings) | self.power.shim.environment()
        with subprocess.Popen(
            command, env=variables, stdout=subprocess.DEVNULL, text=True
        ) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.choice.uniform(0, longest_s))
            ended = process.returncode
            self.power.cut(process)
        assert ended is None, f"the service ended with {ended}"

    def finish(self, settling_s: float = 0.0) -> Account:
        """Start the service once more, let all that was begun arrive, and return the account.

        Args:
            settling_s: See `take_stock`.
        """
        with self._service() as service:
            self.traffic.direct(service.client)
            self.traffic.finish()
            account = take_stock(service.client, self.traffic.acknowledged, settling_s)
            assert service.stop() == 0
        return account

    @contextmanager
    def _service(self) -> Iterator[ServiceProcess]:
        began = time.monotonic()
        variables = self.power.shim.environment()
        with service_process(self.data_dir, None, None, variables, **self.settings) as service:
            self.start_s.append(time.monotonic() - began)
            yield service

    def _check(self, client: Client) -> None:
        """Look whether all is there that was acknowledged since this was done last."""
        now = int(time.time())
        calls = self.traffic.acknowledged[self._checked :]
        with self.traffic.pause():
            wait_for_loads(client)
            found = read_calls(client, self._checked_at)
        lost = [call.url for call in calls if call.url not in found]
        assert not lost, f"{len(lost)} of {len(calls)} calls are lost: {lost[:20]}"
        self._checked += len(calls)
        # A call that is acknowledged later may have been made before.
        self._checked_at = now - 60
