"""Where a value of the configuration came from, for messages about it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from shortlist_server.errors import ConfigError

ENV_PREFIX = "SHORTLIST_SERVER_"


def check_file(file: Path) -> None:
    """Return if a file holds TOML.

    Raises:
        ConfigError: it does not, or cannot be read.
    """
    try:
        _read(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from error


def origin_of(name: str, file: Path | None, flags: dict[str, Any]) -> str:
    """Return where a value came from; where it can be set, if it is set nowhere.

    Args:
        name: Of the field; of one of a section, `llm.model`.
        file: The configuration file, which `check_file` has seen; None for none.
        flags: Those that were given, by field name.
    """
    section, _, field = name.partition(".")
    variable = ENV_PREFIX + name.upper().replace(".", "__")
    if name in flags:
        return f"flag --{name.replace('_', '-')}"
    if variable in os.environ:
        return f"environment variable {variable}"
    found = {} if file is None else _read(file)
    if field:
        inside = found.get(section)
        if isinstance(inside, dict) and field in inside:
            return str(file)
        return f"set it by {variable} or in [{section}] of the configuration file"
    if name in found:
        return str(file)
    return f"set it by --{name.replace('_', '-')}, {variable} or the configuration file"


def _read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))
