# SPDX-License-Identifier: Apache-2.0
"""Tests of how long an export may go on."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

from otel_apinalytics.exporter.patience import GRACE_S, MAX_CALL_S, Patience

FAR_S = 1_000.0


def test_time_runs_out() -> None:
    """From the begin of the export; a wait for more than is left ends with it."""
    patience = Patience(0.05)
    assert patience.left_s() <= 0
    patience.begin()
    assert 0 < patience.left_s() <= 0.05
    assert patience.pause(0.0)
    assert not patience.pause(FAR_S)
    assert patience.left_s() <= 0


def test_a_call_is_short() -> None:
    """Whatever is left, and never without a limit."""
    patience = Patience(FAR_S)
    assert patience.call_s() > 0
    patience.begin()
    assert patience.call_s() == MAX_CALL_S


def test_a_stop_ends_every_wait() -> None:
    """Now and later, for a pause and for data."""
    patience = Patience(FAR_S)
    patience.begin()
    ended: list[bool] = []
    receiving, sending = socket.socketpair()
    with receiving, sending:
        waits = [
            threading.Thread(target=lambda: ended.append(patience.pause(FAR_S))),
            threading.Thread(target=lambda: ended.append(patience.await_data(receiving))),
        ]
        for wait in waits:
            wait.start()
        patience.stop()
        for wait in waits:
            wait.join()
        assert ended == [False, False]
        assert patience.left_s() == 0
        assert not patience.pause(0.0)


def test_data_is_noticed() -> None:
    """Also if it comes later."""
    patience = Patience(FAR_S)
    patience.begin()
    receiving, sending = socket.socketpair()
    with receiving, sending:
        threading.Timer(0.05, sending.send, [b"x"]).start()
        assert patience.await_data(receiving)


class _Processor:
    """What the SDK's batch processor has of its end."""

    def __init__(self) -> None:
        self._shutdown = False
        self.asked: list[float] = []
        self.go = threading.Event()
        self.patience = Patience(FAR_S)

    def worker(self) -> None:
        self.patience.begin()
        self.asked.append(self.patience.left_s())
        self.go.wait()
        self.asked += [self.patience.left_s(), self.patience.left_s()]


def test_the_end_of_the_processor_is_noticed() -> None:
    """All that follows has the grace together, not each again."""
    processor = _Processor()
    thread = threading.Thread(target=processor.worker)
    thread.start()
    processor._shutdown = True
    processor.go.set()
    thread.join()
    before, first, second = processor.asked
    assert before > GRACE_S
    assert 0 < second <= first <= GRACE_S
    assert processor.patience.is_ending


def test_the_end_of_the_program_is_noticed() -> None:
    """When the handlers of the interpreter's end run, the main thread has ended."""
    program = (
        "import atexit\n"
        "from otel_apinalytics.exporter.patience import GRACE_S, Patience\n"
        "patience = Patience(1000)\n"
        "patience.begin()\n"
        "assert not patience.is_ending\n"
        "atexit.register(lambda: print(patience.is_ending, patience.left_s() <= GRACE_S))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["True", "True"]
