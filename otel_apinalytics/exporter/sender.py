# SPDX-License-Identifier: Apache-2.0
"""From a batch of spans to the service's answer: renders, leaves out, sends, keeps, counts."""

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
from otel_apinalytics.exporter.backlog import MAX_WAITING_BYTES, Backlog
from otel_apinalytics.exporter.counters import Counters, Fate
from otel_apinalytics.exporter.events import bodies, body_of
from otel_apinalytics.exporter.hashing import use_hash_key
from otel_apinalytics.exporter.noise import Noise
from otel_apinalytics.exporter.patience import Patience
from otel_apinalytics.exporter.quiet_log import QuietLog
from otel_apinalytics.exporter.rendering import Rendering
from otel_apinalytics.exporter.settings import GZIP, PREFIX, ExporterSettings
from otel_apinalytics.exporter.transport import Answer, Transport, UndeliveredError
from otel_apinalytics.exporter.turns import Turns
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.reading import Reader

_OK, _TOO_LARGE = 200, 413
# RFC 1952, in zlib's words; the level that costs least.
_GZIP_FORMAT, _GZIP_LEVEL = zlib.MAX_WBITS | 16, 1
_SHOWN = 200
_logger = logging.getLogger("otel_apinalytics.exporter")


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
        self._log = QuietLog(_logger)
        self._rendering = Rendering(
            Reader(NO_MAPPING, settings.hash_key, settings.application_id),
            Noise(settings.excluded_paths, settings.excluded_user_agents),
            client_spans=settings.client_spans,
        )
        if settings.hash_key:
            use_hash_key(settings.hash_key)
        self._begin()
        self._transport = Transport(settings, self._patience, self.counters.add_request)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._patience = Patience(self._settings.timeout_s)
        self._backlog = Backlog()

    def after_fork(self) -> None:
        """Leave to the parent what is the parent's: its connection, locks, events, numbers, end."""
        self._begin()
        self._rendering.forget()
        self.counters.clear()
        self._transport.renew(self._patience)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what became of the spans, those that wait as well, and the answers."""
        counts = self.counters.snapshot()
        counts["spans"]["waiting"] = self._backlog.events + self._rendering.waiting
        return counts

    def send(self, spans: Sequence[ReadableSpan]) -> bool:
        """Return whether the service took everything that is to be sent; what it may take waits."""
        if self._pid != os.getpid():
            self.after_fork()
        with self._lock:
            if self._patience.is_stopped:
                self._log.say("shut down", "the exporter is shut down: spans are dropped")
                self.counters.add_spans(Fate.FAILED, len(spans))
                return False
            self._patience.begin()
            # With the service known to be in trouble, the processor's queue must not wait for it.
            is_patient, lost = not self._backlog.events, self.counters.failed
            self._render(spans)
            return self._deliver(is_patient) and self.counters.failed == lost

    def flush(self, timeout_s: float, *, is_last: bool = False) -> bool:
        """Try to send what waits for the service; return whether nothing does any more.

        Args:
            timeout_s: How long it may take.
            is_last: Whether nothing need wait for later spans, either.
        """
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            self._patience.begin(timeout_s)
            if is_last:
                self._render((), is_last=True)
            self._deliver(is_patient=True)
            return not self._backlog.events
        finally:
            self._lock.release()

    def shutdown(self, timeout_s: float) -> None:
        """End what is in progress and send what waits, in a moment; send nothing any more.

        Args:
            timeout_s: How long to wait at the most.
        """
        if self._patience.is_stopped:
            return
        self._patience.end(timeout_s)
        self.flush(timeout_s, is_last=True)
        self._patience.stop()
        if self._lock.acquire(timeout=max(0.0, timeout_s)):
            try:
                self._give_up()
                self._transport.close()
            finally:
                self._lock.release()
        self._sum_up()

    def _render(self, spans: Sequence[ReadableSpan], *, is_last: bool = False) -> None:
        for group in bodies(self._events(spans, is_last)):
            if lost := self._backlog.add(group):
                self._failed(lost, f"more than {MAX_WAITING_BYTES >> 20} MiB wait")

    def _events(self, spans: Sequence[ReadableSpan], is_last: bool) -> Iterator[str]:
        turns = Turns()
        left_out: Counter[Fate] = Counter()
        number, made = len(spans) + self._rendering.waiting, 0
        try:
            for rendered in self._rendering.events(spans, time.time_ns(), is_last=is_last):
                if isinstance(rendered, Fate):
                    left_out[rendered] += 1
                else:
                    made += 1
                    yield rendered
                if turns.is_over and not self._patience.is_ending:
                    turns.rest()
        except Exception as error:
            # A mistake of ours, which must not be the application's trouble.
            lost = number - self._rendering.waiting - made - left_out.total()
            self._failed(lost, _where(error))
        for fate, number in left_out.items():
            self.counters.add_spans(fate, number)

    def _deliver(self, is_patient: bool) -> bool:
        is_all_taken = True
        while group := self._backlog.first:
            try:
                body = self._encoded(body_of(group))
                answer = self._transport.post(body, is_patient=is_patient)
            except UndeliveredError as error:
                self._wait(str(error))
                return False
            except Exception as error:
                # As above.
                self._backlog.take_first()
                self._failed(len(group), _where(error))
                return False
            is_patient = True
            if answer.status == _TOO_LARGE and len(group) > 1:
                self._backlog.split_first()
                continue
            self._backlog.take_first()
            is_all_taken &= self._judge(len(group), answer)
        return is_all_taken

    def _judge(self, number: int, answer: Answer) -> bool:
        if answer.status != _OK:
            self._failed(number, f"it answered {answer.status}: {_shown(answer.body)}")
            return False
        return self._taken(number, answer)

    def _wait(self, reason: str) -> None:
        waiting = self._backlog.events
        self._log.say("waiting", "%d events wait for the service: %s", waiting, reason)
        if self._patience.is_stopped:
            self._give_up()

    def _give_up(self) -> None:
        lost = self._backlog.clear() + self._rendering.waiting
        self._rendering.forget()
        if lost:
            self._failed(lost, "the exporter is shut down")

    def _sum_up(self) -> None:
        # Whoever was switched on from outside has nobody who asks for the numbers.
        spans = {fate: number for fate, number in self.counts()["spans"].items() if number}
        is_trouble = Fate.FAILED.value in spans or Fate.REFUSED.value in spans
        if spans:
            became = ", ".join(f"{number} {fate}" for fate, number in spans.items())
            level = logging.WARNING if is_trouble else logging.INFO
            _logger.log(level, "what became of all spans: %s", became)

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
