# SPDX-License-Identifier: Apache-2.0
"""Tests of the live load statements: a changed settings file is used from the next load on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.settings import MappingSetting, read_settings
from otel_apinalytics.store.live_loads import LiveLoads, to_mapping
from otel_apinalytics.wire.log_pb2 import PAYLOAD_TRACES


def entry(source: str, target: str = "plan_id") -> str:
    """Return an entry of the settings file."""
    return f'[[mapping]]\nfrom = "{source}"\nto = "{target}"\n'


def live(path: Path) -> LiveLoads:
    """Return the statements of a settings file, as the service makes them."""
    return LiveLoads(read_settings({}, path).mapping, path, lambda: read_settings({}, path).mapping)


def is_read(loads: LiveLoads, attribute: str) -> bool:
    """Return whether the next load reads an attribute."""
    statements = loads().for_payloads([PAYLOAD_TRACES])
    return any(attribute in statement.select for statement in statements)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a settings file with one entry."""
    path = tmp_path / "apinalytics.toml"
    path.write_text(entry("x.first"), "utf-8")
    return path


def replace_file(path: Path, text: str) -> None:
    """Replace a file as an editor does, by another one."""
    other = path.with_suffix(".new")
    other.write_text(text, "utf-8")
    os.replace(other, path)


@pytest.mark.parametrize("write", [Path.write_text, replace_file])
def test_a_change_takes_effect_at_the_next_load(
    file: Path, write: Callable[[Path, str], object]
) -> None:
    """Whether the file is written anew or replaced."""
    loads = live(file)
    assert is_read(loads, "x.first")
    write(file, entry("x.second") + entry("x.third", "attributes.third"))
    assert is_read(loads, "x.second")
    assert is_read(loads, "x.third")
    assert not is_read(loads, "x.first")


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    """The statements stay the same objects: to make them costs."""
    reads: list[Path] = []

    def reread() -> tuple[MappingSetting, ...]:
        reads.append(file)
        return read_settings({}, file).mapping

    loads = LiveLoads(read_settings({}, file).mapping, file, reread)
    assert loads() is loads()
    assert reads == []
    file.write_text(entry("x.first") + "# only a remark\n", "utf-8")
    before = loads()
    assert loads() is before
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (entry("x.first") + entry("x.second", "plan"), "mapping, entry 2: 'to' is 'plan'"),
        (entry(" "), "mapping, entry 1: 'from' is empty"),
        (entry("x.second") + 'as = "sha1"\n', "mapping, entry 1: 'as' is 'sha1'"),
        ("[[mapping", "apinalytics.toml"),
        ("maping = []\n", "unknown setting 'maping'"),
    ],
)
def test_a_change_that_is_not_valid_is_reported_and_not_used(
    file: Path, caplog: pytest.LogCaptureFixture, text: str, named: str
) -> None:
    """The service goes on with the mapping that it had, and says so once."""
    loads = live(file)
    before = loads()
    file.write_text(text, "utf-8")
    with caplog.at_level(logging.ERROR):
        assert loads() is before
        assert loads() is before
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the mapping stays as it was" in record.getMessage()
    assert named in record.getMessage()
    file.write_text(entry("x.mended"), "utf-8")
    assert is_read(loads, "x.mended")


def test_a_file_that_is_gone_leaves_the_mapping_as_it_was(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Editors delete and write: what is gone may be back for the next load."""
    loads = live(file)
    file.unlink()
    with caplog.at_level(logging.ERROR):
        assert is_read(loads, "x.first")
    assert "there is no settings file" in caplog.text
    file.write_text(entry("x.second"), "utf-8")
    assert is_read(loads, "x.second")


def test_without_a_file_nothing_is_looked_at() -> None:
    """A mapping of the environment holds as long as the process."""

    def fail() -> tuple[MappingSetting, ...]:
        raise AssertionError

    loads = LiveLoads([MappingSetting(source="x.first", target="plan_id")], None, fail)
    assert is_read(loads, "x.first")


def test_a_mapping_that_is_not_valid_stops_the_start() -> None:
    """The error names the entry."""
    wrong = [MappingSetting(source="x", target="plan")]
    with pytest.raises(ConfigError, match="mapping, entry 1: 'to' is 'plan'"):
        LiveLoads(wrong, None, lambda: wrong)


def test_settings_become_the_mapping() -> None:
    """Each part of an entry is taken over."""
    setting = MappingSetting(source="x", target="plan_id", treatment="hash", application="shop")
    (made,) = to_mapping([setting]).entries
    assert (made.source, made.target, made.treatment, made.application) == (
        "x",
        "plan_id",
        "hash",
        "shop",
    )
