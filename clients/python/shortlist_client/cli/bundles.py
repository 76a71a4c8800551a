"""The commands of bundles: `info`, `bundles`, `activate`, `deactivate`, `roll-back`."""

from __future__ import annotations

from argparse import Namespace

from shortlist_client.cli.command import (
    Output,
    Subparsers,
    add_command,
    add_server,
    json_document,
)
from shortlist_client.cli.connection import open_client
from shortlist_client.cli.options import add_label
from shortlist_client.cli.report import (
    bundle_report,
    bundles_report,
    identity,
    switch_report,
)

SWITCH_TIMEOUT_S = 600.0
"""Loading takes seconds to minutes."""

_INFO_EPILOG = """\
examples:
  shortlist info
  shortlist info --json | jq '.bundle.features'   which features --feature and --context may name
"""

_BUNDLES_EPILOG = """\
examples:
  shortlist bundles
"""

_ACTIVATE_EPILOG = """\
examples:
  shortlist activate films 2                      the bundle that answers
  shortlist activate films 3 --label canary       one that answers a share of the users
  shortlist activate films 3 --validate           load and check it, and leave it at that

Loading takes seconds to minutes: --timeout says how long this waits, and the switch goes on where
it does no longer. A bundle has one label: the canary that is activated as stable is a canary no
longer.
"""

_DEACTIVATE_EPILOG = """\
examples:
  shortlist deactivate canary
"""

_ROLL_BACK_EPILOG = """\
examples:
  shortlist roll-back
  shortlist roll-back --label canary
"""


def add_commands(subparsers: Subparsers) -> None:
    """Add the commands."""
    add_server(
        add_command(
            subparsers, "info", "[options]", "what is being served", _INFO_EPILOG, run=_info
        )
    )
    purpose = "the bundles that there are, and what they are active as"
    add_server(
        add_command(subparsers, "bundles", "[options]", purpose, _BUNDLES_EPILOG, run=_bundles)
    )
    _add_activate(subparsers)
    purpose = "what a label is taken away from"
    parser = add_command(
        subparsers, "deactivate", "LABEL [options]", purpose, _DEACTIVATE_EPILOG, run=_deactivate
    )
    parser.set_defaults(default_timeout_s=SWITCH_TIMEOUT_S)
    parser.add_argument("label", metavar="LABEL", help="canary or shadow")
    add_server(parser)
    purpose = "what came of activating the bundle before"
    parser = add_command(
        subparsers, "roll-back", "[options]", purpose, _ROLL_BACK_EPILOG, run=_roll_back
    )
    parser.set_defaults(default_timeout_s=SWITCH_TIMEOUT_S)
    add_label(parser, "of which bundle: stable (the default), canary or shadow")
    add_server(parser)


def _add_activate(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "activate",
        "(NAME VERSION | --sha256 SHA256) [options]",
        "what came of activating a bundle",
        _ACTIVATE_EPILOG,
        run=_activate,
    )
    parser.set_defaults(default_timeout_s=SWITCH_TIMEOUT_S)
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of the bundle")
    # Not `version`, which is the command's own.
    parser.add_argument("bundle_version", metavar="VERSION", nargs="?", help="its version")
    parser.add_argument("--sha256", metavar="SHA256", help="its SHA-256, alone or beside them")
    parser.add_argument("--validate", action="store_true", help="load and check it, no more")
    add_label(parser, "as what: stable (the default), canary or shadow")
    add_server(parser)


def _info(options: Namespace) -> Output:
    with open_client(options) as client:
        bundle = client.get_active_bundle()
    return json_document(client.response) if options.settings.json else bundle_report(bundle)


def _bundles(options: Namespace) -> Output:
    with open_client(options) as client:
        entries = client.list_bundles()
    return json_document(client.response) if options.settings.json else bundles_report(entries)


def _activate(options: Namespace) -> Output:
    with open_client(options) as client:
        switch = client.activate_bundle(
            name=options.name,
            version=options.bundle_version,
            sha256=options.sha256,
            label=options.label,
            validate_only=options.validate,
        )
    if options.settings.json:
        return json_document(client.response)
    if options.validate:
        return f"{identity(switch.bundle)} can be served"
    return switch_report(switch, options.label)


def _deactivate(options: Namespace) -> Output:
    with open_client(options) as client:
        previous = client.deactivate_bundle(options.label)
    if options.settings.json:
        return json_document(client.response)
    return f"{options.label}: none, was {'none' if previous is None else identity(previous)}"


def _roll_back(options: Namespace) -> Output:
    with open_client(options) as client:
        switch = client.roll_back_bundle(label=options.label)
    if options.settings.json:
        return json_document(client.response)
    return switch_report(switch, options.label)
