# SPDX-License-Identifier: Apache-2.0
"""Tests of how long an export may go on."""

from __future__ import annotations

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


def test_a_stop_ends_a_wait() -> None:
    """Now and later."""
    patience = Patience(FAR_S)
    patience.begin()
    ended: list[bool] = []
    wait = threading.Thread(target=lambda: ended.append(patience.pause(FAR_S)))
    wait.start()
    patience.stop()
    wait.join()
    assert ended == [False]
    assert patience.left_s() == 0
    assert not patience.pause(0.0)


def test_the_end_has_its_grace() -> None:
    """Or less; a second one gives no more time."""
    patience = Patience(FAR_S)
    patience.begin(2 * GRACE_S)
    assert GRACE_S < patience.left_s() <= 2 * GRACE_S
    patience.end()
    assert patience.is_ending
    assert 0 < patience.left_s() <= GRACE_S
    patience.end(0.0)
    patience.begin()
    patience.end()
    assert patience.left_s() <= 0


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


def printed_by(program: str) -> list[str]:
    """Run a program to its end, and return the words that it printed."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


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
    assert printed_by(program) == ["True", "True"]


def test_a_program_goes_on_in_its_threads() -> None:
    """A server in one of them outlives the main thread; daemons do not."""
    program = (
        "import atexit, threading\n"
        "from otel_apinalytics.exporter.patience import Patience\n"
        "patience = Patience(1000)\n"
        "def serve():\n"
        "    threading.main_thread().join()\n"
        "    print(patience.is_ending)\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "threading.Thread(target=serve).start()\n"
        "atexit.register(lambda: print(patience.is_ending))\n"
    )
    assert printed_by(program) == ["False", "True"]
