# SPDX-License-Identifier: Apache-2.0
"""What the page on identity shows is there, under these names."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from otel_apinalytics import exporter
from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.identity import set_consumer

_PAGE = (Path(__file__).parents[3] / "docs" / "identity.md").read_text("utf-8")
_BLOCKS = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
_CALLS = [
    call
    for block in _BLOCKS
    for call in ast.walk(ast.parse(block))
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
]


def test_every_import_is_public() -> None:
    """Each name that the page imports, and all that the package offers is on the page."""
    imported = {
        alias.name
        for block in _BLOCKS
        for statement in ast.walk(ast.parse(block))
        if isinstance(statement, ast.ImportFrom) and statement.module == "otel_apinalytics.exporter"
        for alias in statement.names
    }
    assert {"set_consumer", "Consumer", "ConsumerMiddleware"} <= imported <= set(exporter.__all__)
    # How to switch the exporter on is another page's.
    assert all(name in _PAGE for name in set(exporter.__all__) - {"ApinalyticsSpanExporter"})


@pytest.mark.parametrize("call", _CALLS, ids=ast.unparse)
def test_every_argument_exists(call: ast.Call) -> None:
    """Of what is called by a name of ours."""
    assert isinstance(call.func, ast.Name)
    if call.func.id in exporter.__all__:
        function = getattr(exporter, call.func.id)
        names = [keyword.arg for keyword in call.keywords if keyword.arg]
        inspect.signature(function).bind_partial(*call.args, **dict.fromkeys(names))


def test_what_can_be_said_is_in_the_table() -> None:
    """Each argument of `set_consumer`, which are those of a `Consumer`."""
    arguments = list(inspect.signature(set_consumer).parameters)
    assert arguments == list(inspect.signature(Consumer).parameters)
    assert re.findall(r"^\| `(\w+)` \| `apinalytics", _PAGE, re.MULTILINE) == arguments
