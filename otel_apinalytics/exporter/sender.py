# SPDX-License-Identifier: Apache-2.0
"""From a batch of spans to the service's answer: renders, leaves out, sends, counts."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

from opentelemetry.metrics import get_meter
from opentelemetry.sdk.trace import ReadableSpan

from otel_apinalytics import __version__
from otel_apinalytics.exporter.counters import Counters, Fate
from otel_apinalytics.exporter.events import bodies, body_of
from otel_apinalytics.exporter.noise import Noise
from otel_apinalytics.exporter.patience import Patience
from otel_apinalytics.exporter.quiet_log import QuietLog
from otel_apinalytics.exporter.rendering import Rendering
from otel_apinalytics.exporter.settings import GZIP, PREFIX, ExporterSettings
from otel_apinalytics.exporter.transport import Answer, Transport, UndeliveredError
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.reading import Reader

_OK, _TOO_LARGE = 200, 413
# RFC 1952, in zlib's words; the level that costs least.
_GZIP_FORMAT, _GZIP_LEVEL = zlib.MAX_WBITS | 16, 1
# Before the interpreter takes the turn from this thread, it has kept the others waiting for 5 ms.
_TURN_S, _REST_S = 0.0001, 0.00005
_SHOWN = 200


class Sender:
    """Sends spans as events. Safe to use from several threads, and in a process forked off.

    Args:
        settings: The exporter's settings.

    Raises:
        ConfigError: A certificate cannot be used.
    """

    def __init__(self, settings: ExporterSettings) -> None:
        self.counters = Counters(get_meter("otel_apinalytics.exporter", __version__))
        self._settings = settings
        self._log = QuietLog(logging.getLogger("otel_apinalytics.exporter"))
        self._rendering = Rendering(
            Reader(NO_MAPPING, settings.hash_key, settings.application_id),
            Noise(settings.excluded_paths, settings.excluded_user_agents),
            client_spans=settings.client_spans,
        )
        self._begin()
        self._transport = Transport(settings, self._patience, self.counters.add_request)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._patience = Patience(self._settings.timeout_s)

    def after_fork(self) -> None:
        """Leave to the parent what is the parent's: its connection, its locks, its end."""
        self._begin()
        self._transport.renew(self._patience)

    def send(self, spans: Sequence[ReadableSpan]) -> bool:
        """Return whether the service took everything of a batch that is to be sent."""
        if self._pid != os.getpid():
            self.after_fork()
        with self._lock:
            if self._patience.is_stopped:
                self._log.say("shut down", "the exporter is shut down: spans are dropped")
                self.counters.add_spans(Fate.FAILED, len(spans))
                return False
            self._patience.begin()
            before = self.counters.spans
            try:
                # Each group is sent, whatever becomes of those before it.
                taken = [self._deliver(group) for group in bodies(self._events(spans))]
                return all(taken)
            except Exception as error:
                # A mistake of ours, which must not be the application's trouble.
                lost = len(spans) - (self.counters.spans - before)
                self.counters.add_spans(Fate.FAILED, lost)
                self._log.say("error", "%d spans lost: %s", lost, _where(error))
                return False

    def shutdown(self, timeout_s: float) -> None:
        """End what is in progress, and send nothing any more.

        Args:
            timeout_s: How long to wait for what is in progress.
        """
        self._patience.stop()
        if self._lock.acquire(timeout=max(0.0, timeout_s)):
            try:
                self._transport.close()
            finally:
                self._lock.release()

    def _events(self, spans: Sequence[ReadableSpan]) -> Iterator[str]:
        turn_ends_s = time.perf_counter() + _TURN_S
        left_out: Counter[Fate] = Counter()
        for rendered in self._rendering.events(spans, time.time_ns()):
            if isinstance(rendered, Fate):
                left_out[rendered] += 1
            else:
                yield rendered
            if time.perf_counter() > turn_ends_s and not self._patience.is_ending:
                time.sleep(_REST_S)
                turn_ends_s = time.perf_counter() + _TURN_S
        for fate, number in left_out.items():
            self.counters.add_spans(fate, number)

    def _deliver(self, events: list[str]) -> bool:
        try:
            answer = self._transport.post(self._encoded(body_of(events)))
        except UndeliveredError as error:
            self._failed(len(events), f"the service cannot be reached: {error}")
            return False
        if answer.status == _TOO_LARGE and len(events) > 1:
            middle = len(events) // 2
            return all([self._deliver(events[:middle]), self._deliver(events[middle:])])
        if answer.status != _OK:
            self._failed(len(events), f"it answered {answer.status}: {_shown(answer.body)}")
            return False
        return self._taken(len(events), answer)

    def _encoded(self, body: bytes) -> bytes:
        if self._settings.compression != GZIP:
            return body
        compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
        return compressor.compress(body) + compressor.flush()

    def _taken(self, number: int, answer: Answer) -> bool:
        taken, refused = _account(answer.body)
        if taken + len(refused) != number:
            what = f"{PREFIX}ENDPOINT is not the service: it answered {_shown(answer.body)}"
            self._failed(number, what)
            return False
        self.counters.add_spans(Fate.SENT, taken)
        self.counters.add_spans(Fate.REFUSED, len(refused))
        if refused:
            self._log.say(
                "refused", "%d events refused: %s", len(refused), "; ".join(refused)[:_SHOWN]
            )
        return not refused

    def _failed(self, number: int, reason: str) -> None:
        self.counters.add_spans(Fate.FAILED, number)
        self._log.say("failed", "%d events lost: %s", number, reason)


def _account(body: bytes) -> tuple[int, list[str]]:
    """Return from an answer how many events were taken, and why each other was refused.

    Of what is no answer of the service's, nothing was taken.
    """
    try:
        answer = json.loads(body)
        taken, refused, errors = answer["received"], answer["refused"], answer["errors"]
        reasons = {error["index"]: str(error["message"]) for error in errors}
        return int(taken), [reasons.get(index, f"event {index}") for index in refused]
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0, []


def _where(error: Exception) -> str:
    # Not what the error says: that may be of a span, with a key in it.
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.f_code.co_filename}:{line}"


def _shown(body: bytes) -> str:
    text = body[: 2 * _SHOWN].decode("utf-8", "replace")
    return repr(text[:_SHOWN])
