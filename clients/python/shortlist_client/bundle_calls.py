"""The calls that list bundles and switch between them; as in `calls`. Their API key needs the scope
`admin`.
"""

from __future__ import annotations

from datetime import UTC

from shortlist.v1 import bundle_pb2

from shortlist_client import results
from shortlist_client.call import Call, checked_request_id, own_timeout_s
from shortlist_client.responses import bundle_id_from_proto
from shortlist_client.values import optional_flag, optional_text


def list_bundles(
    *, timeout_s: float | None = None, request_id: str | None = None
) -> Call[
    bundle_pb2.ListBundlesRequest, bundle_pb2.ListBundlesResponse, tuple[results.BundleEntry, ...]
]:
    """Return the bundles that the server can switch to, by name, newest first.

    Args:
        timeout_s: Deadline of this call. None: the client's. Bundles that the server has not seen
            before are read as a whole.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.ListBundles,
        request=bundle_pb2.ListBundlesRequest(),
        read=_entries_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def activate_bundle(
    *,
    name: str | None = None,
    version: str | None = None,
    sha256: str | None = None,
    validate_only: bool | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    bundle_pb2.ActivateBundleRequest, bundle_pb2.ActivateBundleResponse, results.BundleSwitch
]:
    """Switch to a bundle, which is loaded and verified beside the one that serves. No call fails by
    it; it goes on where this call is given up.

    Args:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: SHA-256 of the bundle, alone or beside them.
        validate_only: Load and verify it, and leave it at that.
        timeout_s: Deadline of this call: loading takes seconds to minutes. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.ActivateBundle,
        request=bundle_pb2.ActivateBundleRequest(
            name=optional_text(name, "name"),
            version=optional_text(version, "version"),
            sha256=optional_text(sha256, "sha256"),
            validate_only=optional_flag(validate_only, "validate_only"),
        ),
        read=_switch_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def roll_back_bundle(
    *, timeout_s: float | None = None, request_id: str | None = None
) -> Call[
    bundle_pb2.RollBackBundleRequest, bundle_pb2.RollBackBundleResponse, results.BundleSwitch
]:
    """Switch to the bundle that was active before.

    Args:
        timeout_s: Deadline of this call: loading takes seconds to minutes. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.RollBackBundle,
        request=bundle_pb2.RollBackBundleRequest(),
        read=_rolled_back_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def _entries_from_proto(
    response: bundle_pb2.ListBundlesResponse,
) -> tuple[results.BundleEntry, ...]:
    return tuple(
        results.BundleEntry(
            folder=entry.folder,
            id=bundle_id_from_proto(entry.id) if entry.HasField("id") else None,
            create_time=entry.create_time.ToDatetime(tzinfo=UTC)
            if entry.HasField("create_time")
            else None,
            active=entry.active,
            problem=entry.problem,
        )
        for entry in response.bundles
    )


def _switch_from_proto(response: bundle_pb2.ActivateBundleResponse) -> results.BundleSwitch:
    return results.BundleSwitch(
        bundle=bundle_id_from_proto(response.bundle),
        previous=bundle_id_from_proto(response.previous) if response.HasField("previous") else None,
        switched=response.switched,
    )


def _rolled_back_from_proto(response: bundle_pb2.RollBackBundleResponse) -> results.BundleSwitch:
    return results.BundleSwitch(
        bundle=bundle_id_from_proto(response.bundle),
        previous=bundle_id_from_proto(response.previous),
        switched=True,
    )
