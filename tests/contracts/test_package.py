# SPDX-License-Identifier: Apache-2.0
"""Contracts of the package: light imports, small documented modules, fresh generated code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import otel_apinalytics
from otel_apinalytics.settings import Settings

PACKAGE = Path(otel_apinalytics.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "log_pb2.py")
SERVER_LIBRARIES = (
    "chdb", "clickhouse_connect", "cryptography", "fastapi", "google.protobuf", "grpc", "httptools",
    "msgspec", "pydantic", "pydantic_settings", "rich", "starlette", "typer", "uvicorn", "uvloop",
)  # fmt: skip
MAX_LINES = 500

each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)


@pytest.mark.parametrize(
    "module",
    [
        "otel_apinalytics.catalogue",
        "otel_apinalytics.errors",
        "otel_apinalytics.normalize",
        "otel_apinalytics.normalize.python",
        "otel_apinalytics.normalize.spans_sql",
        "otel_apinalytics.normalize.events_sql",
        "otel_apinalytics.normalize.mapping",
    ],
)
def test_the_rules_load_no_server_library(module: str) -> None:
    """A program that only sends can use the rules without the server's libraries."""
    code = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint(SERVER_LIBRARIES)


@each_module
def test_a_module_says_what_it_is_for(path: Path) -> None:
    """Each begins with its license and a docstring."""
    text = path.read_text("utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text))


@each_module
def test_a_module_is_not_too_long(path: Path) -> None:
    """What needs more lines has more than one responsibility."""
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    "path",
    # The exporter's gives names, and loads nothing either: a contract of its own.
    [path for path in MODULES if path.name == "__init__.py" and path.parent.name != "exporter"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_an_init_file_holds_no_code(path: Path) -> None:
    """A docstring, and at most the version: importing a package loads nothing."""
    _, *rest = ast.parse(path.read_text("utf-8")).body
    for statement in rest:
        assert isinstance(statement, ast.Assign)
        assert ast.unparse(statement).startswith("__version__ = ")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_described(name: str) -> None:
    """A sentence for help texts and documentation."""
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")


def test_generated_code_is_fresh() -> None:
    """What protobuf makes of the source is what is in the package."""
    script = ROOT / "scripts" / "generate_proto.py"
    result = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
