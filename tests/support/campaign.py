# SPDX-License-Identifier: Apache-2.0
"""A crash campaign: a service is killed at random instants under traffic, then all is audited."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from otel_apinalytics.receiver.segment import SUFFIX
from tests.support.audit import Audit, audit_service, merge_events, records_out_of_balance
from tests.support.clients import KEY_SETTINGS, Client
from tests.support.numbered_senders import WAYS, Book, Sender
from tests.support.service_process import environment, serve_command
from tests.support.waiting import wait_for

# Below those that the system gives to clients: one that tries to connect to such a port while
# nobody listens there may get it for itself, and then talks to itself.
_PORTS = range(20_000, 30_000)
_SEGMENT_BYTES = (1 << 16, 1 << 18, 1 << 20)
# When to kill, and how often: between the start and ready, at any time, just after a request was
# sent, so that some are kept and not acknowledged, and while the service stops in order.
_STARTING, _RUNNING, _SENDING, _STOPPING = range(4)
_MOMENTS = (_STARTING, _RUNNING, _SENDING, _STOPPING)
_WEIGHTS = (1, 5, 3, 1)
_LONGEST_ANSWER_S = 0.005
_LONGEST_STOP_S = 0.5
# Kills come faster than loads where the machine is slow. Behind so many segments what is new would
# never be reached: then the service lives until it has caught up.
_MOST_SEGMENTS = 15
# It loads what it has before it ends.
_STOP_S = 600
_LOG = "service.log"
_TAIL_BYTES = 4000


class FixedService:
    """A service that comes back on the same ports and the same data directory.

    Args:
        directory: Where its data and what it logs go.
    """

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.log = directory / _LOG
        grpc, http = _free_ports(2)
        self.client = Client(grpc=f"localhost:{grpc}", http=f"localhost:{http}")
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = urllib3.PoolManager(retries=False, timeout=10.0)

    def start(self, **settings: str) -> None:
        """Start it; do not wait until it is ready."""
        addresses = ("--grpc", self.client.grpc, "--http", self.client.http)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                serve_command("--data-dir", str(self.data_dir), *addresses),
                env=environment(**{**KEY_SETTINGS, **settings}),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait until it takes requests.

        Raises:
            AssertionError: It ended.
        """
        wait_for(self._is_ready)

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
            raise AssertionError(f"the service ended with {self._process.returncode}: {tail}")
        try:
            answer = self._pool.request("GET", f"http://{self.client.http}/health/ready")
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def segments(self) -> int:
        """Return the number of segments in its log."""
        return sum(1 for _ in self.data_dir.glob(f"log/*{SUFFIX}"))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        assert self._process is not None
        return self._process.wait(_STOP_S)

    def kill(self) -> int | None:
        """End it at once, as a crash does; return its exit code. Idempotent."""
        if self._process is None:
            return None
        self._process.kill()
        return self._process.wait()


@dataclass(slots=True)
class Campaign:
    """Kills of a service under traffic.

    Args:
        directory: Where everything goes.
        seed: Decides what is sent, and when the service is killed.
        alive_s: Longest time from ready to kill, in seconds.
        merge: Whether to merge the events before the audit; else it waits, some minutes at
            most, until the service has merged rows of equal keys.
        report: Called after each kill, with the number of kills.
    """

    directory: Path
    seed: int
    alive_s: float = 2.0
    merge: bool = False
    report: Callable[[int], None] = lambda kills: None
    #: Seconds from the start of each process to ready.
    ready_s: list[float] = field(default_factory=list)
    #: What was sent, by sender.
    books: list[Book] = field(default_factory=list)

    def run(self, kills: int) -> Audit:
        """Kill it so often, then stop it in order, start it once more and audit it.

        Raises:
            AssertionError: The service did not start, or stop, or gave an answer that a sender
                cannot do anything with.
        """
        choice = random.Random(self.seed)
        service = FixedService(self.directory)
        senders = [Sender(way, service.client, choice.randrange(2**32)) for way in WAYS]
        self.books = [sender.book for sender in senders]
        try:
            for sender in senders:
                sender.start()
            for number in range(kills):
                self._live_and_die(service, senders, choice)
                _check(senders)
                self.report(number + 1)
            self._start(service)
            for sender in senders:
                sender.finish()
            for sender in senders:
                sender.join()
            _check(senders)
            self._stop(service)
            return self._audit(service)
        finally:
            for sender in senders:
                sender.give_up()
            service.kill()

    def errors(self) -> list[str]:
        """Return the errors that the services logged."""
        with (self.directory / _LOG).open(errors="replace") as lines:
            return [line.rstrip() for line in lines if " ERROR " in line or "Traceback" in line]

    def _live_and_die(
        self, service: FixedService, senders: Sequence[Sender], choice: random.Random
    ) -> None:
        segment_bytes = str(choice.choice(_SEGMENT_BYTES))
        (moment,) = choice.choices(_MOMENTS, _WEIGHTS)
        if moment == _STARTING:
            service.start(log_segment_bytes=segment_bytes)
            time.sleep(choice.uniform(0, max(self.ready_s, default=1.0)))
        else:
            self._start(service, log_segment_bytes=segment_bytes)
            if service.segments() > _MOST_SEGMENTS:
                _catch_up(service, senders)
            time.sleep(choice.uniform(0, self.alive_s))
        if moment == _SENDING:
            choice.choice(senders).sending.wait(1.0)
            time.sleep(choice.uniform(0, _LONGEST_ANSWER_S))
        elif moment == _STOPPING:
            service.signal(signal.SIGTERM)
            time.sleep(choice.uniform(0, _LONGEST_STOP_S))
        code = service.kill()
        ended_well = code == 0 and moment == _STOPPING
        assert ended_well or code == -signal.SIGKILL, f"it ended with {code}, see {service.log}"

    def _start(self, service: FixedService, **settings: str) -> None:
        started = time.monotonic()
        service.start(**settings)
        service.wait_ready()
        self.ready_s.append(time.monotonic() - started)

    def _stop(self, service: FixedService) -> None:
        service.signal(signal.SIGTERM)
        code = service.wait()
        assert code == 0, f"the service stopped with {code}, see {service.log}"

    def _audit(self, service: FixedService) -> Audit:
        unbalanced = records_out_of_balance(service.data_dir)
        if self.merge:
            merge_events(service.data_dir)
        self._start(service)
        found = audit_service(service.client, self.books, service.data_dir, unbalanced)
        self._stop(service)
        return found


def _catch_up(service: FixedService, senders: Sequence[Sender]) -> None:
    """Let a service load what it has, while nothing is sent."""
    for sender in senders:
        sender.pause()
    wait_for(service.segments, until=lambda left: left == 0)
    for sender in senders:
        sender.resume()


def _check(senders: Sequence[Sender]) -> None:
    for sender in senders:
        if sender.fault is not None:
            raise AssertionError(f"{sender.name} ended") from sender.fault


def _free_ports(number: int) -> list[int]:
    found: list[int] = []
    while len(found) < number:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("localhost", port)):
            found.append(port)
    return found
