# SPDX-License-Identifier: Apache-2.0
"""What is published: a wheel and a source distribution that are complete, and work elsewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import otel_apinalytics
from tests.support.clients import KEY_SETTINGS, Client
from tests.support.otlp import make_request, make_span
from tests.support.service_process import environment
from tests.support.waiting import wait_for

PACKAGE = Path(otel_apinalytics.__file__).parent
ROOT = PACKAGE.parent
pytest.importorskip("hatchling")


def build(kind: str, directory: Path, source: Path = ROOT) -> Path:
    """Build a wheel or a source distribution."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind]
    subprocess.run(
        [*command, "--directory", str(directory)], cwd=source, check=True, capture_output=True
    )
    (built,) = directory.iterdir()
    return built


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints."""
    return subprocess.run(
        command, cwd=cwd, env=environment(), check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from the tree."""
    return build("wheel", tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with the wheel, and without the tree.

    What the package needs is that of this environment; its own directory with links to the tree is
    not among it.
    """
    directory = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    programs = directory / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    (own,) = (directory / "lib").glob("python*/site-packages")
    (own / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return programs


def members(wheel: Path) -> set[str]:
    """Return the names of what is in a wheel, but for its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_all_of_the_package(wheel: Path) -> None:
    """Code, migrations, the wire format, the page, the mark of types; and nothing else."""
    ours = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and not {"__pycache__", "__cache__"} & set(path.parts)
    }
    assert members(wheel) == ours
    for needed in ("py.typed", ".pyi", "log.proto", "index.html", "0001_events.sql"):
        assert any(name.endswith(needed) for name in ours)


def test_the_source_distribution_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """And has what its tests need."""
    archive = build("sdist", tmp_path / "dist")
    # The standard library's way to unpack differs between patch releases.
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    (source,) = tmp_path.glob("otel_apinalytics-*/")
    assert members(build("wheel", tmp_path / "again", source)) == members(wheel)
    for name in ("tests", "proto", "docs", "deploy", "scripts", "Makefile", "constraints.txt"):
        assert (source / name).exists()
    assert not (source / ".venv").exists()


def test_the_package_is_the_installed_one(installed: Path, tmp_path: Path) -> None:
    """Nothing of the tree is seen."""
    code = "import otel_apinalytics; print(otel_apinalytics.__file__)"
    found = run(installed / "python", "-c", code, cwd=tmp_path).strip()
    assert Path(found).is_relative_to(installed.parent)


def test_it_serves_without_the_tree(installed: Path, tmp_path: Path) -> None:
    """From the first start to an answer, with the page and the documentation."""
    settings = environment(**KEY_SETTINGS, grpc="localhost:0", http="localhost:0")
    with subprocess.Popen(
        [installed / "apinalytics", "serve"],
        cwd=tmp_path,
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "type in the read key" not in printed:
                line = process.stdout.readline()
                assert line
                printed += line
            addresses = re.search(r"OTLP/gRPC on (\S+), HTTP on (\S+)", printed)
            assert addresses is not None
            client = Client(grpc=addresses[1], http=addresses[2])
            client.export(make_request(make_span()))
            wait_for(lambda: client.raw_events())
            assert b"<html" in client.request("GET", "/")[1]
            assert client.request("GET", "/openapi.json")[0] == 200
            ready = run(installed / "apinalytics", "ready", "--server", client.http, cwd=tmp_path)
            assert ready == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert (tmp_path / "apinalytics-data").is_dir()


def test_types_are_the_package_s_own(installed: Path, tmp_path: Path) -> None:
    """A program that is checked strictly sees what functions take and give."""
    program = tmp_path / "program.py"
    program.write_text(
        "from otel_apinalytics.exporter import ApinalyticsSpanExporter\n"
        "reveal_type(ApinalyticsSpanExporter().shutdown())\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable"]
    checked = subprocess.run(
        [*command, str(installed / "python"), "--cache-dir", os.devnull, str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "None"' in checked.stdout, checked.stdout
    assert checked.returncode == 0, checked.stdout
