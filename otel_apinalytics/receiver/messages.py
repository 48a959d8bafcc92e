# SPDX-License-Identifier: Apache-2.0
"""Opened records as the engine reads them: length-delimited messages in a file in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.receiver.files import write_all
from otel_apinalytics.receiver.records import hash_key_field, header_of, varint
from otel_apinalytics.wire.log_pb2 import Payload


class Messages:
    """A file with a message for each record. It is in memory only, for records are in clear.

    Args:
        hash_key: Returns the hash key of an application.
    """

    def __init__(self, hash_key: Callable[[str], bytes]) -> None:
        self._hash_key = hash_key
        self._descriptor = os.memfd_create("messages", os.MFD_CLOEXEC)
        self._size = 0
        # Where each record is: first byte, length.
        self._places: list[tuple[int, int]] = []
        #: Values of `LogHeader.payload` that are there.
        self.payloads: set[Payload] = set()
        #: Which batch rules they need.
        self.batch_rules = BatchRules.NONE

    def __len__(self) -> int:
        return len(self._places)

    @property
    def path(self) -> Path:
        """The file, for readers in this process."""
        return Path(f"/proc/self/fd/{self._descriptor}")

    def fileno(self) -> int:
        """Return the file's descriptor, for a process that inherits it."""
        return self._descriptor

    def add(self, record: bytes) -> None:
        """Append a record, with the hash key of its application.

        Raises:
            MemoryError: There is no memory for it.
        """
        header = header_of(record)
        key = hash_key_field(self._hash_key(header.application))
        length = varint(len(record) + len(key))
        try:
            write_all(self._descriptor, [length, record, key])
        except OSError as error:
            raise MemoryError(f"no memory for {len(record)} bytes: {error}") from error
        self._places.append((self._size + len(length), len(record)))
        self._size += len(length) + len(record) + len(key)
        self.payloads.add(header.payload)
        self.batch_rules = max(self.batch_rules, BatchRules(header.batch_rules))

    def record(self, number: int) -> bytes:
        """Return a record as it was added."""
        first, length = self._places[number]
        return os.pread(self._descriptor, length, first)

    def part(self, first: int, end: int) -> Messages:
        """Return messages of their own for the records `first` to `end`, exclusive."""
        return self.of(*(self.record(number) for number in range(first, end)))

    def of(self, *records: bytes) -> Messages:
        """Return messages of their own for other records, with the same hash keys."""
        messages = Messages(self._hash_key)
        for record in records:
            messages.add(record)
        return messages

    def close(self) -> None:
        """Let go of the memory."""
        os.close(self._descriptor)
