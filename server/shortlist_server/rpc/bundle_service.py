"""BundleService: what is being served, and what to serve instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grpc
from shortlist.v1 import bundle_pb2 as pb
from shortlist.v1 import bundle_pb2_grpc, types_pb2

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.errors import FieldRequired, InvalidValue, NotConfigured

_SHA256 = re.compile(r"[0-9a-f]{64}")
BESIDE = [label for label in BundleLabel if label is not BundleLabel.STABLE]


class BundleControl(Protocol):
    """Switches between bundles, for all processes of a server.

    A bundle is described by a mapping: `name`, `version`, `sha256`, and, where it is listed,
    `folder`, `created` (RFC 3339), `labels` and `problem`; the first four and `created` may be "".
    """

    async def list_bundles(self) -> list[Mapping[str, Any]]:
        """Return the bundles that there are, newest first."""
        ...

    async def activate(
        self, *, name: str, version: str, sha256: str, label: str, validate_only: bool
    ) -> Mapping[str, Any]:
        """Give a label to a bundle; returns `bundle`, `previous` (or None) and `switched`.

        Raises:
            BundleError: it cannot be served.
            InvalidValue: the label would be taken from the stable bundle, which keeps it.
            SwitchUnderWay: another switch has not ended.
            NotConfigured: there is nowhere to take it from, or nothing that a shadow is seen by.
        """
        ...

    async def roll_back(self, *, label: str) -> Mapping[str, Any]:
        """Give a label to the bundle that had it before; returns and raises like `activate`."""
        ...

    async def deactivate(self, *, label: str) -> Mapping[str, Any]:
        """Take a label away; returns `previous`, None where no bundle had it.

        Raises:
            BundleError: what serves beside it cannot be loaded again.
            SwitchUnderWay: another switch has not ended.
        """
        ...


class BundleService(bundle_pb2_grpc.BundleServiceServicer):
    """Describes the bundle that answers, and switches to others."""

    def __init__(
        self,
        active: pb.BundleInfo,
        others: Sequence[pb.LabeledBundle] = (),
        control: BundleControl | None = None,
    ) -> None:
        """Take the descriptions of the stable bundle, and of those under other labels, and who
        switches; None: nobody does.
        """
        self._active = active
        self._others = others
        self._control_or_none = control

    @property
    def _control(self) -> BundleControl:
        if self._control_or_none is None:
            raise NotConfigured(setting="workers", expected="1 or more, to switch bundles")
        return self._control_or_none

    async def GetActiveBundle(
        self, request: pb.GetActiveBundleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetActiveBundleResponse:
        """Describe the bundle that answers now."""
        return pb.GetActiveBundleResponse(bundle=self._active, others=self._others)

    async def ListBundles(
        self, request: pb.ListBundlesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListBundlesResponse:
        """List the bundles that can be switched to, and those that serve."""
        response = pb.ListBundlesResponse()
        for bundle in await self._control.list_bundles():
            entry = response.bundles.add(
                folder=bundle["folder"],
                active=bool(bundle["labels"]),
                labels=bundle["labels"],
                problem=bundle["problem"],
            )
            if bundle["sha256"]:
                entry.id.CopyFrom(_bundle_id(bundle))
                entry.create_time.FromJsonString(bundle["created"])
        return response

    async def ActivateBundle(
        self, request: pb.ActivateBundleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ActivateBundleResponse:
        """Switch to a bundle."""
        _check(request)
        found = await self._control.activate(
            name=request.name,
            version=request.version,
            sha256=request.sha256,
            label=request.label or BundleLabel.STABLE,
            validate_only=request.validate_only,
        )
        return pb.ActivateBundleResponse(
            bundle=_bundle_id(found["bundle"]),
            previous=_previous(found),
            switched=found["switched"],
        )

    async def RollBackBundle(
        self, request: pb.RollBackBundleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RollBackBundleResponse:
        """Switch back to the bundle before."""
        _check_label(request.label, list(BundleLabel))
        found = await self._control.roll_back(label=request.label or BundleLabel.STABLE)
        return pb.RollBackBundleResponse(
            bundle=_bundle_id(found["bundle"]), previous=_previous(found)
        )

    async def DeactivateBundle(
        self, request: pb.DeactivateBundleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeactivateBundleResponse:
        """Take a label away."""
        if not request.label:
            raise FieldRequired("label", expected=" or ".join(BESIDE), got="none")
        _check_label(request.label, BESIDE)
        found = await self._control.deactivate(label=request.label)
        return pb.DeactivateBundleResponse(previous=_previous(found))


def _check(request: pb.ActivateBundleRequest) -> None:
    if request.sha256 and not _SHA256.fullmatch(request.sha256):
        raise InvalidValue(
            "sha256", expected="64 hexadecimal digits in lower case", got=repr(request.sha256)
        )
    if not request.sha256 and not (request.name and request.version):
        raise FieldRequired(
            "sha256",
            expected="sha256, or name and version",
            got="name alone" if request.name else "version alone" if request.version else "none",
        )
    _check_label(request.label, list(BundleLabel))


def _check_label(label: str, known: Sequence[str]) -> None:
    if label not in ("", *known):
        raise InvalidValue("label", expected=" or ".join(known), got=repr(label))


def _previous(found: Mapping[str, Any]) -> types_pb2.BundleId | None:
    return None if found["previous"] is None else _bundle_id(found["previous"])


def _bundle_id(bundle: Mapping[str, Any]) -> types_pb2.BundleId:
    return types_pb2.BundleId(
        name=bundle["name"], version=bundle["version"], sha256=bundle["sha256"]
    )
