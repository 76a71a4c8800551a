"""`shortlist profile`: which settings hold, and who says so."""

from __future__ import annotations

import json
from argparse import Namespace

from shortlist_client.cli.command import (
    Output,
    Subparsers,
    add_command,
    add_metrics,
    add_server,
)
from shortlist_client.cli.profile import TYPES
from shortlist_client.cli.screen import BOLD, styled, terminal_width
from shortlist_client.cli.settings import Settings, shown_value
from shortlist_client.cli.table import Column, property_lines, table_lines

_EPILOG = """\
examples:
  shortlist profile
  shortlist profile --profile production --json

The profile file is $SHORTLIST_CONFIG, else shortlist/config.toml in $XDG_CONFIG_HOME or ~/.config:

  profile = "local"                       # where neither --profile nor $SHORTLIST_PROFILE says

  [profiles.local]
  target = "127.0.0.1:8500"

  [profiles.production]
  target = "shortlist.example:8500"
  ca_file = "ca.pem"                      # relative to the file's folder
  api_key_file = "production.key"         # or api_key = "sl_...", in a file of mode 600
"""


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "profile",
        "[options]",
        "which settings hold, and who says so",
        _EPILOG,
        run=_profile,
    )
    add_metrics(parser)
    add_server(parser)


def _profile(options: Namespace) -> Output:
    settings: Settings = options.settings
    return _document(settings) if settings.json else _report(settings)


def _document(settings: Settings) -> str:
    document = {
        "file": str(settings.file.path),
        "profile": settings.profile,
        "profiles": list(settings.file.profiles),
        "settings": {
            name: {
                "value": "hidden" if name == "api_key" else one.value,
                "origin": one.origin,
            }
            for name, one in settings.by_name.items()
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _report(settings: Settings) -> str:
    named = [name for name in TYPES if name in settings.by_name]
    columns = [
        Column(title="setting", cells=named),
        Column(title="value", cells=[shown_value(name, settings[name]) for name in named]),
        Column(title="from", cells=[settings.origin(name) for name in named]),
    ]
    header, *rows = table_lines(columns, width_max=terminal_width())
    properties = {
        "file": str(settings.file.path) + ("" if settings.file.profiles else " (none)"),
        "profile": settings.profile or "none",
        "profiles": ", ".join(settings.file.profiles) or "none",
    }
    return "\n".join([*property_lines(properties), "", styled(header, BOLD), *rows])
