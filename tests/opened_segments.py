# SPDX-License-Identifier: Apache-2.0
"""What is in a segment, all at once."""

from __future__ import annotations

from pathlib import Path

from otel_apinalytics.receiver.segment import Content, LogIdentity, read_segment


def open_segment(path: Path, sequence: int, identity: LogIdentity) -> tuple[list[bytes], Content]:
    """Return a segment's records, and what else was found in it."""
    records: list[bytes] = []
    content = read_segment(path, sequence, identity, records.append)
    return records, content
