# SPDX-License-Identifier: Apache-2.0
"""Sending what is left where a process ends without the handlers of the interpreter's end.

By those the SDK sends it elsewhere. The spans are in the queue of the tracer provider's processors:
what is said here holds for every exporter that it has.
"""

from __future__ import annotations

import contextlib
import sys
import threading

from opentelemetry import trace

# A program that ends waits no longer.
_LONGEST_S = 2.5
_is_at_end_of_child = False


def send_what_is_left() -> None:
    """Have the spans of the program's tracer provider exported; return soon in any case."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        # Not every processor keeps to a timeout.
        thread = threading.Thread(target=flush, name="apinalytics", daemon=True)
        # When the interpreter ends, there are no new threads.
        with contextlib.suppress(RuntimeError):
            thread.start()
            thread.join(_LONGEST_S)


def send_at_end_of_child() -> None:
    """Send what is left when this process ends, if `multiprocessing` has made or makes it.

    To be called in each process: after a fork, and where an exporter is made.
    """
    global _is_at_end_of_child
    # A process that was made by it has it.
    util, processes = map(sys.modules.get, ("multiprocessing.util", "multiprocessing.process"))
    if util is None or processes is None or _is_at_end_of_child:
        return
    _is_at_end_of_child = True
    # Before it runs a new process, it forgets all finalizers and calls this.
    util.register_after_fork(send_what_is_left, _finalize)
    if processes.parent_process() is not None:
        _finalize()


def _finalize(_: object = None) -> None:
    from multiprocessing.util import Finalize

    Finalize(None, send_what_is_left, exitpriority=0)
