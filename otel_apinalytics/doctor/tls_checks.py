# SPDX-License-Identifier: Apache-2.0
"""Checks of TLS: who signed the certificate, whose name it has, and until when it is valid."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from urllib.parse import urlsplit

from cryptography import x509

from otel_apinalytics.doctor.checks import Check, Target, failed, ok, skipped

_TIMEOUT_S = 10.0
# Time enough to renew it by hand.
_MIN_DAYS = 14
_PORTS = {"http": 80, "https": 443}


def check_tls(target: Target) -> Iterator[Check]:
    """Say of both listeners whether their certificates can be trusted."""
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    if not target.has_tls:
        if _is_this_machine(host):
            yield skipped("tls", "none, and none is needed on this machine")
        else:
            yield skipped("tls", "none: whoever is in between can read keys and data")
        return
    yield _certificate(target, "tls of http", host, parts.port or _PORTS["https"], "http/1.1")
    grpc_host, _, grpc_port = target.grpc.rpartition(":")
    if grpc_port.isdigit():
        yield _certificate(target, "tls of grpc", grpc_host.strip("[]"), int(grpc_port), "h2")


def _is_this_machine(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def _certificate(target: Target, name: str, host: str, port: int, protocol: str) -> Check:
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:
        return failed(name, f"cannot use {target.ca_file}: {error}", "name a file in PEM")
    try:
        certificate = _certificate_at(host, port, context, protocol)
    except ssl.SSLCertVerificationError as error:
        return _not_trusted(name, error, _unverified(host, port, protocol))
    except ssl.SSLError as error:
        reason = str(error.reason or error).replace("_", " ").lower()
        return failed(
            name, f"{host}:{port} does no TLS that works here: {reason}", "is it http://?"
        )
    except OSError as error:
        return failed(
            name, f"{host}:{port} cannot be reached: {error.strerror or error}", "is it the port?"
        )
    left = certificate.not_valid_after_utc - datetime.now(timezone.utc)
    until = f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
    if left.days < _MIN_DAYS:
        return failed(
            name,
            f"the certificate is {until}, for {left.days} days more",
            "renew it; the service takes new files without a restart",
        )
    return ok(name, f"the certificate is for {host}, its CA is trusted, {until}")


def _not_trusted(
    name: str, error: ssl.SSLCertVerificationError, certificate: x509.Certificate | None
) -> Check:
    said = error.verify_message.rstrip(".").lower()
    if "expired" in said and certificate:
        at = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        return failed(
            name, f"the certificate expired on {at}", "renew it; no restart is needed for that"
        )
    if "mismatch" in said and certificate:
        names = ", ".join(_names(certificate)) or "nobody"
        return failed(
            name,
            f"{said}; it is for {names}",
            "use one of these names, or have a certificate made for the one that is used",
        )
    return failed(
        name, f"the certificate is not trusted: {said}", "a private CA is named by --ca-file"
    )


def _unverified(host: str, port: int, protocol: str) -> x509.Certificate | None:
    """Return a certificate that is not trusted, to say what is in it; nothing else is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return _certificate_at(host, port, context, protocol)
    except OSError:
        return None


def _certificate_at(
    host: str, port: int, context: ssl.SSLContext, protocol: str
) -> x509.Certificate:
    context.set_alpn_protocols([protocol])
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]
