# SPDX-License-Identifier: Apache-2.0
"""What is in the files of a data directory, also while a service works in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(directory: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield all files with their contents; what is removed meanwhile is passed over."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            yield path, content
