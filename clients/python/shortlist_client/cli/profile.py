"""The profile file: servers by name, in TOML, at the place that XDG gives it."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortlist_client.errors import InvalidValue

TYPES: Mapping[str, type | tuple[type, ...]] = {
    "target": str,
    "timeout_s": (int, float),
    "tls": bool,
    "ca_file": str,
    "certificate_file": str,
    "key_file": str,
    "api_key": str,
    "api_key_file": str,
    "allow_plaintext_key": bool,
    "metrics": str,
    "output": str,
}
"""What a profile may set."""

PATHS = ("ca_file", "certificate_file", "key_file", "api_key_file")
"""Those of them that are files: relative to the profile file's folder."""

_NAMES = {str: "text", bool: "true or false", (int, float): "a number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFile:
    """What a profile file says."""

    path: Path
    default: str | None
    """The profile that holds where nobody names one."""
    profiles: Mapping[str, Mapping[str, Any]]
    """Settings by name, by profile."""


def profile_path() -> tuple[Path, bool]:
    """Return where the file is, and whether somebody says so, so that it has to be there."""
    if named := os.environ.get("SHORTLIST_CONFIG"):
        return Path(named).expanduser(), True
    # A relative one is invalid, says XDG, and to be ignored.
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    if not home.is_absolute():
        home = Path("~/.config").expanduser()
    return home / "shortlist/config.toml", False


def read_profiles() -> ProfileFile:
    """Return what the profile file says; nothing where there is none.

    Raises:
        InvalidValue: It cannot be read, says what it cannot mean, or holds a key that others than
            its owner can read.
    """
    path, named = profile_path()
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            document = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        if named:
            raise _refused(path, "SHORTLIST_CONFIG", "a file", "none") from error
        return ProfileFile(path=path, default=None, profiles={})
    except OSError as error:
        raise _refused(path, "it", "to be readable", error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refused(path, "it", "TOML", str(error)) from error
    profiles = _checked(path, document)
    if mode & 0o077 and any("api_key" in profile for profile in profiles.values()):
        raise _refused(
            path,
            "mode",
            f"no access for others, as it holds an API key (chmod 600 {path})",
            f"{mode:o}",
        )
    return ProfileFile(path=path, default=document.get("profile"), profiles=profiles)


def _checked(path: Path, document: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    if unknown := sorted(set(document) - {"profile", "profiles"}):
        raise _refused(path, unknown[0], "`profile` and `profiles` alone", f"{unknown[0]!r}, too")
    profiles, default = document.get("profiles", {}), document.get("profile")
    if not isinstance(profiles, dict):
        raise _refused(path, "profiles", "a table of profiles", type(profiles).__name__)
    for name, profile in profiles.items():
        if not isinstance(profile, dict):
            raise _refused(path, f"profiles.{name}", "a table", type(profile).__name__)
        for key, value in profile.items():
            _check(path, f"profiles.{name}.{key}", key, value)
        if {"api_key", "api_key_file"} <= set(profile):
            raise _refused(path, f"profiles.{name}", "api_key or api_key_file", "both")
    if default is not None and default not in profiles:
        raise _refused(path, "profile", f"one of {_listed(profiles)}", repr(default))
    return profiles


def _check(path: Path, field: str, key: str, value: object) -> None:
    if key not in TYPES:
        raise _refused(path, field, f"one of {', '.join(TYPES)}", repr(key))
    expected = TYPES[key]
    # A bool is an int to Python.
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        # Its value may be a key that was written without quotes.
        raise _refused(path, field, _NAMES[expected], f"a TOML value of type {_toml_type(value)}")


def _toml_type(value: object) -> str:
    return type(value).__name__


def chosen_profile(file: ProfileFile, name: str | None, origin: str) -> str | None:
    """Return the name of the profile that holds, if one does.

    Args:
        file: What the profile file says.
        name: The one that somebody names.
        origin: Who does, for the error.

    Raises:
        InvalidValue: There is no such profile.
    """
    name = name or file.default
    if name is not None and name not in file.profiles:
        raise InvalidValue.about(
            origin,
            reason="INVALID_VALUE",
            expected=f"one of the profiles in {file.path} ({_listed(file.profiles)})",
            got=repr(name),
        )
    return name


def _listed(profiles: Mapping[str, Any]) -> str:
    return ", ".join(profiles) or "there are none"


def _refused(path: Path, field: str, expected: str, got: str) -> InvalidValue:
    return InvalidValue.about(
        f"{path}: {field}", reason="INVALID_VALUE", expected=expected, got=got
    )
