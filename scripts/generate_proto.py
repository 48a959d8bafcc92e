# SPDX-License-Identifier: Apache-2.0
"""Generate `otel_apinalytics/wire/` from `proto/`, or check that it is fresh (`--check`)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
SOURCE = PROTO_ROOT / "apinalytics" / "v1" / "log.proto"
TARGET = ROOT / "otel_apinalytics" / "wire"
# The engine reads the schema text itself, so the package carries a copy.
GENERATED = ("log_pb2.py", "log_pb2.pyi", "log.proto")


def generate(directory: Path) -> None:
    """Write the generated files into `directory`."""
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [f"--python_out={scratch}", f"--pyi_out={scratch}"]
        if protoc.main(["protoc", f"-I{PROTO_ROOT}", *outputs, str(SOURCE)]) != 0:
            raise SystemExit("protoc failed")
        made = Path(scratch) / SOURCE.parent.relative_to(PROTO_ROOT)
        for path in [*made.iterdir(), SOURCE]:
            shutil.copy(path, directory / path.name)


def stale_files() -> list[str]:
    """Return the names of generated files that differ from what the source gives."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        return [
            name
            for name in GENERATED
            if not (TARGET / name).exists()
            or (TARGET / name).read_bytes() != (Path(scratch) / name).read_bytes()
        ]


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if stale := stale_files():
            raise SystemExit(f"stale generated code: {', '.join(stale)}; run `make proto`")
    else:
        generate(TARGET)
