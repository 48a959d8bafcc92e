# SPDX-License-Identifier: Apache-2.0
"""What services are run with: the image's recipe and the unit of systemd, as far as can be read."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from otel_apinalytics.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# In the form of a list there is no shell in between, which would keep signals from the service.
_AS_LIST = ("RUN", "CMD", "ENTRYPOINT", "VOLUME")

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def stages() -> list[list[Instruction]]:
    """Return the instructions of the image's recipe, by stage."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: list[list[Instruction]] = []
    for line in lines:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def of(stage: list[Instruction], name: str) -> list[str]:
    """Return what instructions of a name say."""
    return [rest for found, rest in stage if found == name]


def test_commands_are_lists(stages: list[list[Instruction]]) -> None:
    """The service is the process that is told to stop."""
    for name, rest in (instruction for stage in stages for instruction in stage):
        if name in _AS_LIST:
            assert all(isinstance(word, str) for word in json.loads(rest))
        if name == "HEALTHCHECK":
            assert json.loads(rest.partition("CMD ")[2])[0] == "apinalytics"


def test_the_image_runs_as_nobody_of_importance(stages: list[list[Instruction]]) -> None:
    """A number, so that it can be checked before the start; the directory is that user's."""
    *_, final = stages
    (user,) = of(final, "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    number = user.partition(":")[0]
    made = [json.loads(rest) for rest in of(final, "RUN")]
    (useradd,) = (words for words in made if words[0] == "useradd")
    (install,) = (words for words in made if words[0] == "install")
    (data,) = of(final, "VOLUME")
    assert number in useradd
    assert {f"--owner={number}", "--mode=0700", *json.loads(data)} <= set(install)
    # What is written before it belongs to root.
    names = [name for name, _ in final]
    assert names.index("RUN") < names.index("USER") < names.index("VOLUME")


def test_the_image_is_stopped_and_watched_as_the_service_wants(
    stages: list[list[Instruction]],
) -> None:
    """SIGTERM drains; both ports are named."""
    *_, final = stages
    assert of(final, "STOPSIGNAL") == ["SIGTERM"]
    assert of(final, "EXPOSE") == ["4317 4318"]
    assert json.loads(of(final, "ENTRYPOINT")[0]) == ["apinalytics"]
    assert json.loads(of(final, "CMD")[0]) == ["serve"]


def test_the_image_has_settings_that_there_are_and_no_secrets(
    stages: list[list[Instruction]],
) -> None:
    """Nor does any stage take one as an argument."""
    *_, final = stages
    (variables,) = of(final, "ENV")
    names = [pair.partition("=")[0] for pair in variables.split()]
    ours = {name.removeprefix(PREFIX).lower() for name in names if name.startswith(PREFIX)}
    assert ours <= set(Settings.model_fields)
    assert {"data_dir", "grpc", "http"} <= ours
    assert not [name for name in names if re.search("KEY|SECRET|TOKEN|PASSWORD", name)]
    assert not [rest for stage in stages for rest in of(stage, "ARG")]


def test_what_is_copied_is_there(stages: list[list[Instruction]]) -> None:
    """And is not ignored; the last stage has nothing of the tree."""
    first, *_, final = stages
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    wanted = [pattern[1:] for pattern in ignored if pattern.startswith("!")]
    for copied in of(first, "COPY"):
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source, pattern) for pattern in wanted), source
    assert all(copied.startswith("--from=") for copied in of(final, "COPY"))


def test_stages_have_one_base_that_the_package_supports(stages: list[list[Instruction]]) -> None:
    """Programs of one would not start in another."""
    bases = {of(stage, "FROM")[0].split()[0] for stage in stages}
    (base,) = bases
    version = re.search(r"python:(3\.\d+)-slim", base)
    assert version is not None
    supported = f"Programming Language :: Python :: {version[1]}"
    assert supported in (ROOT / "pyproject.toml").read_text()


# ---- systemd ----


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unit, with a program that this machine has."""
    text = (DEPLOY / "otel-apinalytics.service").read_text()
    path = tmp_path_factory.mktemp("unit") / "otel-apinalytics.service"
    path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text))
    return path


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)


@needs_systemd
def test_the_unit_is_valid(unit: Path) -> None:
    """No unknown name, no value that is none."""
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@needs_systemd
def test_the_unit_is_confined(unit: Path) -> None:
    """Exposure is at most 1.5 of 10, by systemd's own measure."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_unit_gives_time_to_stop() -> None:
    """One process gets the signal, and may finish what it accepted; it knows its settings."""
    text = (DEPLOY / "otel-apinalytics.service").read_text()
    service = dict(re.findall(r"(?m)^([A-Z]\w+)=(.*)$", text))
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= 60
    assert service["Restart"] == "on-failure"
    # Of a wrong setting, a second start knows no better.
    assert service["RestartPreventExitStatus"] == "2"
    assert service["DynamicUser"] == "yes"
    variables = re.findall(rf"(?m)^Environment={PREFIX}(\w+)", text)
    assert {name.lower() for name in variables} <= set(Settings.model_fields)
