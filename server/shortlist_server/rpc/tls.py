"""TLS: the certificates, read again when their files change; and where plain text may listen."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from shortlist_server import file_watch
from shortlist_server.errors import ConfigError

logger = logging.getLogger(__name__)

Signatures: TypeAlias = tuple[file_watch.Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of the server's side of TLS."""

    certificate: Path
    """The server's chain, its own certificate first."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None
    """Authorities of the certificates that clients must show; None: they need none."""

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file there is."""
        files = (self.certificate, self.key)
        return files if self.client_ca is None else (*files, self.client_ca)


class Certificates:
    """The certificates of the files as they are now. Connections keep the ones they began with."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            ConfigError: a file cannot be read, is no PEM, or the key is not the certificate's.
        """
        self._files = files
        try:
            self._seen: Signatures | None = _signatures(files)
            self._first = _load(files)
        except (OSError, ValueError) as error:
            raise ConfigError(_problem(files, error)) from error

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials by which each new connection gets the files' certificate of then."""
        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._first,
            self.changed,  # type: ignore[arg-type]  # the stubs forget None, for no change
            require_client_authentication=self._files.client_ca is not None,
        )
        return credentials

    def ssl_context(self) -> ssl.SSLContext:
        """Return the same for what speaks TLS by Python's own module.

        Raises:
            ConfigError: the files cannot be used.
        """
        try:
            signature, context = _signatures(self._files), _context(self._files)
        except (OSError, ValueError) as error:
            raise ConfigError(_problem(self._files, error)) from error
        seen, newest = signature, context

        def look(connection: ssl.SSLObject, *_: object) -> None:
            # Called for each new connection, whether it names a server or not.
            nonlocal seen, newest
            with contextlib.suppress(OSError, ValueError):  # `changed` logs them
                signature = _signatures(self._files)
                if signature != seen:
                    newest, seen = _context(self._files), signature
            connection.context = newest

        context.sni_callback = look
        return context

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new certificates if the files have changed and fit together, else None.

        gRPC asks at each new connection, in a thread of its own, one connection at a time. Files
        that are missing, half written or do not fit leave the certificates as they were, and are
        logged once.
        """
        try:
            signature = _signatures(self._files)
        except OSError as error:
            if self._seen is not None:
                logger.warning("the old certificates stay: %s", _problem(self._files, error))
            self._seen = None
            return None
        if signature == self._seen:
            return None
        self._seen = signature
        try:
            certificates = _load(self._files)
            written_meanwhile = _signatures(self._files) != signature
        except (OSError, ValueError) as error:
            logger.warning("the old certificates stay: %s", _problem(self._files, error))
            return None
        if written_meanwhile:
            self._seen = None  # the next connection reads them again
            return None
        logger.info("new certificates from %s", self._files.certificate)
        return certificates


def check_plaintext(listen: str, field: str = "listen") -> None:
    """Check that an address may be listened on without TLS, nobody having allowed it.

    Args:
        listen: HOST:PORT.
        field: Name of the setting that says so.

    Raises:
        ConfigError: other machines could connect to it.
    """
    host = listen.rpartition(":")[0].strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ConfigError(
            f"{field}: expected a loopback address (127.0.0.1, [::1], localhost) without TLS, got "
            f"{listen}; set tls_certificate_file and tls_key_file, or allow_plaintext = true where "
            "something else encrypts, or nobody else is on the network"
        )


def _load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Read the files, and check that they fit: gRPC would refuse them too, but not say why.

    Raises:
        OSError: a file cannot be read; ssl.SSLError: it is no PEM, or they do not fit.
        ValueError: the key has a passphrase.
    """
    _context(files)
    configuration: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(files.key.read_bytes(), files.certificate.read_bytes())],
        None if files.client_ca is None else files.client_ca.read_bytes(),
    )
    return configuration


def _context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context with the files.

    Raises:
        OSError: a file cannot be read; ssl.SSLError: it is no PEM, or they do not fit.
        ValueError: the key has a passphrase.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without a function OpenSSL would ask for a passphrase at the terminal.
    context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    raise ValueError("expected a private key without a passphrase")


def _signatures(files: TlsFiles) -> Signatures:
    """Return what changes when one of the files does."""
    return tuple(map(file_watch.signature, files.all))


def _problem(files: TlsFiles, error: Exception) -> str:
    # An error of ssl names no file.
    names = ", ".join(map(str, files.all))
    fields = "tls_certificate_file, tls_key_file, tls_client_ca_file"
    return f"{fields}: cannot be used ({names}): {error}"
