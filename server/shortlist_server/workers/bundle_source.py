"""Where bundles come from, and which of them is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shortlist_server.errors import BundleCorrupt, BundleMissing, ConfigError, InvalidValue
from shortlist_server.workers.bundle_folder import BundleFolder, BundleSource, FoundBundle


def open_source(place: str | None, state_dir: Path | None) -> BundleSource | None:
    """Return where bundles come from; None where there is only `bundle`.

    Args:
        place: The setting `bundles`: a folder or a URL.
        state_dir: The folder that downloads go to, below `bundles`.

    Raises:
        ConfigError: it cannot be opened.
        MissingExtra: it is a URL, and the extra `object-store` is not installed.
    """
    if place is None:
        return None
    if "://" not in place:
        return BundleFolder(Path(place))
    # Here, since it is an extra.
    from shortlist_server.workers.object_store import ObjectStore

    assert state_dir is not None
    return ObjectStore(place, state_dir / "bundles")


def listed(
    found: Sequence[FoundBundle], active: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return bundles as `rpc.bundle_service.BundleControl` describes them.

    Args:
        found: Those that there are, newest first.
        active: Those that serve, by label; they may be from elsewhere.
    """
    there = {bundle.sha256 for bundle in found}
    elsewhere = {
        one["sha256"]: FoundBundle(**{**one, "folder": Path(one["folder"])})
        for one in active.values()
        if one["sha256"] not in there
    }
    return [
        {
            "folder": bundle.folder.name,
            "name": bundle.name,
            "version": bundle.version,
            "sha256": bundle.sha256,
            "created": bundle.created,
            "labels": [label for label, one in active.items() if one["sha256"] == bundle.sha256],
            "problem": bundle.problem,
        }
        for bundle in (*elsewhere.values(), *found)
    ]


def newest(found: Sequence[FoundBundle], place: str) -> FoundBundle:
    """Return the newest bundle that can be served.

    Args:
        found: The bundles, newest first.
        place: The setting `bundles`, for the message.

    Raises:
        ConfigError: there is none.
    """
    for bundle in found:
        if not bundle.problem:
            return bundle
    problems = "; ".join(f"{one.folder.name}: {one.problem}" for one in found)
    raise ConfigError(
        f"bundles: expected a bundle in {place} to begin with, got {problems or 'none'}"
    )


def choose(found: Sequence[FoundBundle], name: str, version: str, sha256: str) -> FoundBundle:
    """Return the bundle that a caller means; "" says nothing of it.

    Raises:
        BundleMissing: there is no such bundle.
        BundleCorrupt: its files are not what its manifest says.
        InvalidValue: there are several.
    """
    wanted = [
        bundle
        for bundle in found
        if bundle.sha256
        and (not sha256 or bundle.sha256 == sha256)
        and (not name or bundle.name == name)
        and (not version or bundle.version == version)
    ]
    if not wanted:
        asked = " ".join(part for part in (name, version, sha256) if part)
        raise BundleMissing(f"{asked}: no such bundle; ListBundles tells which there are")
    if len(identities := sorted({bundle.sha256 for bundle in wanted})) > 1:
        raise InvalidValue("sha256", expected=f"which of {', '.join(identities)}", got="none")
    # The same bundle may be there twice, and one copy be whole.
    whole = [bundle for bundle in wanted if not bundle.problem]
    if not whole:
        raise BundleCorrupt(wanted[0].problem)
    return whole[0]
