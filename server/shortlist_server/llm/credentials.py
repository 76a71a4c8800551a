"""Keys of providers: from an environment variable or a file, and into no message and no log."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from shortlist_server.errors import ConfigError

KEY_CHARACTERS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A secret that does not show itself."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the secret."""
        return self._value


def read_key(setting: str, *, variable: str | None, file: Path | None) -> ApiKey | None:
    """Return the key that the configuration points at; None if it points at none.

    Args:
        setting: Beginning of the names of the two settings, `llm.key`: for messages.
        variable: Name of the environment variable that holds it.
        file: The file that holds it; white space around it is ignored.

    Raises:
        ConfigError: both are given, or what is given holds no key.
    """
    if variable is not None and file is not None:
        raise ConfigError(f"{setting}_env: expected either this or {setting}_file, got both")
    if variable is not None:
        value, where = os.environ.get(variable, ""), f"{setting}_env: environment variable"
        where = f"{where} {variable}"
    elif file is not None:
        where = f"{setting}_file: {file}"
        try:
            # What is no ASCII is refused below; a decoder's error would hold it.
            value = file.read_text(encoding="latin-1")
        except OSError as error:
            raise ConfigError(f"{where}: cannot be read: {error.strerror}") from error
    else:
        return None
    value = value.strip()
    # What an HTTP header takes; the value itself is in no message.
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{where}: expected a key of printable ASCII characters, got none")
    if len(value) > KEY_CHARACTERS_MAX:
        raise ConfigError(
            f"{where}: expected a key of at most {KEY_CHARACTERS_MAX} characters, got {len(value)}"
        )
    return ApiKey(value)
