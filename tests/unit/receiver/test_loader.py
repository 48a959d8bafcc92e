# SPDX-License-Identifier: Apache-2.0
"""Tests of the loader: what it cannot read it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import (
    SET_ASIDE,
    RequestLog,
    SealedSegment,
    open_log_directory,
)
from otel_apinalytics.receiver.segment import LogIdentity
from otel_apinalytics.store.engine import Engine, LoadStatement


class NoEngine:
    """A store that takes everything and keeps nothing."""

    directory = None

    def load(self, statement: LoadStatement, source: Path, token: str) -> None:
        """Take a load."""


def seal_damaged(directory: Path, identity: LogIdentity) -> SealedSegment:
    """Write one segment, as one process would, and damage its header."""
    sealed: list[SealedSegment] = []
    log = RequestLog(directory, identity, sealed.append)
    log.start()
    log.append(b"record")
    log.close()
    (segment,) = sealed
    segment.path.write_bytes(b"damaged!" + segment.path.read_bytes()[8:])
    return segment


def test_what_is_set_aside_replaces_nothing(tmp_path: Path) -> None:
    """Two unreadable segments, of two processes, are both kept."""
    identity = open_log_directory(tmp_path, bytes(32))
    engine = cast(Engine, NoEngine())
    for _ in range(2):
        segment = seal_damaged(tmp_path, identity)
        loader = Loader(engine, identity, tmp_path, lambda *released: None)
        loader.start()
        loader.submit(segment)
        loader.close()
        assert not segment.path.exists()
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 2
