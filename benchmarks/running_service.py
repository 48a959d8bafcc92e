# SPDX-License-Identifier: Apache-2.0
"""The service as a subprocess, with its CPU time, memory and counts as seen from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import urllib3

WRITE_KEY, READ_KEY = "bench-write", "bench-read"


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that is ready.

    Args:
        process: Its process.
        grpc: Its gRPC address.
        http: Its HTTP address.
    """

    process: psutil.Process
    grpc: str
    http: str

    def cpu_s(self) -> float:
        """CPU seconds, user and system, since the start."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory in MB."""
        return float(self.process.memory_info().rss) / 1e6

    def peak_rss_mb(self) -> float:
        """Highest resident memory since the start, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024 / 1e6

    def stored(self, http: urllib3.PoolManager) -> int:
        """Events that a query counts now."""
        now = int(time.time())
        url = f"http://{self.http}/1/timeseries/{now - 86400}/{now + 3600}/"
        answer = http.request("GET", url, headers={"X-Auth-Key": READ_KEY}).json()
        return sum(int(value) for points in answer["groups"].values() for _, value in points)

    def wait_stored(
        self,
        http: urllib3.PoolManager,
        count: int,
        *,
        every_s: float = 0.02,
        timeout_s: float = 120,
    ) -> None:
        """Wait until at least `count` events are counted.

        Args:
            http: Client.
            count: Events to wait for.
            every_s: Seconds between two looks; each is a query, whose CPU time is the service's.
            timeout_s: When to give up.

        Raises:
            TimeoutError: They are not within the time.
        """
        deadline = time.monotonic() + timeout_s
        while self.stored(http) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.stored(http)} of {count} stored")
            time.sleep(every_s)


@contextlib.contextmanager
def running_service(directory: Path, **settings: str) -> Iterator[RunningService]:
    """Run `apinalytics serve` on free ports until the block ends."""
    grpc, http = (f"localhost:{_free_port()}" for _ in range(2))
    environment = {
        **os.environ,
        "APINALYTICS_WRITE_KEY": WRITE_KEY,
        "APINALYTICS_READ_KEY": READ_KEY,
        **settings,
    }
    command = [sys.executable, "-m", "otel_apinalytics", "serve", "--data-dir", str(directory)]
    command += ["--grpc", grpc, "--http", http]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_ready(f"http://{http}/health/ready", process)
            yield RunningService(psutil.Process(process.pid), grpc, http)
        finally:
            process.terminate()
            process.wait(60)


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    pool = urllib3.PoolManager(retries=False)
    while process.poll() is None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if pool.request("GET", url).status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the service ended with {process.returncode}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
