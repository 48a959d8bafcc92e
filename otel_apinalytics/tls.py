# SPDX-License-Identifier: Apache-2.0
"""TLS of both listeners, from files that are looked at again for every new connection.

Tools that renew a certificate replace its files one after the other. Files that do not fit together
are therefore not used: what was read before stays until they do.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from otel_apinalytics.errors import ConfigError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates and key lie, as PEM.

    Args:
        certificate: The certificate of both listeners, then those that lead to its CA.
        key: Its private key, not encrypted.
        client_ca: Certificates whose clients are let in; None lets in clients without any.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def state(self) -> tuple[object, ...]:
        """Return something that changes when a file is written, replaced or linked elsewhere."""
        return tuple(_state(path) for path in (self.certificate, self.key, self.client_ca) if path)


@dataclass(frozen=True, slots=True)
class _Material:
    """What both listeners make of the files."""

    http: ssl.SSLContext
    # A `grpc.ServerCertificateConfiguration`.
    grpc: Any


class LiveTls:
    """TLS as the files have it now. May be called by any thread.

    Args:
        files: What to use.

    Raises:
        ConfigError: A file cannot be read or used, or the key is not the certificate's.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._lock = threading.Lock()
        self._warning = ""
        # Taken before reading: a change in between is seen by the next connection.
        self._state = files.state()
        self._newest = _read(files)

    def http_context(self) -> ssl.SSLContext:
        """Return a context that gives every new connection the newest files."""
        return _FollowingContext(self)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that give every new connection the newest files."""
        return grpc.dynamic_ssl_server_credentials(
            self._newest.grpc,
            # Never None for "no change": gRPC does not say which of its ports asks, and a second
            # port that was told so before it had any could not be opened.
            lambda: self.newest().grpc,
            require_client_authentication=self.files.client_ca is not None,
        )

    def newest(self) -> _Material:
        """Return what the files hold, or what they held before if that cannot be used."""
        with self._lock:
            state = self.files.state()
            if state != self._state:
                self._read_again(state)
            return self._newest

    def _read_again(self, state: tuple[object, ...]) -> None:
        try:
            self._newest = _read(self.files)
        except ConfigError as error:
            if str(error) != self._warning:
                self._warning = str(error)
                _logger.warning("TLS stays as it was, until its files can be used: %s", error)
            return
        self._state, self._warning = state, ""
        _logger.info("the TLS files changed; new connections use them")


class _FollowingContext(ssl.SSLContext):
    """Hands each connection to the context of the newest files.

    A context that were loaded again would go on to trust a client CA that was taken out, and so
    would the sessions that a client may resume in it.
    """

    def __new__(cls, tls: LiveTls) -> _FollowingContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: LiveTls) -> None:
        self._tls = tls

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin TLS on a new connection; event loops call this."""
        return self._tls.newest().http.wrap_bio(*args, **kwargs)


class _Connection(ssl.SSLObject):
    """One connection, which ends when we end it."""

    def unwrap(self) -> None:
        """Say goodbye without waiting for the client's answer, as RFC 8446, 6.1 allows.

        A client that only keeps a connection reads nothing, and would hold up a stop.
        """
        with suppress(ssl.SSLWantReadError):
            super().unwrap()


def open_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> LiveTls | None:
    """Return TLS by these settings, or None if none is given.

    Args:
        certificate: The setting `tls_certificate_file`.
        key: The setting `tls_key_file`.
        client_ca: The setting `tls_client_ca_file`.

    Raises:
        ConfigError: One is given without another that it needs, or cannot be used.
    """
    if certificate and key:
        # The process changes its directory later.
        ca = client_ca.absolute() if client_ca else None
        return LiveTls(TlsFiles(certificate.absolute(), key.absolute(), ca))
    paths = {
        "tls_certificate_file": certificate,
        "tls_key_file": key,
        "tls_client_ca_file": client_ca,
    }
    given = [name for name, path in paths.items() if path]
    if not given:
        return None
    missing = [name for name in ("tls_certificate_file", "tls_key_file") if name not in given]
    raise ConfigError(f"{' and '.join(given)} given without {' and '.join(missing)}")


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(files: TlsFiles) -> _Material:
    certificate = _content("tls_certificate_file", files.certificate)
    key = _content("tls_key_file", files.key)
    client_ca = _content("tls_client_ca_file", files.client_ca) if files.client_ca else None
    certified = _certified_key("tls_certificate_file", files.certificate, certificate)
    if certified != _public_key(_private_key(files.key, key)):
        raise ConfigError(
            f"tls_key_file {files.key} is not the key of tls_certificate_file {files.certificate}"
        )
    if files.client_ca and client_ca is not None:
        _certified_key("tls_client_ca_file", files.client_ca, client_ca)
    return _Material(
        _context(files),
        grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca),
    )


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {setting} {path}: {error.strerror}") from error


def _certified_key(setting: str, path: Path, content: bytes) -> bytes:
    """Return the public key of the first certificate."""
    try:
        return _public_key(x509.load_pem_x509_certificates(content)[0])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{setting} {path} holds no usable certificate in PEM") from error


def _private_key(path: Path, content: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise ConfigError(
            f"tls_key_file {path} is encrypted; give the key without a passphrase"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"tls_key_file {path} holds no usable private key in PEM") from error


def _public_key(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    """Return the public key as certificates write it, so that keys of any kind compare."""
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Connection
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _explained(f"tls_certificate_file {files.certificate} with tls_key_file {files.key}"):
        # Without a password, OpenSSL asks at the terminal for that of a key encrypted meanwhile.
        context.load_cert_chain(files.certificate, files.key, password="")
    if files.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        # As gRPC does: a CA that is given is trusted, also if another CA signed it.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        with _explained(f"tls_client_ca_file {files.client_ca}"):
            context.load_verify_locations(files.client_ca)
    return context


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn an error of OpenSSL into one that names the files."""
    try:
        yield
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigError(f"cannot use {what}: {reason.replace('_', ' ').lower()}") from error
