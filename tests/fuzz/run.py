# SPDX-License-Identifier: Apache-2.0
"""Fuzzes targets with coverage (atheris), and prints a line for each.

The inputs that it begins with are made at run time from real requests; of those that follow, half
are made by libFuzzer and half by the mutations of the tests. An input with a finding is written to
a file. The exit code is 1 if there is one, 2 if the fuzzer is not installed.
"""

# ruff: noqa: T201 - a command

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib
import random
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import zstandard

_ALL = ("gate", "json", "decompress", "events", "wire_format", "credentials")
_STATISTICS = re.compile(rb"stat::(\w+):\s+(\d+)")
_LONGEST_BYTES = 1 << 16
_SLOWEST_S = 10
_MOST_MB = 2048
_LONGEST_OUTPUT = 6000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(_ALL))
    parser.add_argument("--runs", type=int, default=20_000, help="executions of each target")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long each; 0: no limit")
    parser.add_argument("--findings", type=Path, default=Path(), help="where inputs are written")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(_ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(_ALL)}")
    try:
        importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: pip install atheris", file=sys.stderr)
        return 2
    if options.corpus:
        # The fuzzer ends its process.
        _fuzz(options.targets[0], options)
    results = [_run(name, options) for name in options.targets or _ALL]
    return 0 if all(results) else 1


def _run(name: str, options: argparse.Namespace) -> bool:
    """Fuzz a target in a process of its own; return whether nothing was found."""
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, "-m", __spec__.name, name, "--corpus", corpus]
        for option in ("runs", "seconds", "findings"):
            command += [f"--{option}", str(getattr(options, option))]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = {key.decode(): int(value) for key, value in _STATISTICS.findall(done.stdout)}
    print(
        f"{name:12} {found.get('number_of_executed_units', 0):9,} executions "
        f"{found.get('average_exec_per_sec', 0):7,}/s  peak {found.get('peak_rss_mb', 0)} MB  "
        f"{'nothing found' if done.returncode == 0 else 'FINDING'}",
        flush=True,
    )
    if done.returncode:
        print(done.stdout.decode("utf-8", "replace")[-_LONGEST_OUTPUT:])
    return done.returncode == 0


def _fuzz(name: str, options: argparse.Namespace) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(
        include=["otel_apinalytics.receiver", "otel_apinalytics.store"]
    ):
        targets = importlib.import_module("tests.fuzz.targets")
    for seed in _SEEDS[name]():
        (options.corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    mutations = importlib.import_module("tests.fuzz.mutations")
    mutate = {"json": mutations.mutate_json, "events": mutations.mutate_json}.get(
        name, mutations.mutate_message
    )

    def changed(data: bytes, longest: int, seed: int) -> bytes:
        choose = random.Random(seed)
        if choose.random() < 0.5:
            return bytes(atheris.Mutate(data, longest))
        return bytes(mutate(data, choose)[:longest])

    options.findings.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-runs={options.runs}",
        f"-max_total_time={options.seconds}",
        f"-max_len={_LONGEST_BYTES}",
        f"-timeout={_SLOWEST_S}",
        f"-rss_limit_mb={_MOST_MB}",
        f"-artifact_prefix={options.findings}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *flags, str(options.corpus)],
        targets.TARGETS[name],
        custom_mutator=changed,
    )
    atheris.Fuzz()


def _mutations(name: str) -> Callable[[], list[bytes]]:
    return lambda: list(getattr(importlib.import_module("tests.fuzz.mutations"), name)())


def _compressed() -> list[bytes]:
    encoders = (gzip.compress, zlib.compress, zstandard.compress)
    bodies = [encode(seed) for seed in _mutations("trace_requests")() for encode in encoders]
    return [*bodies, bodies[0] * 3, bodies[2] * 3]


_SEEDS: Mapping[str, Callable[[], list[bytes]]] = MappingProxyType(
    {
        "gate": _mutations("trace_requests"),
        "json": _mutations("json_requests"),
        "decompress": _compressed,
        "events": _mutations("event_requests"),
        "wire_format": _mutations("trace_requests"),
        "credentials": lambda: [b"Bearer key\n", b"\nkey\napp", b"Basic x"],
    }
)

if __name__ == "__main__":
    sys.exit(main())
