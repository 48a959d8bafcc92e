# SPDX-License-Identifier: Apache-2.0
"""What a terminal can show: text without control characters, numbers with units, small charts."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"
# From small to large; each is a thousand of the one before.
_SCALES = {"µs": ("µs", "ms", "s"), "B": ("B", "kB", "MB", "GB", "TB")}


def printable(text: str, encoding: str) -> str:
    """Return a text that can do nothing to a terminal but be shown, in what it can encode.

    Args:
        text: Anything; names come from whoever calls the API.
        encoding: That of the terminal.
    """
    shown = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return shown.encode(encoding, "replace").decode(encoding)


def sparkline(values: Sequence[float | None], width: int, *, ascii_only: bool) -> str:
    """Return a chart of one line, from 0 to the largest value; a missing value is a space.

    Args:
        values: In order of time.
        width: The most characters; where there are more values, one stands for the largest of
            several.
        ascii_only: Whether block characters cannot be shown.
    """
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    step = -(-len(values) // max(width, 1))
    chunks = [values[first : first + step] for first in range(0, len(values), max(step, 1))]
    heights = [max((v for v in chunk if v is not None), default=None) for chunk in chunks]
    top = max((height for height in heights if height is not None), default=0)
    return "".join(" " if height is None else _block(height, top, blocks) for height in heights)


def _block(height: float, top: float, blocks: str) -> str:
    if height <= 0 or top <= 0:
        return blocks[0]
    # What is there is seen, beside what is zero.
    return blocks[max(1, round(height / top * (len(blocks) - 1)))]


def number(value: float | None, unit: str | None) -> str:
    """Return a number as people read it: `1,234`, `2.5 ms`, `3.2 %`; a dash for a missing one.

    Args:
        value: The number.
        unit: Its unit; `%` for a fraction of one.
    """
    if value is None:
        return "-"
    if unit == "%":
        return f"{value * 100:.3g} %"
    units = _SCALES.get(unit or "", ())
    if not units:
        return f"{_short(value)} {unit}" if unit else _short(value)
    place = 0
    while abs(value) >= 1000 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    return f"{_short(value)} {units[place]}"


def _short(value: float) -> str:
    """Return a number with three digits at least, and all of those before the point."""
    if isinstance(value, int) or float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.3g}"
