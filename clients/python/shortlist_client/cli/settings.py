"""What holds for a call: flags before the environment, that before the profile, then defaults."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortlist_client.cli.profile import (
    PATHS,
    TYPES,
    ProfileFile,
    chosen_profile,
    read_profiles,
)
from shortlist_client.errors import InvalidValue

TARGET = "127.0.0.1:8500"
METRICS = "http://127.0.0.1:9464/metrics"
OUTPUTS = ("table", "json")

FLAGS: Mapping[str, str] = {
    "target": "--target",
    "timeout_s": "--timeout",
    "tls": "--tls",
    "ca_file": "--ca-file",
    "certificate_file": "--certificate-file",
    "key_file": "--key-file",
    "api_key_file": "--api-key-file",
    "allow_plaintext_key": "--allow-plaintext-key",
    "metrics": "--metrics",
    "output": "--json",
}
"""By setting. The key itself has none: other users of the machine see a process's arguments."""

_DEFAULTS: Mapping[str, Any] = {
    "target": TARGET,
    "tls": False,
    "allow_plaintext_key": False,
    "metrics": METRICS,
}
_KEYS = {"api_key", "api_key_file"}
_BOOLS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_SCHEMES = ("dns:", "ipv4:", "ipv6:")
_ELSEWHERE = ("unix:", "unix-abstract:", "vsock:", "xds:")
"""gRPC's other ways to name a server; they have no port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value, and who says so."""

    value: Any
    origin: str
    """A flag, a variable, `profile NAME`, or `default`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for a call of the command."""

    file: ProfileFile
    profile: str | None
    by_name: Mapping[str, Setting]
    """By the names of `profile.TYPES`. One that nobody says and that has no default is absent."""

    def __getitem__(self, name: str) -> Any:
        """Return the value of a setting; None where it is absent."""
        found = self.by_name.get(name)
        return None if found is None else found.value

    def origin(self, name: str) -> str:
        """Return who says so."""
        return self.by_name[name].origin

    @property
    def json(self) -> bool:
        """Whether to print JSON: as somebody says, else unless a person looks on."""
        if (output := self["output"]) is not None:
            return bool(output == "json")
        return sys.stdout is None or not sys.stdout.isatty()


def read_settings(options: Namespace) -> Settings:
    """Return what holds, given what stands on the command line.

    Raises:
        InvalidValue: A variable or the profile file says what it cannot mean.
    """
    file = read_profiles()
    named, origin = getattr(options, "profile", None), "--profile"
    if named is None:
        named, origin = os.environ.get("SHORTLIST_PROFILE") or None, "SHORTLIST_PROFILE"
    profile = chosen_profile(file, named, origin)
    by_name: dict[str, Setting] = {
        name: Setting(value=value, origin="default") for name, value in _DEFAULTS.items()
    }
    for layer in (_of_profile(file, profile), _of_environment(), _of_flags(options)):
        if _KEYS & set(layer):
            # Two ways to name one thing: who names it anew does not add to the old name.
            by_name = {name: one for name, one in by_name.items() if "api_key" not in name}
        by_name |= layer
    settings = Settings(file=file, profile=profile, by_name=by_name)
    _check(settings)
    return settings


def _of_profile(file: ProfileFile, profile: str | None) -> Mapping[str, Setting]:
    if profile is None:
        return {}
    found = {}
    for name, value in file.profiles[profile].items():
        if name in PATHS:
            value = str(file.path.parent / Path(value).expanduser())
        found[name] = Setting(value=value, origin=f"profile {profile}")
    return found


def _of_environment() -> Mapping[str, Setting]:
    found = {}
    for name, kind in TYPES.items():
        variable = f"SHORTLIST_{name.upper()}"
        # Empty is unset, so that a variable can be taken away for one command.
        if written := os.environ.get(variable):
            value = _value(variable, written, kind)
            found[name] = Setting(value=value, origin=f"${variable}")
    if set(found) >= _KEYS:
        del found["api_key_file"]
    return found


def _value(variable: str, written: str, kind: Any) -> Any:
    if kind is bool:
        if written.lower() not in _BOOLS:
            raise _refused(variable, "true or false", repr(written))
        return _BOOLS[written.lower()]
    if kind is str:
        return written
    try:
        return float(written)
    except ValueError as error:
        raise _refused(variable, "seconds", repr(written)) from error


def _of_flags(options: Namespace) -> Mapping[str, Setting]:
    found = {}
    for name, flag in FLAGS.items():
        if (value := getattr(options, name, None)) is not None:
            shown = {"table": "--table"}.get(str(value), flag) if name == "output" else flag
            found[name] = Setting(value=value, origin=shown)
    return found


def _check(settings: Settings) -> None:
    target = settings["target"]
    if not _is_target(target):
        raise _refused(
            settings.origin("target"),
            "HOST:PORT, such as 127.0.0.1:8500 or [::1]:8500",
            repr(target),
        )
    if (output := settings["output"]) not in (None, *OUTPUTS):
        raise _refused(settings.origin("output"), " or ".join(OUTPUTS), repr(output))
    pair = [name for name in ("certificate_file", "key_file") if settings[name] is not None]
    if len(pair) == 1:
        raise _refused(
            settings.origin(pair[0]),
            "--certificate-file and --key-file, which belong together",
            "one of them",
        )
    _check_key_goes_where_it_belongs(settings)


def _check_key_goes_where_it_belongs(settings: Settings) -> None:
    """Refuse to send a profile's key to another server than the profile's own."""
    if settings.profile is None:
        return
    own = settings.file.profiles[settings.profile].get("target")
    if own in (None, settings["target"]):
        return
    origin = f"profile {settings.profile}"
    if any(settings.by_name[name].origin == origin for name in _KEYS & set(settings.by_name)):
        raise _refused(
            settings.origin("target"),
            f"{own}, as the API key is that of {origin} (or --api-key-file, or another --profile)",
            settings["target"],
        )


def _is_target(target: str) -> bool:
    if target.startswith(_ELSEWHERE):
        return True
    for scheme in _SCHEMES:
        target = target.removeprefix(scheme)
    # `dns:///name:1`, `dns://resolver/name:1`; not `http://name:1`, which is no gRPC.
    target = re.sub(r"^//[^/]*/", "", target)
    addresses = target.split(",")
    return all(re.fullmatch(r"(\[[^\]/]+\]|[^:/\s]+):\d{1,5}", one) for one in addresses)


def _refused(field: str, expected: str, got: str) -> InvalidValue:
    return InvalidValue.about(field, reason="INVALID_VALUE", expected=expected, got=got)


def file_of(settings: Settings, name: str) -> bytes | None:
    """Return what the file holds that a setting names; None where it names none.

    Raises:
        InvalidValue: It cannot be read.
    """
    path = settings[name]
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(settings, name, "a file that can be read", error) from error


def pem_of(settings: Settings, name: str) -> bytes | None:
    """Return the PEM that a setting names; None where it names none.

    Raises:
        InvalidValue: The file cannot be read, or holds something else.
    """
    content = file_of(settings, name)
    # gRPC says no more of it than that no handshake is possible.
    if content is not None and b"-----BEGIN " not in content:
        raise _refused(f"{settings.origin(name)} {settings[name]}", "PEM", "something else")
    return content


def api_key_of(settings: Settings) -> str | None:
    """Return the API key, if there is one.

    Raises:
        InvalidValue: Its file cannot be read, or holds none.
    """
    if (key := settings["api_key"]) is not None:
        return str(key)
    content = file_of(settings, "api_key_file")
    if content is None:
        return None
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise _unreadable(settings, "api_key_file", "one line of ASCII", error) from error


def _unreadable(settings: Settings, name: str, expected: str, error: Exception) -> InvalidValue:
    got = getattr(error, "strerror", None) or "something else"
    return _refused(f"{settings.origin(name)} {settings[name]}", expected, got)


def shown_value(name: str, value: Any) -> str:
    """Return a setting as people may read it: no key."""
    if name == "api_key":
        return "hidden"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
