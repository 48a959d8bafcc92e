# SPDX-License-Identifier: Apache-2.0
"""Load from processes of their own, at a rate that does not wait for the service (open loop)."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import grpc
import urllib3
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from benchmarks.payloads import RequestTemplate
from benchmarks.running_service import WRITE_KEY, RunningService

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METADATA = (("x-auth-key", WRITE_KEY),)
_HEADERS = {"x-auth-key": WRITE_KEY, "content-type": "application/x-protobuf"}
_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
_TIMEOUT_S = 30
# Where a refusal says no delay, to a client that honours delays.
_PAUSE_S = 0.2
# Spans of a request begin when its template is made; a new one moves them on.
_TEMPLATE_S = 10.0
# From the start of the processes to the first request: their imports, and their templates.
_SET_UP_S = 4.0
# Of a load that finds out what a service sustains.
WARM_UP_S = 5.0
CLIENTS_TO_FIND_PEAK = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with.

    Args:
        is_acknowledged: Whether it was taken.
        delay_s: After how long a request that was not may come again, as the service says; None
            where it does not.
    """

    is_acknowledged: bool
    delay_s: float | None = None


Send = Callable[[bytes], Answer]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process offers.

    Args:
        transport: `grpc` or `http`.
        address: The service's, for this transport.
        spans: Spans in a request.
        clients: Threads, each with a connection and a request at a time.
        begin: When to begin, Unix seconds.
        seconds: For how long.
        rate: Requests a second, whatever becomes of them, and what was refused again at once; None
            sends as fast as the service answers, and honours the delays that it asks for.
    """

    transport: str
    address: str
    spans: int
    clients: int
    begin: float
    seconds: float
    rate: float | None


@dataclass(slots=True)
class Offer:
    """What became of what was offered.

    Args:
        requests: Requests that were sent.
        acknowledged: Spans that were acknowledged.
        refused: Requests that were not.
        without_delay: Of those, the ones whose answer does not say when to come again.
        latencies_s: How long each acknowledgement took.
        cpu_s: CPU seconds that it cost the process to send.
    """

    requests: int = 0
    acknowledged: int = 0
    refused: int = 0
    without_delay: int = 0
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def latency_s(self, level: float) -> float:
        """Seconds within which a share of the acknowledgements came, `level` from 0 to 1."""
        return sorted(self.latencies_s)[int(level * (len(self.latencies_s) - 1))]

    def add(self, other: Offer) -> None:
        """Add what another process, or another thread, offered."""
        self.requests += other.requests
        self.acknowledged += other.acknowledged
        self.refused += other.refused
        self.without_delay += other.without_delay
        self.latencies_s += other.latencies_s
        self.cpu_s += other.cpu_s


class Load:
    """Load that is being offered, by a process for each transport.

    Args:
        addresses: The service's, by transport.
        spans: Spans in a request.
        clients: Clients of each transport.
        seconds: For how long.
        rate: Spans a second of all transports together; None as in `Plan`.
    """

    def __init__(
        self,
        addresses: dict[str, str],
        spans: int,
        clients: int,
        seconds: float,
        rate: float | None = None,
    ) -> None:
        self._pool = ProcessPoolExecutor(
            len(addresses), mp_context=multiprocessing.get_context("spawn")
        )
        each = None if rate is None else rate / spans / len(addresses)
        #: When the first request is sent, Unix seconds.
        self.begin = time.time() + _SET_UP_S
        plans = [
            Plan(transport, address, spans, clients, self.begin, seconds, each)
            for transport, address in addresses.items()
        ]
        self._offers: Sequence[Future[Offer]] = [self._pool.submit(offer, plan) for plan in plans]

    def result(self) -> Offer:
        """Wait until all of it was offered, and return what became of it."""
        with self._pool:
            total = Offer()
            for future in self._offers:
                total.add(future.result())
            return total


@dataclass(frozen=True, slots=True)
class Phase:
    """What was offered for a while, and what came of it.

    Args:
        offer: What the generators saw.
        stored: Spans that a query counts more at the end than at the beginning.
        seconds: How long it lasted.
        service_cpu_s: CPU seconds of the service.
    """

    offer: Offer
    stored: int
    seconds: float
    service_cpu_s: float

    @property
    def goodput(self) -> float:
        """Spans stored per second."""
        return self.stored / self.seconds


def run_phase(service: RunningService, pool: urllib3.PoolManager, load: Load) -> Phase:
    """Measure from the first request of a load to its last, without what is stored later."""
    time.sleep(max(0.0, load.begin - time.time()))
    stored, cpu_s, started = service.stored(pool), service.cpu_s(), time.monotonic()
    offer = load.result()
    seconds, cpu_s = time.monotonic() - started, service.cpu_s() - cpu_s
    return Phase(offer, service.stored(pool) - stored, seconds, cpu_s)


def offer(plan: Plan) -> Offer:
    """Offer what is planned, in this process."""
    ticks = _ticks(plan)
    lock = threading.Lock()
    total = Offer()

    def next_tick() -> float | None:
        with lock:
            return next(ticks, None)

    def run(seed: int) -> None:
        with _TRANSPORTS[plan.transport](plan.address) as send:
            seen = _offer_one_at_a_time(plan, seed, send, next_tick)
        with lock:
            total.add(seen)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(plan.clients)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, plan.begin - time.time()))
    cpu_s = time.process_time()
    for thread in threads:
        thread.join()
    total.cpu_s = time.process_time() - cpu_s
    return total


def _ticks(plan: Plan) -> Iterator[float]:
    """Yield when to send each request, Unix seconds."""
    end = plan.begin + plan.seconds
    if plan.rate is None:
        while time.time() < end:
            yield plan.begin
        return
    for number in itertools.count():
        due = plan.begin + number / plan.rate
        # What is late is sent late; what would be sent after the end is not.
        if max(due, time.time()) >= end:
            return
        yield due


def _offer_one_at_a_time(
    plan: Plan, seed: int, send: Send, next_tick: Callable[[], float | None]
) -> Offer:
    seen = Offer()
    template, made_at = RequestTemplate(plan.spans, seed), time.monotonic()
    body = template.body()
    while (due := next_tick()) is not None:
        time.sleep(max(0.0, due - time.time()))
        started = time.monotonic()
        answer = send(body)
        seen.requests += 1
        if answer.is_acknowledged:
            seen.acknowledged += plan.spans
            seen.latencies_s.append(time.monotonic() - started)
            if started - made_at > _TEMPLATE_S:
                template, made_at = RequestTemplate(plan.spans, seed), started
            # What was refused is sent again as it is.
            body = template.body()
            continue
        seen.refused += 1
        seen.without_delay += answer.delay_s is None
        if plan.rate is None:
            time.sleep(_PAUSE_S if answer.delay_s is None else answer.delay_s)
    return seen


# ---- transports ----


@contextlib.contextmanager
def _grpc(address: str) -> Iterator[Send]:
    with grpc.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        export = channel.unary_unary(_EXPORT)

        def send(body: bytes) -> Answer:
            try:
                export(body, metadata=_METADATA, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                return Answer(False, _retry_info_of(error))
            return Answer(True)

        yield send


def _retry_info_of(error: grpc.RpcError) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.ToTimedelta().total_seconds())
    return None


@contextlib.contextmanager
def _http(address: str) -> Iterator[Send]:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)

    def send(body: bytes) -> Answer:
        try:
            connection.request("POST", "/v1/traces", body, _HEADERS)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            # The next request connects again.
            connection.close()
            return Answer(False)
        delay = answer.headers.get("Retry-After")
        return Answer(answer.status == 200, None if delay is None else float(delay))

    with contextlib.closing(connection):
        yield send


_TRANSPORTS: dict[str, Callable[[str], AbstractContextManager[Send]]] = {
    "grpc": _grpc,
    "http": _http,
}
