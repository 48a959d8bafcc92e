# SPDX-License-Identifier: Apache-2.0
"""Each part of the ingest budget alone, in CPU µs a span.

    python -m benchmarks.parts [--spans 512] [--rounds 5]

The median of the rounds. "Log" is the writer with its seals and syncs; "load" is reading, opening
and inserting a segment, without the merges that follow.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from benchmarks.payloads import RequestTemplate
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.grpc_server import SERVICE
from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import Limits, RequestLog, SealedSegment, open_log_directory
from otel_apinalytics.receiver.records import new_header, spans_record
from otel_apinalytics.receiver.sealing import Seal, hash_key_of
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.store.schema import migrate

_SEGMENT_BYTES = 32 << 20


class Parts:
    """Runs each part over the same number of spans.

    Args:
        directory: Scratch directory.
        spans: Spans in a request.
        rounds: How often each part runs.
    """

    def __init__(self, directory: Path, spans: int, rounds: int) -> None:
        self._directory = directory
        self._rounds = rounds
        self._templates = [RequestTemplate(spans, seed) for seed in range(4)]
        size = len(self._templates[0].body())
        self._requests = max(1, _SEGMENT_BYTES // size)
        self._spans = self._requests * spans
        print(f"{spans} spans a request, {size / spans:.0f} bytes a span")

    def run(self) -> None:
        """Print a line for each part."""
        bodies = self._bodies(self._templates)
        self._measure("gate: parse, count, check ids", lambda: [gate.inspect(b) for b in bodies])
        self._measure("record: header before payload", lambda: _records(bodies))
        seal, records = Seal(os.urandom(32), b"bench"), _records(bodies)
        sealed = [seal.seal(number, record) for number, record in enumerate(records)]
        self._measure("seal", lambda: [seal.seal(n, r) for n, r in enumerate(records)])
        self._measure("open", lambda: [seal.open(n, s) for n, s in enumerate(sealed)])
        self._measure("log: append, seal, sync", lambda: self._write_log(records))
        self._measure_load()
        self._measure_grpc()

    def _bodies(self, templates: list[RequestTemplate]) -> list[bytes]:
        return [templates[n % len(templates)].body() for n in range(self._requests)]

    def _measure(self, name: str, part: Callable[[], Any]) -> None:
        used = []
        for _ in range(self._rounds):
            started = time.process_time()
            part()
            used.append(time.process_time() - started)
        self._print(name, used)

    def _print(self, name: str, used_s: list[float]) -> None:
        microseconds = statistics.median(used_s) / self._spans * 1e6
        print(f"  {name:<32} {microseconds:6.2f} µs a span")

    def _write_log(self, records: list[bytes]) -> list[SealedSegment]:
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        sealed: list[SealedSegment] = []
        identity = open_log_directory(directory, bytes(32))
        log = RequestLog(directory, identity, sealed.append, Limits(_SEGMENT_BYTES, 1 << 40))
        log.start()
        futures = [log.append(record) for record in records]
        for future in futures:
            future.result()
        log.close()
        return sealed

    def _measure_load(self) -> None:
        engine = Engine(f"chdb://{self._directory / 'db'}")
        migrate(engine)
        # Merges would run beside, at times of their own choice.
        engine.command("SYSTEM STOP MERGES")
        used = self._load_often(engine, self._templates)
        # The first load also fills the engine's caches.
        self._print("load: read, open, normalize, store", used[1:])
        engine.command("SYSTEM START MERGES")
        started = time.process_time()
        engine.command("OPTIMIZE TABLE events FINAL")
        merged = (time.process_time() - started) / (self._rounds + 1)
        self._print(f"merge of {self._rounds + 1} loads into one part", [merged])
        engine.command("SYSTEM STOP MERGES")
        # As an ASGI application sends them: the batch rules are asked, two of three are filtered.
        families = [RequestTemplate(self._templates[0].spans, seed, 2) for seed in range(4)]
        used = self._load_often(engine, families, batch_rules=BatchRules.CHILDREN)
        self._print("load, INTERNAL children: 2 of 3", used[1:])
        engine.close()

    def _load_often(
        self,
        engine: Engine,
        templates: list[RequestTemplate],
        batch_rules: BatchRules = BatchRules.NONE,
    ) -> list[float]:
        """Load a segment once more than there are rounds, and return the seconds of each."""
        used = []
        loads = Loads(NO_MAPPING)
        for _ in range(self._rounds + 1):
            segments = self._write_log(_records(self._bodies(templates), batch_rules=batch_rules))
            directory = segments[0].path.parent
            identity = open_log_directory(directory, bytes(32))
            loader = Loader(
                engine,
                lambda: loads,
                partial(hash_key_of, bytes(32)),
                identity,
                directory,
                lambda size, seconds: None,
            )
            started = time.process_time()
            loader.start()
            for segment in segments:
                loader.submit(segment)
            loader.close()
            used.append(time.process_time() - started)
        return used

    def _measure_grpc(self) -> None:
        """Measure a server that drops what it gets; the client is another process."""
        server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(lambda body, context: b"")
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),)
        )
        port = server.add_insecure_port("localhost:0")
        server.start()
        spans = self._spans // self._requests
        client_arguments = [str(value) for value in (port, SERVICE, spans, self._requests)]
        used = []
        for _ in range(self._rounds):
            started = time.process_time()
            subprocess.run([sys.executable, "-c", _CLIENT, *client_arguments], check=True)
            used.append(time.process_time() - started)
        server.stop(None).wait()
        self._print("gRPC: receive and drop", used)


_CLIENT = """
import sys, grpc
from benchmarks.payloads import RequestTemplate
port, service, spans, requests = sys.argv[1:]
template = RequestTemplate(int(spans), 0)
with grpc.insecure_channel(f"localhost:{port}") as channel:
    export = channel.unary_unary(f"/{service}/Export")
    for _ in range(int(requests)):
        export(template.body())
"""


def _records(bodies: list[bytes], batch_rules: BatchRules = BatchRules.NONE) -> list[bytes]:
    return [
        spans_record(new_header("shop", "key", "grpc", 512, batch_rules), body) for body in bodies
    ]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spans", type=int, default=512)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="apinalytics-bench-") as scratch:
        Parts(Path(scratch), options.spans, options.rounds).run()
