# SPDX-License-Identifier: Apache-2.0
"""TLS of a running service: who gets in by either listener, renewal, and what cannot start."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import urllib3

from otel_apinalytics.receiver.grpc_server import SERVICE
from tests.support.certificates import Authority, Pair, serial_of
from tests.support.clients import KEY_SETTINGS, WRITE_KEY
from tests.support.otlp import make_request, make_span
from tests.support.service_process import environment, serve_command
from tests.support.waiting import wait_for

CA, CLIENT_CA, STRANGER = Authority("ca"), Authority("clients"), Authority("stranger")
_PORTS = re.compile(r"OTLP/gRPC on \S+:(\d+), HTTP on \S+:(\d+)")


@dataclass(frozen=True, slots=True)
class TlsService:
    """A service that is ready, and its files.

    Args:
        process: Its process.
        grpc: Port of OTLP/gRPC.
        http: Port of HTTP.
        output: What it printed until it was ready.
        files: Where its certificate, key and client CA lie, and its standard error.
    """

    process: subprocess.Popen[str]
    grpc: int
    http: int
    output: str
    files: Path

    def stderr(self) -> str:
        """Return what it logged."""
        return (self.files / "stderr").read_text()

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def export(self, ca: Authority = CA, client: Pair | None = None) -> bytes:
        """Send a span by gRPC, over a new connection."""
        shown = (client.key_pem, client.certificate_pem) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(ca.pem, *shown)
        # Otherwise channels of one process share connections.
        own = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.secure_channel(f"localhost:{self.grpc}", credentials, own) as channel:
            metadata = (("x-auth-key", WRITE_KEY),)
            return exporter(channel)(make_request(make_span()), metadata=metadata, timeout=30)

    def get(self, ca: Authority = CA, client: Pair | None = None) -> int:
        """Return the status of a request by HTTP, over a new connection."""
        with urllib3.PoolManager(
            retries=False, timeout=30.0, ssl_context=ca.client(client)
        ) as pool:
            return pool.request("GET", f"https://localhost:{self.http}/health/ready").status

    def serials(self) -> list[int]:
        """Return the serial numbers that new connections to gRPC and to HTTP get."""
        return [self._serial(self.grpc, "h2"), self._serial(self.http, "http/1.1")]

    def _serial(self, port: int, protocol: str) -> int:
        context = CA.client()
        context.set_alpn_protocols([protocol])
        with connection_to(port, context) as connection:
            return serial_of(connection.getpeercert(binary_form=True))


def connection_to(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection, shaken hands on."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    return context.wrap_socket(plain, server_hostname="localhost")


def ask_ready(connection: ssl.SSLSocket) -> None:
    """Send a request over a connection and read the answer, which keeps it open."""
    connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while b'"ready"' not in answer:
        received = connection.recv(4096)
        assert received, answer
        answer += received
    assert answer.startswith(b"HTTP/1.1 200")


def exporter(channel: grpc.Channel) -> Callable[..., bytes]:
    """Return what sends OTLP requests."""
    call: Callable[..., bytes] = channel.unary_unary(f"/{SERVICE}/Export")
    return call


def write_files(directory: Path, pair: Pair, client_ca: Authority | None = None) -> dict[str, str]:
    """Write what the service needs and return its settings."""
    files = pair.write(directory)
    settings = {
        "tls_certificate_file": str(files.certificate),
        "tls_key_file": str(files.key),
    }
    if client_ca is not None:
        (directory / "ca.pem").write_bytes(client_ca.pem)
        settings["tls_client_ca_file"] = str(directory / "ca.pem")
    return settings


@contextmanager
def tls_service(
    directory: Path, pair: Pair, client_ca: Authority | None = None
) -> Iterator[TlsService]:
    """Run a service with TLS that listens on every address."""
    settings = write_files(directory, pair, client_ca)
    command = serve_command(
        "--data-dir", str(directory / "data"), "--grpc", "0.0.0.0:0", "--http", "0.0.0.0:0"
    )
    with (
        (directory / "stderr").open("w") as stderr,
        subprocess.Popen(
            command,
            env=environment(**{**KEY_SETTINGS, **settings}),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            output = ""
            while "type in the read key" not in output:
                line = process.stdout.readline()
                assert line, (directory / "stderr").read_text()
                output += line
            ports = _PORTS.search(output)
            assert ports is not None
            yield TlsService(process, int(ports[1]), int(ports[2]), output, directory)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsService]:
    """Run a service with TLS; clients show nothing."""
    with tls_service(tmp_path_factory.mktemp("tls"), CA.issue()) as running:
        yield running


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsService]:
    """Run a service that lets in only clients of one CA."""
    with tls_service(tmp_path_factory.mktemp("mtls"), CA.issue(), CLIENT_CA) as running:
        yield running


# ---- who gets in ----


def test_a_client_that_trusts_the_ca_gets_in(service: TlsService) -> None:
    """By both listeners; health is served as everything else."""
    assert service.export() == b""
    assert service.get() == 200


def test_a_client_that_trusts_another_ca_does_not_send(service: TlsService) -> None:
    """It is not our certificate for it."""
    with pytest.raises(grpc.RpcError) as refused:
        service.export(STRANGER)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(urllib3.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        service.get(STRANGER)


@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_tls_1_1_is_refused(service: TlsService, listener: str) -> None:
    """By the service, not by the client's own rules; 1.2 is taken."""
    context = CA.client()
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connection_to(getattr(service, listener), context) as connection:
        assert connection.version() == "TLSv1.2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"EOF|ALERT_PROTOCOL_VERSION"):
        connection_to(getattr(service, listener), context)


@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_clear_text_gets_no_answer(service: TlsService, listener: str) -> None:
    """The connection ends; others go on, and the log is not filled by it."""
    for request in (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"):
        with socket.create_connection(
            ("127.0.0.1", getattr(service, listener)), timeout=30
        ) as plain:
            plain.sendall(request)
            answer = b""
            try:
                while received := plain.recv(1024):
                    answer += received
            except ConnectionResetError:
                pass
        # At most an alert of TLS.
        assert b"HTTP" not in answer
        assert len(answer) < 16
    with pytest.raises(grpc.RpcError), grpc.insecure_channel(f"localhost:{service.grpc}") as other:
        exporter(other)(b"", timeout=5)
    assert service.export() == b""
    assert service.get() == 200
    assert service.stderr() == ""


def test_a_client_of_the_client_ca_gets_in(mutual: TlsService) -> None:
    """By both listeners."""
    assert mutual.export(client=CLIENT_CA.issue()) == b""
    assert mutual.get(client=CLIENT_CA.issue()) == 200


@pytest.mark.parametrize("shown", [None, STRANGER.issue(), CA.issue()])
def test_a_client_without_such_a_certificate_does_not_get_in(
    mutual: TlsService, shown: Pair | None
) -> None:
    """None, one of a CA that nobody knows, one of the CA of our own certificate."""
    with pytest.raises(grpc.RpcError) as refused:
        mutual.export(client=shown)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
        mutual.get(client=shown)
    assert mutual.stderr() == ""


# ---- what is printed ----


def test_the_printed_block_is_for_tls(service: TlsService, mutual: TlsService) -> None:
    """It names the scheme, and the variables of a private CA and of client certificates."""
    for running in (service, mutual):
        assert f"OTEL_EXPORTER_OTLP_ENDPOINT=https://0.0.0.0:{running.grpc}" in running.output
        assert f"https://0.0.0.0:{running.http}/" in running.output
        assert "http://" not in running.output
        (line,) = (line for line in running.output.splitlines() if "OTLP_CERTIFICATE" in line)
        assert line.strip().startswith("#")
    assert "OTLP_CLIENT_KEY" not in service.output
    assert "export OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=" in mutual.output
    assert "export OTEL_EXPORTER_OTLP_CLIENT_KEY=" in mutual.output


# ---- renewal ----


def test_a_renewal_reaches_new_connections_only(tmp_path: Path) -> None:
    """Files change one by one, without a restart; connections of before go on."""
    first, second = CA.issue(), CA.issue()
    with tls_service(tmp_path, first) as running:
        assert running.serials() == [first.serial] * 2
        own = (("grpc.use_local_subchannel_pool", 1),)
        with (
            connection_to(running.http, CA.client()) as http,
            grpc.secure_channel(
                f"localhost:{running.grpc}", grpc.ssl_channel_credentials(CA.pem), own
            ) as channel,
        ):
            states: list[grpc.ChannelConnectivity] = []
            channel.subscribe(states.append, try_to_connect=True)
            wait_for(lambda: grpc.ChannelConnectivity.READY in states)

            def old_connections_go_on() -> None:
                ask_ready(http)
                call = exporter(channel)
                metadata = (("x-auth-key", WRITE_KEY),)
                assert call(make_request(make_span()), metadata=metadata, timeout=30) == b""

            old_connections_go_on()
            (tmp_path / "cert.pem").write_bytes(second.certificate_pem)
            assert running.serials() == [first.serial] * 2
            assert running.get() == 200
            assert running.stderr().count("WARNING") == 1
            assert str(tmp_path / "key.pem") in running.stderr()
            (tmp_path / "key.pem").write_bytes(second.key_pem)
            assert running.serials() == [second.serial] * 2
            old_connections_go_on()
            assert states[-1] is grpc.ChannelConnectivity.READY
            assert len([state for state in states if state is states[-1]]) == 1
        assert running.stderr().count("new connections use them") == 1
        assert running.stop() == 0


def test_a_client_ca_that_is_replaced(tmp_path: Path) -> None:
    """Clients of the new one get in by both listeners, those of the old one no longer."""
    old, new = CLIENT_CA.issue(), STRANGER.issue()
    with tls_service(tmp_path, CA.issue(), CLIENT_CA) as running:
        assert (running.export(client=old), running.get(client=old)) == (b"", 200)
        (tmp_path / "ca.pem").write_bytes(STRANGER.pem)
        assert (running.export(client=new), running.get(client=new)) == (b"", 200)
        with pytest.raises(grpc.RpcError):
            running.export(client=old)
        with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
            running.get(client=old)


def test_a_stop_with_a_client_that_keeps_its_connection(tmp_path: Path) -> None:
    """A client that does not say goodbye costs neither the exit code nor the log."""
    with (
        tls_service(tmp_path, CA.issue()) as running,
        connection_to(running.http, CA.client()) as idle,
    ):
        ask_ready(idle)
        assert running.stop() == 0
        assert running.stderr() == ""


# ---- what cannot start ----


def refused_line(directory: Path, *arguments: str, **settings: str) -> str:
    """Return the one line that a service which cannot start prints."""
    ended = subprocess.run(
        serve_command(
            *("--data-dir", str(directory / "data"), "--grpc", "localhost:0"),
            *("--http", "localhost:0"),
            *arguments,
        ),
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert not (directory / "data").exists()
    return line


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    """One line with setting, file and reason, before anything is made."""
    pair = CA.issue()
    settings = write_files(tmp_path, pair)
    certificate, key = settings["tls_certificate_file"], settings["tls_key_file"]
    assert refused_line(tmp_path, tls_certificate_file=certificate) == (
        "apinalytics: tls_certificate_file given without tls_key_file"
    )
    (tmp_path / "key.pem").write_bytes(CA.issue().key_pem)
    assert refused_line(tmp_path, **settings) == (
        f"apinalytics: tls_key_file {key} is not the key of tls_certificate_file {certificate}"
    )
    (tmp_path / "key.pem").write_bytes(pair.encrypted_key_pem)
    assert f"tls_key_file {key} is encrypted" in refused_line(tmp_path, **settings)
    (tmp_path / "key.pem").unlink()
    assert refused_line(tmp_path, **settings) == (
        f"apinalytics: cannot read tls_key_file {key}: No such file or directory"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--grpc", "0.0.0.0:0"), "grpc = 0.0.0.0:0"),
        (("--http", "0.0.0.0:0"), "http = 0.0.0.0:0"),
        (("--grpc", "0.0.0.0:0", "--http", "0.0.0.0:0"), "grpc = 0.0.0.0:0 and http = 0.0.0.0:0"),
    ],
)
def test_clear_text_for_other_machines_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    """The line says what, why, and both ways out."""
    line = refused_line(tmp_path, *arguments)
    assert f"refusing to listen on {named} without TLS" in line
    for word in ("could read", "tls_certificate_file", "tls_key_file", "--insecure"):
        assert word in line


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_insecure_listens_anywhere(tmp_path: Path, by: str) -> None:
    """For what stands behind something that does TLS."""
    arguments = ["--insecure"] if by == "argument" else []
    settings = {"insecure": "true"} if by == "variable" else {}
    command = serve_command(
        *("--data-dir", str(tmp_path), "--grpc", "0.0.0.0:0", "--http", "0.0.0.0:0"), *arguments
    )
    with subprocess.Popen(
        command, env=environment(**settings), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            ports = _PORTS.search(process.stdout.readline())
            assert ports is not None
            with urllib3.PoolManager(retries=False) as pool:
                url = f"http://127.0.0.1:{ports[2]}/health/live"
                assert pool.request("GET", url).status == 200
        finally:
            process.kill()
