# SPDX-License-Identifier: Apache-2.0
"""Insert tokens: what the embedded engine notes of inserts must be true before it is believed.

The engine writes the token of an insert to a file of the table, and then gives the part its name. A
process that is killed in between leaves a token without a part, and the insert, done again, would
be skipped. This is to be called at each start, before the engine opens its directory: merges may
cover the gap later.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

_logger = logging.getLogger(__name__)

_LOGS = "store/*/*/deduplication_logs/*.txt"
_ADDED = "1"
# Partition, first and last block, level; a mutation adds a number.
_PART = re.compile(r"(.+)_(\d+)_(\d+)_\d+(?:_\d+)?")


class _Blocks(NamedTuple):
    """The inserts of a partition, by number, that are in a part."""

    partition: str
    first: int
    last: int


def forget_untrue_tokens(directory: Path) -> int:
    """Remove the tokens of parts that are not there; return how many there were.

    A token too few does no harm: an insert that is done again has equal keys.

    Args:
        directory: The engine's directory; no engine may have it open.

    Raises:
        OSError: A file cannot be read or written.
    """
    return sum(_forget(log) for log in sorted(directory.glob(_LOGS)))


def _forget(log: Path) -> int:
    names = (entry.name for entry in log.parents[1].iterdir() if entry.is_dir())
    parts = [blocks for name in names if (blocks := _blocks_of(name))]
    lines = log.read_text("utf-8", "surrogateescape").splitlines(keepends=True)
    true = [line for line in lines if _is_true(line, parts)]
    untrue = len(lines) - len(true)
    if untrue:
        # After a kill these are inserts that did not end; after a deletion, parts that are gone.
        _logger.info("%d inserts have no part, and are forgotten: %s", untrue, log)
        scratch = log.with_name(f".{log.name}.new")
        scratch.write_text("".join(true), "utf-8", "surrogateescape")
        os.replace(scratch, log)
    return untrue


def _is_true(line: str, parts: list[_Blocks]) -> bool:
    operation, _, rest = line.partition("\t")
    added = _blocks_of(rest.partition("\t")[0])
    if operation != _ADDED or added is None:
        return True
    return any(
        part.partition == added.partition and part.first <= added.first and part.last >= added.last
        for part in parts
    )


def _blocks_of(name: str) -> _Blocks | None:
    match = _PART.fullmatch(name)
    return _Blocks(match[1], int(match[2]), int(match[3])) if match else None
