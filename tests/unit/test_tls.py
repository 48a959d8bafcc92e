# SPDX-License-Identifier: Apache-2.0
"""Tests of TLS by files: what is refused, who is trusted, and what a change of the files does."""

from __future__ import annotations

import logging
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from otel_apinalytics.addresses import is_loopback
from otel_apinalytics.errors import ConfigError
from otel_apinalytics.tls import LiveTls, TlsFiles, open_tls
from tests.support.certificates import Authority, new_key, serial_of

CA, OTHER_CA = Authority("ca"), Authority("other")


# ---- one connection, in memory ----


def connect(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """Return the client's side of a new connection, after both sides have finished.

    Raises:
        ssl.SSLError: One side does not accept the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [ours, theirs]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    # Sessions to resume come with the first bytes.
    theirs.write(b"x")
    assert ours.read(1) == b"x"
    return ours


def served_serial(tls: LiveTls) -> int:
    """Return the serial number that a new HTTP connection gets."""
    return serial_of(connect(tls.http_context(), CA.client()).getpeercert(binary_form=True))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("c", ["tls_certificate_file given without tls_key_file"]),
        ("k", ["tls_key_file given without tls_certificate_file"]),
        ("a", ["tls_client_ca_file given without tls_certificate_file and tls_key_file"]),
        ("ca", ["tls_certificate_file and tls_client_ca_file given without tls_key_file"]),
    ],
)
def test_a_setting_without_the_other_is_refused(
    tmp_path: Path, given: str, words: list[str]
) -> None:
    """Half of TLS would be none, or none of what was meant."""
    paths = [tmp_path / name if name in given else None for name in "cka"]
    with pytest.raises(ConfigError) as refused:
        open_tls(*paths)
    for word in words:
        assert word in str(refused.value)


def test_no_setting_is_no_tls() -> None:
    """The default."""
    assert open_tls(None, None, None) is None


@pytest.mark.parametrize("missing", ["certificate", "key", "client_ca"])
def test_a_missing_file_is_refused(tmp_path: Path, missing: str) -> None:
    """The error names setting, file and reason; a directory is no file either."""
    files = CA.issue().write(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA.pem)
    paths = {"certificate": files.certificate, "key": files.key, "client_ca": ca}
    paths[missing].unlink()
    with pytest.raises(ConfigError) as refused:
        open_tls(**paths)
    assert str(refused.value) == (
        f"cannot read tls_{missing}_file {paths[missing]}: No such file or directory"
    )
    paths[missing].mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        open_tls(**paths)


@pytest.mark.parametrize("broken", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, broken: str, content: bytes) -> None:
    """The error names setting and file, and shows nothing of what is in it."""
    files = CA.issue().write(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA.pem)
    paths = {"certificate": files.certificate, "key": files.key, "client_ca": ca}
    paths[broken].write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        open_tls(**paths)
    assert str(refused.value).startswith(f"tls_{broken}_file {paths[broken]} holds no usable ")


@pytest.mark.parametrize("kind", ["same", "other"])
def test_a_key_of_another_certificate_is_refused(tmp_path: Path, kind: str) -> None:
    """Whatever kind of key the other one is."""
    files = CA.issue().write(tmp_path)
    key = new_key() if kind == "same" else rsa.generate_private_key(65537, 2048)
    files.key.write_bytes(CA.issue(key).key_pem)
    with pytest.raises(ConfigError) as refused:
        LiveTls(files)
    assert str(refused.value) == (
        f"tls_key_file {files.key} is not the key of tls_certificate_file {files.certificate}"
    )


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    """Nobody is there to type a passphrase."""
    pair = CA.issue()
    files = pair.write(tmp_path)
    files.key.write_bytes(pair.encrypted_key_pem)
    with pytest.raises(ConfigError, match=rf"{files.key} is encrypted"):
        LiveTls(files)


def test_a_weak_key_is_refused(tmp_path: Path) -> None:
    """The reason is that of OpenSSL."""
    files = CA.issue(rsa.generate_private_key(65537, 1024)).write(tmp_path)  # noqa: S505 - is what it is about
    with pytest.raises(ConfigError, match=rf"{files.certificate} with .*key too small"):
        LiveTls(files)


def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service changes its directory after the start."""
    pair = CA.issue()
    pair.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    tls = open_tls(Path("cert.pem"), Path("key.pem"), None)
    assert tls is not None
    monkeypatch.chdir("/")
    renewed = CA.issue()
    renewed.write(tmp_path)
    assert served_serial(tls) == renewed.serial


# ---- who is trusted ----


def test_a_client_of_an_intermediate_ca(tmp_path: Path) -> None:
    """A CA that is given is trusted, also without the one above it; that one's others are not."""
    root = Authority("root")
    between = Authority("between", root)
    (tmp_path / "ca.pem").write_bytes(between.pem)
    files = CA.issue().write(tmp_path)
    server = LiveTls(TlsFiles(files.certificate, files.key, tmp_path / "ca.pem")).http_context()
    connect(server, CA.client(between.issue()))
    for stranger in (CA.client(root.issue()), CA.client()):
        with pytest.raises(ssl.SSLError):
            connect(server, stranger)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_a_ca_that_was_taken_out_is_not_trusted(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Nor are its clients that resume a session from before."""
    (tmp_path / "ca.pem").write_bytes(OTHER_CA.pem + CA.pem)
    files = CA.issue().write(tmp_path)
    server = LiveTls(TlsFiles(files.certificate, files.key, tmp_path / "ca.pem")).http_context()
    client = CA.client(OTHER_CA.issue())
    client.maximum_version = version
    before = connect(server, client).session
    assert connect(server, client, before).session_reused
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    for session in (before, None):
        with pytest.raises(ssl.SSLError):
            connect(server, client, session)
    connect(server, CA.client(CA.issue()))


def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    """By our side, and for its version: the same client may speak 1.2."""
    server = LiveTls(CA.issue().write(tmp_path)).http_context()
    client = CA.client()
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert connect(server, client).version() == "TLSv1.2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        connect(server, client)


# ---- a change of the files ----


def test_new_connections_get_a_new_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so; files that are only touched change nothing that a client sees."""
    caplog.set_level(logging.INFO)
    first, second = CA.issue(), CA.issue()
    files = first.write(tmp_path)
    tls = LiveTls(files)
    assert [served_serial(tls), served_serial(tls)] == [first.serial, first.serial]
    assert caplog.messages == []
    second.write(tmp_path)
    assert [served_serial(tls), served_serial(tls)] == [second.serial, second.serial]
    assert caplog.messages == ["the TLS files changed; new connections use them"]
    files.key.touch()
    assert served_serial(tls) == second.serial


def test_a_pair_that_does_not_match_yet_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old one stays, with one warning, until the second file is there too."""
    first, second = CA.issue(), CA.issue()
    files = first.write(tmp_path)
    tls = LiveTls(files)
    files.certificate.write_bytes(second.certificate_pem)
    assert [served_serial(tls) for _ in range(3)] == [first.serial] * 3
    (warning,) = caplog.messages
    assert "TLS stays as it was" in warning
    assert str(files.key) in warning
    files.key.write_bytes(second.key_pem)
    assert served_serial(tls) == second.serial


def test_files_that_are_away_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each reason is said once, and again when it comes back after a success."""
    pair = CA.issue()
    files = pair.write(tmp_path)
    tls = LiveTls(files)
    for _ in range(2):
        caplog.clear()
        files.key.unlink()
        assert served_serial(tls) == served_serial(tls) == pair.serial
        assert len(caplog.messages) == 1
        files.key.write_bytes(b"half of i")
        assert served_serial(tls) == served_serial(tls) == pair.serial
        assert len(caplog.messages) == 2
        files.key.write_bytes(pair.key_pem)
        assert served_serial(tls) == pair.serial


def test_a_link_that_is_swapped(tmp_path: Path) -> None:
    """As container platforms renew: all files at once, behind one link."""
    pairs = [CA.issue(), CA.issue()]
    for number, pair in enumerate(pairs):
        (tmp_path / str(number)).mkdir()
        pair.write(tmp_path / str(number))
    (tmp_path / "now").symlink_to("0")
    tls = LiveTls(TlsFiles(tmp_path / "now" / "cert.pem", tmp_path / "now" / "key.pem"))
    assert served_serial(tls) == pairs[0].serial
    (tmp_path / "next").symlink_to("1")
    (tmp_path / "next").rename(tmp_path / "now")
    assert served_serial(tls) == pairs[1].serial


def test_each_grpc_port_follows_the_files(tmp_path: Path) -> None:
    """A host name may stand for several addresses, and gRPC asks for each by itself."""
    first, second = CA.issue(), CA.issue()
    tls = LiveTls(first.write(tmp_path))
    credentials = tls.grpc_credentials()
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        ports = [server.add_secure_port("127.0.0.1:0", credentials) for _ in range(2)]
        server.start()
        assert [_serial_at(port) for port in ports * 2] == [first.serial] * 4
        second.write(tmp_path)
        assert [_serial_at(port) for port in ports * 2] == [second.serial] * 4
        server.stop(None).wait()


def _serial_at(port: int) -> int:
    context = CA.client()
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return serial_of(connection.getpeercert(binary_form=True))


# ---- what is reachable by others ----


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:0", True),
        ("127.0.0.1:0", True),
        ("127.8.9.10:0", True),
        (":0", True),
        ("0.0.0.0:0", False),
        ("[::]:0", False),
    ],
)
def test_is_loopback(address: str, expected: bool) -> None:
    """Only what other machines cannot reach."""
    try:
        found = is_loopback(address)
    except ConfigError:
        pytest.skip("this machine does not have the address")
    assert found is expected
