# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from otel_apinalytics.tls import TlsFiles

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a key of the usual kind."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Pair:
    """A certificate with its key.

    Args:
        certificate: The certificate.
        key: Its key.
    """

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as a file has it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as a file has it."""
        return self._key_pem(serialization.NoEncryption())

    @property
    def encrypted_key_pem(self) -> bytes:
        """The key under a passphrase."""
        return self._key_pem(serialization.BestAvailableEncryption(b"passphrase"))

    @property
    def serial(self) -> int:
        """What tells the certificate from others."""
        return self.certificate.serial_number

    def write(self, directory: Path) -> TlsFiles:
        """Write both into files."""
        files = TlsFiles(directory / "cert.pem", directory / "key.pem")
        files.certificate.write_bytes(self.certificate_pem)
        files.key.write_bytes(self.key_pem)
        return files

    def _key_pem(self, encryption: serialization.KeySerializationEncryption) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )


@dataclass(frozen=True)
class Authority:
    """A CA.

    Args:
        name: Its name.
        issuer: The CA that signed it; None for itself.
    """

    name: str
    issuer: Authority | None = None
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def issue(
        self, key: PrivateKey | None = None, name: str = "localhost", days: float = 1
    ) -> Pair:
        """Return a new certificate, for servers on this machine and for clients.

        Args:
            key: Its key; None for a new one.
            name: Whose it is.
            days: For how long it is valid from now on; from a day ago.
        """
        key = key or new_key()
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(name, self.name, key, days).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        return Pair(builder.sign(self.key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        """Its own certificate as a file has it."""
        issuer = self.issuer or self
        builder = _builder(self.name, issuer.name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        certificate = builder.sign(issuer.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return a context that trusts this CA, and shows a certificate if one is given."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if pair is not None:
            show(context, pair)
        return context


def show(context: ssl.SSLContext, pair: Pair) -> None:
    """Let a client show this certificate; OpenSSL takes files only."""
    with tempfile.TemporaryDirectory() as directory:
        files = pair.write(Path(directory))
        context.load_cert_chain(files.certificate, files.key)


def _builder(
    subject: str, issuer: str, key: PrivateKey, days: float = 1
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(days=1),
        not_valid_after=now + datetime.timedelta(days=days),
    )


def serial_of(certificate: bytes | None) -> int:
    """Return the serial number of a certificate that a connection gave."""
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number
