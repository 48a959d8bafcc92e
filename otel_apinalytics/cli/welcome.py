# SPDX-License-Identifier: Apache-2.0
"""What `apinalytics serve` says once it serves: all that a newcomer needs, and what to copy."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PACKAGE = "otel_apinalytics"
_MEANINGS = {"write": "sends data", "read": "asks questions", "admin": "administers"}
SCOPES = tuple(_MEANINGS)
PROGRAM = "apinalytics"


@dataclass(frozen=True, slots=True)
class Welcome:
    """What there is to say.

    Args:
        grpc: Where OTLP/gRPC listens.
        http: Where HTTP listens.
        has_tls: Whether both do TLS.
        application: Id of the application.
        created: Keys that were made now, in clear, by scope.
        given: Scopes of the keys that the settings have.
        sdk_settings: Variables that point an SDK here, with the write key or what stands for it.
        data_dir: The data directory.
        program: What this program is called in a shell.
    """

    grpc: str
    http: str
    has_tls: bool
    application: str
    created: Mapping[str, str] = field(repr=False)
    given: tuple[str, ...]
    sdk_settings: str = field(repr=False)
    data_dir: Path
    program: str = PROGRAM

    @property
    def url(self) -> str:
        """Where HTTP is asked."""
        return f"{'https' if self.has_tls else 'http'}://{self.http}"

    def key(self, scope: str) -> str:
        """Return a key, or what stands for it."""
        return key_text(scope, self.created, self.given)


def program_name() -> str:
    """Return what this program is called in a shell, where it is not found by its name.

    To be asked where the program was started: its path may begin there.
    """
    if shutil.which(PROGRAM):
        return PROGRAM
    path = Path(sys.argv[0])
    words = [str(path.absolute())] if path.name == PROGRAM else [sys.executable, "-m", _PACKAGE]
    return shlex.join(words)


def key_text(scope: str, created: Mapping[str, str], given: tuple[str, ...]) -> str:
    """Return a key that was made now, the variable of one that was given, or a place for it."""
    place = f"$APINALYTICS_{scope.upper()}_KEY" if scope in given else f"<{scope} key>"
    return created.get(scope, place)


def welcome_text(welcome: Welcome) -> str:
    """Return what to print."""
    return "\n".join(_lines(welcome))


def _lines(welcome: Welcome) -> Iterator[str]:
    tls = " with TLS" if welcome.has_tls else ""
    yield f"OTLP/gRPC on {welcome.grpc}, HTTP on {welcome.http}{tls}"
    yield ""
    yield f"  application  {welcome.application}"
    yield from (
        f"  {scope:<5} key    {secret}  {_MEANINGS[scope]}"
        for scope, secret in welcome.created.items()
    )
    yield ""
    if welcome.created:
        yield "Keys are stored hashed: this is the only time that these are shown."
    if any(scope not in (*welcome.created, *welcome.given) for scope in SCOPES):
        yield "Keys that were made before are not shown again. A new one, to take the place of <…>:"
        yield f"  {welcome.program} keys create write --data-dir {welcome.data_dir}"
    yield ""
    yield "1. Start an instrumented program with these variables, in any language:"
    yield ""
    yield from (f"  {line}" for line in welcome.sdk_settings.splitlines())
    yield ""
    yield "   or in Python, with `pip install otel-apinalytics` there:"
    yield ""
    yield "  export OTEL_TRACES_EXPORTER=apinalytics"
    yield f"  export OTEL_EXPORTER_APINALYTICS_ENDPOINT={welcome.url}"
    yield f"  export OTEL_EXPORTER_APINALYTICS_WRITE_KEY={welcome.key('write')}"
    yield ""
    yield "2. Ask who calls, in another terminal:"
    yield ""
    if "read" not in welcome.given:
        yield f"  export APINALYTICS_READ_KEY={welcome.key('read')}"
    yield f"  {welcome.program} query --server {welcome.url}"
    yield ""
    yield f"No data? {welcome.program} doctor --server {welcome.url} --grpc {welcome.grpc}"
    yield f"Or open {welcome.url}/ and type in the read key."
    yield ""
