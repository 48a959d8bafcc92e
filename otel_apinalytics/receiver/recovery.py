# SPDX-License-Identifier: Apache-2.0
"""Recovery: what an earlier process wrote to the log and could not take note of elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from otel_apinalytics.receiver.log import SealedSegment
from otel_apinalytics.receiver.records import header_of
from otel_apinalytics.receiver.sealing import SealError
from otel_apinalytics.receiver.segment import LogIdentity, read_segment


def digests_of(segments: Sequence[SealedSegment], identity: LogIdentity) -> Iterator[bytes]:
    """Yield the digests of the requests in segments; a segment at a time is in memory.

    What cannot be read is passed over: the loader sets it aside, and says so.

    Args:
        segments: The segments that were found at the start.
        identity: The log that they belong to.
    """
    for segment in segments:
        digests: list[bytes] = []

        def take(record: bytes, digests: list[bytes] = digests) -> None:
            if digest := header_of(record).digest:
                digests.append(digest)

        try:
            read_segment(segment.path, segment.sequence, identity, take)
        except (OSError, SealError, DecodeError):
            continue
        yield from digests
