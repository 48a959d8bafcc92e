# SPDX-License-Identifier: Apache-2.0
"""The service: builds the parts from settings, starts and stops them in order."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from otel_apinalytics.addresses import is_loopback, resolve
from otel_apinalytics.api.app import AppParts, create_app
from otel_apinalytics.data_directory import lock_data_directory
from otel_apinalytics.errors import ConfigError, RetryableError
from otel_apinalytics.local_service import (
    LocalService,
    announce,
    local_host,
    new_number,
    withdraw,
)
from otel_apinalytics.normalize.hash_keys import hash_key_text
from otel_apinalytics.query.ledger_totals import LedgerTotals
from otel_apinalytics.receiver.admission import Admission
from otel_apinalytics.receiver.audit_log import AuditLog, erased_entry, made_entries
from otel_apinalytics.receiver.duplicates import Duplicates
from otel_apinalytics.receiver.grpc_server import GrpcServer
from otel_apinalytics.receiver.http_routes import event_routes
from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import (
    SET_ASIDE,
    Limits,
    RequestLog,
    find_segments,
    open_log_directory,
)
from otel_apinalytics.receiver.otlp_http import otlp_routes
from otel_apinalytics.receiver.recovery import digests_of
from otel_apinalytics.receiver.refusals import Refusal, Refusals
from otel_apinalytics.receiver.sealing import (
    duplicates_key_of,
    hash_key_of,
    local_admin_key_of,
    read_or_create_master_key,
)
from otel_apinalytics.receiver.trial import remove_trials
from otel_apinalytics.settings import Settings
from otel_apinalytics.store.applications import Applications
from otel_apinalytics.store.backup import Backups, SecretKey
from otel_apinalytics.store.backup_manifest import check_secret_key
from otel_apinalytics.store.checked_parts import CheckedParts
from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.store.erasures import Erasures
from otel_apinalytics.store.janitor import Janitor
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.key_watch import KeyWatch
from otel_apinalytics.store.keys import Key, Scope
from otel_apinalytics.store.live_loads import LiveLoads
from otel_apinalytics.store.retention_limits import RetentionLimits
from otel_apinalytics.store.schema import migrate
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.tls import TlsFiles, open_tls

_logger = logging.getLogger(__name__)

_HTTP_GRACE_S = 5
# For a backup, until what was acknowledged is loaded.
_FLUSH_TIMEOUT_S = 30.0
_BACKLOG = 1024


class Service:
    """One running service. `start` and `stop` are called by one thread.

    What can fail does so in the constructor, before anything is accepted or keys are made. The
    process works in the data directory from then on: the engine writes a cache of schemas to where
    it works.

    Args:
        settings: What to start with.
        settings_file: The file that they came from, or None.
        reread: Reads them again; the mapping of the file is followed while the service runs.

    Raises:
        ConfigError: A port is taken, TLS cannot be used or is missing where others listen in, the
            data directory cannot be used or is in use, or the database is of a newer program.
    """

    def __init__(
        self,
        settings: Settings,
        settings_file: Path | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self._ready = threading.Event()
        telemetry = Telemetry()
        tls = open_tls(
            settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file
        )
        if tls is None and not settings.insecure:
            _refuse_clear_text(settings)
        self.tls_files = tls.files if tls else None
        self._http_sockets = _bind(settings.http)
        data_dir = settings.data_dir.absolute()
        secret_file = (settings.secret_key_file or data_dir / "secret.key").absolute()
        try:
            self._lock_file = lock_data_directory(data_dir)
            log_directory = data_dir / "log"
            check_secret_key(data_dir, secret_file)
            try:
                master_key = read_or_create_master_key(secret_file)
                self._identity = open_log_directory(log_directory, master_key)
            except OSError as error:
                raise ConfigError(f"cannot use {log_directory}: {error.strerror}") from error
            store_dsn = settings.store_dsn
            loads = LiveLoads(
                settings.mapping,
                settings_file.absolute() if settings_file else None,
                lambda: (reread() if reread else settings).mapping,
            )
            os.chdir(data_dir)
            # What the engine keeps of schemas; a full disk may have cut it.
            shutil.rmtree("__cache__", ignore_errors=True)
            remove_trials(data_dir)
            self.engine = Engine(store_dsn)
            try:
                migrate(self.engine)
                keys = KeyRing(self.engine, telemetry)
                self._key_watch = KeyWatch(keys, is_shared=not self.engine.embedded)
            except (EngineError, OSError) as error:
                raise ConfigError(f"cannot prepare the store: {error}") from error
            self._parts = CheckedParts(self.engine, telemetry)
            # What an earlier process acknowledged and did not load.
            self._earlier = find_segments(log_directory)
            self._loader = Loader(
                self.engine,
                loads,
                functools.partial(hash_key_of, master_key),
                self._identity,
                log_directory,
                lambda *done: self._log.released(*done),
                telemetry,
                self._parts,
            )
            oldest = min((s.opened_at for s in self._earlier), default=time.time())
            try:
                self._ledger = LedgerTotals(self.engine, lambda: self._log.settled_until(), oldest)
            except EngineError as error:
                raise ConfigError(f"cannot read the store: {error}") from error
            telemetry.watch_ledger(self._ledger.read)
            retention = RetentionLimits(self.engine, settings)
            self._janitor = Janitor(self.engine, retention.policy, telemetry, mend=self._mend_parts)
            if settings.log_pending_bytes < settings.max_request_bytes:
                _logger.warning(
                    "max_request_bytes, %d, is more than may wait, log_pending_bytes, %d: such "
                    "requests are always refused",
                    settings.max_request_bytes,
                    settings.log_pending_bytes,
                )
            limits = Limits(
                settings.log_segment_bytes, settings.log_pending_bytes, settings.min_free_bytes
            )
            self._log = RequestLog(
                log_directory,
                self._identity,
                self._loader.submit,
                limits,
                telemetry,
                self.engine.directory,
            )
            self._refusals = Refusals(self._log, telemetry)
            self._audit = AuditLog(self._log, telemetry)
            self._erasures = Erasures(
                self.engine,
                self._settle,
                self._make_durable,
                lambda: len(find_segments(log_directory / SET_ASIDE)),
                lambda receipt: self._audit.keep(erased_entry(receipt)),
            )
            self._duplicates = Duplicates(log_directory, duplicates_key_of(master_key))
            admission = Admission(keys, self._log, self._duplicates, self._refusals, telemetry)
            self._grpc = GrpcServer(
                admission,
                settings.grpc,
                settings.max_request_bytes,
                tls.grpc_credentials() if tls else None,
                self._faults,
            )
            try:
                # Last: keys that are made are shown only once, by whoever gets this object.
                self.first_keys = Applications(keys).ensure(
                    settings.application_id, _given(settings)
                )
            except (EngineError, OSError) as error:
                raise ConfigError(f"cannot write to the store: {error}") from error
        except BaseException:
            _close_all(self._http_sockets)
            raise
        self.grpc_address = f"{settings.grpc.rpartition(':')[0]}:{self._grpc.port}"
        http_port = self._http_sockets[0].getsockname()[1]
        self.http_address = f"{settings.http.rpartition(':')[0]}:{http_port}"
        self._data_dir = data_dir
        url = f"{'https' if tls else 'http'}://{local_host(self.http_address)}"
        self._local = LocalService(url, local_host(self.grpc_address), new_number())
        keys.trust(
            Key(self.first_keys.application, "local", Scope.ADMIN, is_operators=True),
            local_admin_key_of(master_key, self._local.number),
        )
        parts = AppParts(
            engine=self.engine,
            keys=keys,
            query_timeout_s=settings.query_timeout_s,
            settled_until=self._log.settled_until,
            unique_until=self._janitor.merges.unique_until,
            last_refusal=lambda application: _as_json(self._refusals.last(application)),
            pending_bytes=lambda: self._log.pending_bytes,
            exporter_settings=exporter_settings(
                self.grpc_address, self.first_keys.application, "<write key>", self.tls_files
            ),
            ingest_routes=[
                *otlp_routes(admission, settings.max_request_bytes),
                *event_routes(admission, settings.max_request_bytes),
            ],
            trusted_proxies=settings.trusted_proxies,
            cors_origins=settings.cors_origins,
            faults=self._faults,
            telemetry=telemetry,
            audit=self._audit,
            retention=retention,
            erasures=self._erasures,
            backup=Backups(
                self.engine,
                SecretKey(master_key, secret_file.resolve().is_relative_to(data_dir.resolve())),
                self._at_rest,
            ).begin,
            hash_key=lambda application: hash_key_text(hash_key_of(master_key, application)),
        )
        self._http = uvicorn.Server(
            uvicorn.Config(
                create_app(parts),
                log_level="warning",
                access_log=False,
                server_header=False,
                # What any local client may send is not believed.
                proxy_headers=False,
                timeout_graceful_shutdown=_HTTP_GRACE_S,
                # Clients keep connections for a minute; closing earlier looks like lost requests.
                timeout_keep_alive=75,
            )
        )
        if tls is not None:
            # What it would make of files, it would make once.
            self._http.config.load()
            self._http.config.ssl = tls.http_context()
        self._http_thread = threading.Thread(
            target=self._http.run, kwargs={"sockets": self._http_sockets}, name="http"
        )

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Give a time in which what was acknowledged before is loaded, and nothing is being loaded.

        Raises:
            RetryableError: The store is behind.
        """
        self._log.flush(_FLUSH_TIMEOUT_S)
        with self._loader.paused(_FLUSH_TIMEOUT_S):
            yield

    def _settle(self) -> None:
        """Wait until what was acknowledged before is stored, on disk, and never loaded again.

        Raises:
            RetryableError: The store is behind.
        """
        self._audit.flush()
        sequence = self._log.flush(_FLUSH_TIMEOUT_S)
        self._loader.wait_until_gone(sequence, _FLUSH_TIMEOUT_S)

    def _make_durable(self) -> None:
        """Put on disk what the store has, and check it.

        Raises:
            RetryableError: The disk lost some of it.
        """
        self.engine.sync()
        if self._mend_parts():
            raise RetryableError("the disk lost some of what was written; ask again")

    def _mend_parts(self) -> bool:
        """Check what the engine wrote by itself, by merges above all; return whether it was bad."""
        damaged = self._parts.damaged_tables()
        if damaged:
            with self._loader.paused(_FLUSH_TIMEOUT_S):
                self._parts.take_out(damaged)
        return bool(damaged)

    def _faults(self) -> list[str]:
        """Return what keeps requests from being taken, in words."""
        if not self._ready.is_set():
            return ["the service is starting or stopping"]
        return [
            *self._log.faults(),
            *self._loader.faults(),
            *self._refusals.faults(),
            *self._audit.faults(),
            *self._janitor.faults(),
            *self._key_watch.faults(),
        ]

    def start(self) -> None:
        """Accept and answer requests from now on."""
        # Before the loader deletes them.
        self._duplicates.remember(digests_of(self._earlier, self._identity))
        self._loader.start()
        self._log.start(self._earlier)
        self._refusals.start()
        self._audit.start()
        for entry in made_entries(self.first_keys):
            self._audit.note(entry)
        self._janitor.start()
        self._key_watch.start()
        for segment in self._earlier:
            self._loader.submit(segment)
        self._grpc.start()
        self._http_thread.start()
        while not self._http.started and self._http_thread.is_alive():
            time.sleep(0.01)
        if not self._http.started:
            raise ConfigError(f"HTTP could not be started on {self.http_address}")
        with contextlib.suppress(OSError):
            # Commands need another way to find it, then.
            announce(self._data_dir, self._local)
        self._ready.set()

    def stop(self) -> None:
        """Stop accepting, finish what was accepted, load it, and close the store."""
        self._ready.clear()
        withdraw(self._data_dir)
        self._erasures.stop()
        self._http.should_exit = True
        self._grpc.close()
        if self._http_thread.is_alive():
            self._http_thread.join()
        _close_all(self._http_sockets)
        self._janitor.close()
        self._key_watch.close()
        self._refusals.close()
        self._audit.close()
        self._log.close()
        self._erasures.close()
        self._duplicates.close()
        self._loader.close()
        self._ledger.close()
        self.engine.close()
        self._lock_file.close()


def exporter_settings(
    grpc_address: str, application: str, write_key: str, tls: TlsFiles | None = None
) -> str:
    """Return the variables that point any OpenTelemetry SDK at the service.

    Args:
        grpc_address: Where OTLP/gRPC listens.
        application: The application's id.
        write_key: Its write key, or what stands for it.
        tls: What it serves TLS with, or None.
    """
    lines = [
        f"export OTEL_EXPORTER_OTLP_ENDPOINT={'https' if tls else 'http'}://{grpc_address}",
        "export OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
        f'export OTEL_EXPORTER_OTLP_HEADERS="x-auth-user={application},x-auth-key={write_key}"',
    ]
    if tls:
        lines.append("# For a private CA: export OTEL_EXPORTER_OTLP_CERTIFICATE=/path/to/ca.pem")
    if tls and tls.client_ca:
        lines += [
            "export OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=/path/to/client.pem",
            "export OTEL_EXPORTER_OTLP_CLIENT_KEY=/path/to/client.key",
        ]
    return "\n".join(lines)


def _given(settings: Settings) -> dict[Scope, str]:
    secrets = {
        Scope.WRITE: settings.write_key,
        Scope.READ: settings.read_key,
        Scope.ADMIN: settings.admin_key,
    }
    return {scope: secret.get_secret_value() for scope, secret in secrets.items() if secret}


def _as_json(refusal: Refusal | None) -> dict[str, Any] | None:
    if refusal is None:
        return None
    return {
        "at": refusal.at.isoformat(timespec="seconds"),
        "transport": refusal.transport,
        "kind": refusal.kind,
        "reason": refusal.reason,
        "key_id": refusal.key_id,
    }


def _refuse_clear_text(settings: Settings) -> None:
    """Raise ConfigError if keys and data would pass over a network in clear."""
    listeners = {"grpc": settings.grpc, "http": settings.http}
    reachable = [name for name, address in listeners.items() if not is_loopback(address)]
    if reachable:
        named = " and ".join(f"{name} = {listeners[name]}" for name in reachable)
        raise ConfigError(
            f"refusing to listen on {named} without TLS, for others could read keys and data; set "
            "tls_certificate_file and tls_key_file, or give --insecure if something in front does "
            "TLS"
        )


def _bind(address: str) -> list[socket.socket]:
    """Return a listening socket for each address that the host name stands for, on one port."""
    bound: list[socket.socket] = []
    try:
        for found in resolve(address):
            listener = socket.socket(found.family, socket.SOCK_STREAM)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if found.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Port 0 is chosen once, by the first.
            port = bound[0].getsockname()[1] if len(bound) > 1 else found.port
            listener.bind((found.host, port))
            listener.listen(_BACKLOG)
    except OSError as error:
        _close_all(bound)
        raise ConfigError(f"cannot listen on {address} for HTTP: {error.strerror}") from error
    return bound


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for item in sockets:
        item.close()
