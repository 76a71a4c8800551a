"""What the configuration says of who may connect and call."""

from __future__ import annotations

import logging

from shortlist_server.access.api_keys import KeyStore, MakeBucket
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError
from shortlist_server.rpc.access import Access
from shortlist_server.rpc.tls import Certificates, TlsFiles, check_plaintext

logger = logging.getLogger(__name__)


def refuse_early(config: ServerConfig) -> None:
    """Refuse what would be refused when the server is made, before a bundle is loaded.

    Raises:
        ConfigError: as the functions below.
    """
    if certificates(config) is None and config.allow_plaintext and config.api_keys_file is not None:
        logger.warning("allow_plaintext: API keys are sent so that the network can read them")
    make_access(config)


def certificates(config: ServerConfig) -> Certificates | None:
    """Return the certificates to listen with; None for plain text.

    Raises:
        ConfigError: the files cannot be used, one is missing, or plain text is not allowed there.
    """
    certificate, key = config.tls_certificate_file, config.tls_key_file
    if certificate is None and key is None and config.tls_client_ca_file is None:
        if not config.allow_plaintext:
            check_plaintext(config.listen)
            if config.http_listen is not None:
                check_plaintext(config.http_listen, "http_listen")
        return None
    if certificate is None or key is None:
        missing = "tls_certificate_file" if certificate is None else "tls_key_file"
        raise ConfigError(f"{missing}: expected a file, since TLS is configured, got none")
    files = TlsFiles(certificate=certificate, key=key, client_ca=config.tls_client_ca_file)
    return Certificates(files)


def make_access(config: ServerConfig, make_bucket: MakeBucket | None = None) -> Access:
    """Return who may call.

    Args:
        config: The configuration.
        make_bucket: Makes the rate limit of a key; None for one that this process has alone.

    Raises:
        ConfigError: the file of API keys cannot be used.
    """
    if config.api_keys_file is None:
        return Access(None)
    return Access(KeyStore(config.api_keys_file, make_bucket=make_bucket))
