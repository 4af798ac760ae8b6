"""How each kind of object store is reached: whose credentials, which endpoint, and how long a request may take.

Amazon's credentials, region and endpoint are looked up by botocore, as every AWS tool does (variables, profiles, roles); those of the
others by obstore. Nothing of them is kept or shown here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from groupwise.publishing.address import Address
from groupwise.publishing.object_store.store_errors import masked
from multilevel.errors import PublishError

CONNECT_SECONDS, READ_SECONDS = 5, 60
# One request that sends a file, or a part of one; and one that gives back a large object, which moves all the time.
UPLOAD_SECONDS, DOWNLOAD_SECONDS = 600, 3_600
# No try begins later than this: a request is signed once, and stores refuse old signatures.
RETRY_SECONDS = 180
LONGEST_PAUSE_SECONDS = 2
# Botocore renews keys that end within ten minutes whenever it is asked for them.
KEYS_KEPT = timedelta(minutes=5)


@dataclass(frozen=True)
class Clients:
    """Two clients of one store: an upload takes as long as its bytes, while a store that is silent for a minute does not answer."""

    requests: Any
    uploads: Any


def require_library(root: Address) -> None:
    """PublishError where the extra is not installed."""
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        raise _not_installed(root, "obstore") from error


def open_clients(root: Address, tries: int) -> Clients:
    """Clients for everything below an address; ``tries`` of a request at most."""
    store, settings, options = KINDS[root.scheme](root)
    pauses = {"max_backoff": timedelta(seconds=LONGEST_PAUSE_SECONDS)}
    retry = {"max_retries": tries - 1, "retry_timeout": timedelta(seconds=RETRY_SECONDS), "backoff": pauses}
    options |= {"connect_timeout": timedelta(seconds=CONNECT_SECONDS)}
    silent = {"read_timeout": timedelta(seconds=READ_SECONDS), "timeout": timedelta(seconds=DOWNLOAD_SECONDS)}
    sending = {"timeout": timedelta(seconds=UPLOAD_SECONDS)}
    common = settings | {"prefix": root.key or None, "retry_config": retry}
    return Clients(*(store(root.bucket, client_options=options | limits, **common) for limits in (silent, sending)))


type Kind = tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]


def _s3(root: Address) -> Kind:
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise _not_installed(root, "boto3") from error
    from obstore.store import S3Store

    try:
        session = Session()
        if session.get_credentials() is None:
            raise PublishError(f"{root}: no credentials; set {root.kind.credentials}, or {root.kind.login}.")
        found = session.create_client("s3").meta
        provider = Boto3CredentialProvider(session, ttl=KEYS_KEPT)
    except (BotoCoreError, ValueError) as error:
        raise PublishError(
            f"{root}: {masked(str(error))}; check the AWS_* variables, and the files that AWS_PROFILE names a part of."
        ) from error
    # one object a request: some servers do not know the request that removes many
    config = {"aws_endpoint_url_s3": found.endpoint_url, "region": found.region_name, "disable_bulk_delete": True}
    options: dict[str, Any] = {"allow_http": _is_plain(found.endpoint_url)}
    bundle = session.get_config_variable("ca_bundle")
    if bundle:
        options |= {"root_certificate": _certificates(root, bundle)}
    return S3Store, {"config": config, "credential_provider": provider}, options


def _gs(root: Address) -> Kind:
    from obstore.store import GCSStore

    return GCSStore, {}, {"allow_http": _is_plain(os.environ.get(root.kind.endpoint))}


def _az(root: Address) -> Kind:
    from obstore.store import AzureStore

    return AzureStore, {}, {"allow_http": _is_plain(os.environ.get(root.kind.endpoint))}


KINDS: dict[str, Callable[[Address], Kind]] = {"s3": _s3, "gs": _gs, "az": _az}
"""By scheme: a class of obstore, its settings, and its client's options."""


def _is_plain(endpoint: str | None) -> bool:
    return endpoint is not None and endpoint.startswith("http://")


def _certificates(root: Address, bundle: str) -> bytes:
    try:
        found = Path(bundle).read_bytes()
    except OSError as error:
        raise PublishError(f"{root}: the certificates of AWS_CA_BUNDLE cannot be read ({error}).") from error
    if b"BEGIN CERTIFICATE" not in found:
        raise PublishError(f"{root}: AWS_CA_BUNDLE {bundle} holds no certificates (PEM).")
    return found


def _not_installed(root: Address, library: str) -> PublishError:
    return PublishError(
        f"publish_to {root}: object storage needs {library}, which is not installed: pip install 'groupwise[object-storage]'"
    )
