"""What a server serves, remembered across restarts: `serving.json` in `state_dir`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from shortlist_server import fault_points
from shortlist_server.bundle_label import BundleLabel
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError

FILE = "serving.json"
FORMAT = 1

Served: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By label a bundle: `folder`, `name`, `version`, `sha256`, `created`."""
BESIDE = (BundleLabel.CANARY, BundleLabel.SHADOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """What serves, and what served before."""

    configured: str = ""
    """The setting `bundle` when this was written: another one since then wins."""
    configured_beside: Mapping[str, str] = field(default_factory=dict)
    """So for `canary_bundle` and `shadow_bundle`, by label."""
    active: Served = field(default_factory=dict)
    previous: Served = field(default_factory=dict)
    newest: str = ""
    """When the newest bundle that ever served was built: watching looks for newer ones, and does
    not undo a step back."""

    def serving(self, bundles: Served, config: ServerConfig) -> ServingState:
        """Return what is to be remembered once bundles serve."""
        ended = {
            label: bundle
            for label, bundle in self.active.items()
            if label not in bundles or bundles[label]["sha256"] != bundle["sha256"]
        }
        return ServingState(
            configured=_setting(config.bundle),
            configured_beside={label: _setting_beside(config, label) for label in BESIDE},
            active=bundles,
            previous={**self.previous, **ended},
            newest=max([self.newest, *(bundle["created"] for bundle in bundles.values())]),
        )

    def stable_folder(self, config: ServerConfig) -> Path | None:
        """Return the folder of the stable bundle to begin with: what was active, unless the
        configuration has come to name another; None where neither names one.
        """
        active = self.active.get(BundleLabel.STABLE)
        if active is not None and self.configured == _setting(config.bundle):
            return Path(active["folder"])
        return config.bundle

    def folders_beside(self, config: ServerConfig) -> dict[str, Path]:
        """Return those of the canary and the shadow in the same way, by label: where the label was
        taken away, none.
        """
        found = {}
        for label in BESIDE:
            folder = _setting_beside(config, label)
            if self.configured_beside.get(label, "") == folder:
                folder = self.active.get(label, {}).get("folder", "")
            if folder:
                found[str(label)] = Path(folder)
        return found


def _setting(path: Path | None) -> str:
    return "" if path is None else str(path)


def _setting_beside(config: ServerConfig, label: BundleLabel) -> str:
    canary = label is BundleLabel.CANARY
    return _setting(config.canary_bundle if canary else config.shadow_bundle)


def read_state(folder: Path) -> ServingState:
    """Return what was written last; nothing where nothing was.

    Raises:
        ConfigError: the file is not one of these, or cannot be read.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ConfigError(
                f"state_dir: {path}: expected format {FORMAT}, got {document['format']!r}"
            )
        state = ServingState(
            configured=document["configured"],
            # A server that knew one label did not write it.
            configured_beside=document.get("configured_beside", {}),
            active=document["active"],
            previous=document["previous"],
            newest=document["newest"],
        )
        for setting in state.configured_beside.values():
            if not isinstance(setting, str):
                raise TypeError("configured_beside is not a text")
        for served in (state.active, state.previous):
            for bundle in served.values():
                for name in ("folder", "name", "version", "sha256", "created"):
                    if not isinstance(bundle[name], str):
                        raise TypeError(f"{name} is not a text")
    except FileNotFoundError:
        return ServingState()
    except OSError as error:
        raise ConfigError(f"state_dir: {path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"state_dir: {path}: expected what a server wrote, got {error!r}; remove it to serve "
            "`bundle`, or the newest of `bundles`"
        ) from error
    return state


def write_state(folder: Path, state: ServingState) -> None:
    """Remember what serves, so that it is there, whole, even when the machine stops now.

    Raises:
        OSError: it cannot be written; what was remembered before still is.
    """
    document = {
        "format": FORMAT,
        "configured": state.configured,
        "configured_beside": state.configured_beside,
        "active": state.active,
        "previous": state.previous,
        "newest": state.newest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path, new = folder / FILE, folder / f".{FILE}.new"
    with new.open("w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1) + "\n")
        file.flush()
        fault_points.hit("serving_state.before_sync")
        os.fsync(file.fileno())
    fault_points.hit("serving_state.before_rename")
    new.replace(path)
    fault_points.hit("serving_state.after_rename")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
