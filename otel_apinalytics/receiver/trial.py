# SPDX-License-Identifier: Apache-2.0
"""Trials: whether a load ends the process that does it, found out in a process of its own.

    python -m otel_apinalytics.receiver.trial < task

It loads into an empty store of its own, and ends with 0 whatever the engine says to that.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from otel_apinalytics.receiver.messages import Messages
from otel_apinalytics.store.engine import Engine, EngineError, LoadStatement
from otel_apinalytics.store.schema import migrate

_COMMAND = [sys.executable, "-m", "otel_apinalytics.receiver.trial"]
# Something else may have killed it.
_TRIALS = 3
# What takes longer hangs.
_TIMEOUT_S = 600.0
_PREFIX = "trial-"
_PR_SET_PDEATHSIG = 1


def survives(statements: Sequence[LoadStatement], messages: Messages) -> bool:
    """Return whether a process lives on that loads these messages.

    Raises:
        OSError: It cannot be found out now.
    """
    for _ in range(_TRIALS):
        code = _load_elsewhere(statements, messages)
        if code > 0:
            raise OSError(f"a trial of a load ended with {code}")
        if code == 0:
            return True
    return False


def remove_trials(directory: Path) -> None:
    """Remove what trials left that were killed together with their service."""
    for left in directory.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def _load_elsewhere(statements: Sequence[LoadStatement], messages: Messages) -> int:
    """Return how a process ended that loaded messages; less than 0 for a signal.

    The service works in its data directory, so that what is in clear does not leave it.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=Path.cwd()) as directory:
        task = {
            "parent": os.getpid(),
            "directory": directory,
            "source": str(messages.path),
            "statements": [asdict(one) for one in statements],
        }
        try:
            return subprocess.run(  # noqa: S603
                _COMMAND,
                input=json.dumps(task).encode(),
                stdout=subprocess.DEVNULL,
                pass_fds=(messages.fileno(),),
                timeout=_TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise OSError(str(error)) from error


def _main() -> None:
    task = json.load(sys.stdin)
    # It must not outlive the service, which may be killed meanwhile, or was already.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != task["parent"]:
        return
    os.chdir(task["directory"])
    engine = Engine(f"chdb://{task['directory']}/db")
    migrate(engine)
    for statement in task["statements"]:
        with contextlib.suppress(EngineError):
            engine.load(LoadStatement(**statement), Path(task["source"]), "trial")


if __name__ == "__main__":
    _main()
