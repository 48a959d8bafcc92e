# SPDX-License-Identifier: Apache-2.0
"""Keys in clear: after use, none is in any file, table, log or output, but where it was shown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc

from otel_apinalytics.local_service import find_service
from otel_apinalytics.receiver.sealing import local_admin_key_of
from otel_apinalytics.store import keys
from otel_apinalytics.store.keys import KeyRecord, Scope, digest_of, new_secret
from tests.e2e.test_secrets import all_tables
from tests.support.backups import run_command
from tests.support.clients import Client
from tests.support.files import files_below
from tests.support.otlp import make_request, make_span
from tests.support.service_process import environment, serve_command, service_process
from tests.support.waiting import wait_for

_KEY = re.compile(r"ap[wra]_[A-Za-z0-9_-]{43}")


def spellings(secret: str) -> Iterator[bytes]:
    """Yield what would give a key away: itself, and what can be turned back into it."""
    random = secret.partition("_")[2]
    yield random.encode()
    yield base64.b64encode(secret.encode())
    yield secret.encode().hex().encode()
    if not secret.startswith("apa_") or len(random) == 43:
        yield base64.urlsafe_b64decode(f"{random}=")


def use(client: Client, shown: dict[Scope, str]) -> list[str]:
    """Use keys in all ways that there are, right and wrong; return all of them."""
    write, read, admin = shown[Scope.WRITE], shown[Scope.READ], shown[Scope.ADMIN]

    def ask(method: str, path: str, secret: str, body: Any = None) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        return client.request(method, path, sent, {"Authorization": f"Bearer {secret}"})[1]

    made = [ask("POST", "/1/keys/", admin, {"scope": s}) for s in ("write", "read", "admin")]
    rotated = ask("POST", f"/1/keys/{made[1]['key_id']}/rotate/", admin)
    ask("DELETE", f"/1/keys/{made[0]['key_id']}/", admin)
    secrets = [*shown.values(), *(each["key"] for each in (*made, rotated))]
    unknown = new_secret(Scope.WRITE)
    for secret in (*secrets, unknown):
        # Also where keys do not belong.
        ask("GET", f"/1/timeseries/-1h/now/?include=consumer_id:{secret}", read)
        ask("GET", f"/1/timeseries/-1h/now/?{secret}={secret}", read)
        ask("GET", f"/1/keys/{secret}/", admin)
        ask("GET", f"/{secret}", read)
        ask("GET", "/1/fields/", secret)
        ask("POST", "/1/event/", secret, [{"timestamp": time.time()}])
        with client.exporter() as export:
            for metadata in ((("x-auth-key", secret),), (("authorization", f"Bearer {secret}"),)):
                try:
                    export(make_request(make_span({})), metadata=metadata, timeout=30)
                except grpc.RpcError as error:
                    assert secret not in str(error)  # noqa: PT017 - either is fine
    ask("PATCH", "/1/keys/none/", admin, {"name": write})
    client.request("GET", "/1/fields/", None, {"X-Auth-User": write, "X-Auth-Key": read})
    return [*secrets, unknown]


def test_no_key_is_kept(tmp_path: Path) -> None:
    """Of those that the first start made, that the API made, and that strangers tried."""
    data_dir = tmp_path / "data"
    command = serve_command(
        "--data-dir", str(data_dir), "--grpc", "localhost:0", "--http", "localhost:0"
    )
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        output = ""
        try:
            for line in process.stdout:
                output += line
                if "type in the read key" in line:
                    break
            found = re.search(r"gRPC on (\S+), HTTP on (\S+)", output)
            assert found is not None
            client = Client(grpc=found[1], http=found[2])
            wait_for(lambda: client.request("GET", "/health/ready")[0] == 200)
            # The write key is in the block to copy, too.
            shown = {scope: _shown_key(scope, output) for scope in Scope}
            assert set(_KEY.findall(output)) == set(shown.values())
            secrets = use(client, shown)
            local = find_service(data_dir)
            assert local is not None
            secrets.append(local_admin_key_of((data_dir / "secret.key").read_bytes(), local.number))
            listed = run_command("keys", "list", "--data-dir", str(data_dir))
            assert listed.returncode == 0
            # While it runs, and when it has written all that it remembers.
            for _ in range(2):
                names = [path.name for path, _ in files_below(data_dir)]
                assert {"secret.key", "lock"} <= set(names)
                for path, content in files_below(data_dir):
                    for secret in secrets:
                        assert not any(text in content for text in spellings(secret)), path
                if process.poll() is None:
                    process.terminate()
                    output += process.stdout.read()
                    assert process.wait(60) == 0
        finally:
            process.kill()
    tables = all_tables(data_dir)
    # The look is at something: what is kept of each key that was made.
    for secret in secrets[:7]:
        assert repr(digest_of(secret)) in tables
    said = log.read_text() + listed.stdout + listed.stderr
    for secret in secrets:
        assert secret not in tables
        assert secret not in said
    # Shown once, by the first start.
    for secret in secrets[3:]:
        assert secret not in output


def _shown_key(scope: Scope, output: str) -> str:
    found = re.search(rf"{scope.value:<5} key +(\S+)", output)
    assert found is not None
    return found[1]


def test_a_second_start_shows_no_key(tmp_path: Path) -> None:
    """There is nothing that could be shown."""
    with service_process(tmp_path) as service:
        assert not _KEY.search(service.output)
        assert service.stop() == 0
    with service_process(tmp_path) as service:
        assert not _KEY.search(service.output)


def test_keys_are_random_and_kept_as_hashes() -> None:
    """256 bits of the operating system's, and no more than their SHA-256."""
    made = {new_secret(Scope.READ) for _ in range(1000)}
    assert len(made) == 1000
    for secret in made:
        assert len(base64.urlsafe_b64decode(f"{secret.partition('_')[2]}=")) == 32
        assert digest_of(secret) == hashlib.sha256(secret.encode()).digest()
    source = Path(keys.__file__).read_text()
    assert "secrets.token_urlsafe" in source
    ring = Path(keys.__file__).with_name("key_ring.py").read_text()
    assert "compare_digest" in ring


def test_what_is_kept_of_a_key_does_not_show() -> None:
    """Its repr, which ends up in logs, is without the hash."""
    now = datetime.now(timezone.utc)
    assert "digest" not in repr(KeyRecord("app", "id", Scope.READ, b"digest" * 5, now))
