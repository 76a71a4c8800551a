"""What a server serves, remembered across restarts: `serving.json` in `state_dir`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from shortlist_server import fault_points
from shortlist_server.errors import ConfigError

FILE = "serving.json"
FORMAT = 1

Served: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By label (`stable`) a bundle: `folder`, `name`, `version`, `sha256`, `created`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """What serves, and what served before."""

    configured: str = ""
    """The setting `bundle` when this was written: another one since then wins."""
    active: Served = field(default_factory=dict)
    previous: Served = field(default_factory=dict)
    newest: str = ""
    """When the newest bundle that ever served was built: watching looks for newer ones, and does
    not undo a step back."""


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
            active=document["active"],
            previous=document["previous"],
            newest=document["newest"],
        )
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
