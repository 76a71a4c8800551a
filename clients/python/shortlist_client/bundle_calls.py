"""The calls that list bundles and switch between them; as in `calls`. Their API key needs the scope
`admin`.
"""

from __future__ import annotations

from datetime import UTC

from shortlist.v1 import bundle_pb2

from shortlist_client import results
from shortlist_client.call import Call, checked_request_id, own_timeout_s
from shortlist_client.responses import bundle_id_from_proto
from shortlist_client.values import optional_flag, optional_text, text


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
    label: str | None = None,
    validate_only: bool | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    bundle_pb2.ActivateBundleRequest, bundle_pb2.ActivateBundleResponse, results.BundleSwitch
]:
    """Give a label to a bundle, which is loaded and verified beside what serves. No call fails by
    it; it goes on where this call is given up.

    Args:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: SHA-256 of the bundle, alone or beside them.
        label: What it is to be, `stable`, `canary` or `shadow`; it loses the label that it had.
            None: `stable`.
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
            label=optional_text(label, "label"),
        ),
        read=_switch_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def roll_back_bundle(
    *, label: str | None = None, timeout_s: float | None = None, request_id: str | None = None
) -> Call[
    bundle_pb2.RollBackBundleRequest, bundle_pb2.RollBackBundleResponse, results.BundleSwitch
]:
    """Give a label to the bundle that had it before.

    Args:
        label: `stable`, `canary` or `shadow`. None: `stable`.
        timeout_s: Deadline of this call: loading takes seconds to minutes. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.RollBackBundle,
        request=bundle_pb2.RollBackBundleRequest(label=optional_text(label, "label")),
        read=_rolled_back_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def deactivate_bundle(
    label: str, *, timeout_s: float | None = None, request_id: str | None = None
) -> Call[
    bundle_pb2.DeactivateBundleRequest,
    bundle_pb2.DeactivateBundleResponse,
    results.BundleId | None,
]:
    """Take a label away from the bundle that has it; returns that, or None where none has it.

    Args:
        label: `canary` or `shadow`. There is always a stable bundle.
        timeout_s: Deadline of this call: what serves is loaded again. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.DeactivateBundle,
        request=bundle_pb2.DeactivateBundleRequest(label=text(label, "label")),
        read=_previous_from_proto,
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
            labels=tuple(entry.labels),
            problem=entry.problem,
        )
        for entry in response.bundles
    )


def _switch_from_proto(response: bundle_pb2.ActivateBundleResponse) -> results.BundleSwitch:
    return results.BundleSwitch(
        bundle=bundle_id_from_proto(response.bundle),
        previous=_previous_from_proto(response),
        switched=response.switched,
    )


def _rolled_back_from_proto(response: bundle_pb2.RollBackBundleResponse) -> results.BundleSwitch:
    return results.BundleSwitch(
        bundle=bundle_id_from_proto(response.bundle),
        previous=_previous_from_proto(response),
        switched=True,
    )


def _previous_from_proto(
    response: bundle_pb2.ActivateBundleResponse
    | bundle_pb2.RollBackBundleResponse
    | bundle_pb2.DeactivateBundleResponse,
) -> results.BundleId | None:
    return bundle_id_from_proto(response.previous) if response.HasField("previous") else None
