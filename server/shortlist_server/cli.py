"""The `shortlist-server` command."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from shortlist_server import __version__
from shortlist_server.errors import MissingExtra, ShortlistError

EXAMPLES = """examples:
  shortlist-server check --bundle build/demo/bundle
  shortlist-server serve --bundle build/demo/bundle --listen 127.0.0.1:8500
  SHORTLIST_SERVER_COMPUTE_THREADS=4 shortlist-server serve --config server.toml

Settings come from the defaults, then the TOML file, then SHORTLIST_SERVER_* environment variables,
then flags; `shortlist-server show-config` prints what they come to. Exit codes: 0 stopped as asked,
1 could not serve, 2 usage.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    # One thread for each matrix product: parallelism comes from requests. Must be set before numpy
    # is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        try:
            from shortlist_server import config
        except ImportError as error:
            raise MissingExtra(feature="the server", extra="server") from error
        parsed = _parser(config.ServerConfig).parse_args(arguments)
        flags = {
            name: value
            for name in config.ServerConfig.model_fields
            if (value := getattr(parsed, name, None)) is not None
        }
        return int(parsed.run(config.load_config(parsed.config, flags), parsed))
    except ShortlistError as error:
        print(f"shortlist-server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("shortlist-server: interrupted", file=sys.stderr)
        return 130


def _parser(config_type: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shortlist-server",
        description="Serves a bundle over gRPC: retrieval, ranking and selection in one call.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shortlist-server {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("serve", _serve, "serve a bundle until SIGTERM"),
        ("check", _check, "load and verify a bundle, answer its golden requests, and exit"),
        ("show-config", _show_config, "print the configuration as it would be used, as TOML"),
    ):
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        command.set_defaults(run=run)
        command.add_argument(
            "--config", type=Path, metavar="FILE", help="a TOML file with the settings below"
        )
        if name == "check":
            command.add_argument("--json", action="store_true", help="print the report as JSON")
        for field_name, field in config_type.model_fields.items():
            default = "required" if field.is_required() else f"default {field.default}"
            command.add_argument(
                f"--{field_name.replace('_', '-')}",
                metavar="VALUE",
                help=f"{' '.join((field.description or '').split())} ({default})".replace(
                    "%", "%%"
                ),
            )
    return parser


def _serve(config: Any, parsed: argparse.Namespace) -> int:
    from shortlist_server import app

    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    asyncio.run(app.serve(config, ready=lambda port: print(f"ready on port {port}", flush=True)))
    return 0


def _check(config: Any, parsed: argparse.Namespace) -> int:
    from shortlist_server import app

    generation = app.load_generation(config.bundle, app.generation_options(config))
    manifest = generation.bundle.manifest
    report = {
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": generation.bundle.sha256,
        },
        "item_count": manifest.item_count,
        "golden": [
            {
                "model": parity.model,
                "output": parity.output,
                "value_count": parity.value_count,
                "difference_max": parity.difference_max,
            }
            for parity in generation.parity
        ],
    }
    if parsed.json:
        print(json.dumps(report, indent=1))
        return 0
    print(
        f"bundle {manifest.name} {manifest.version}: {manifest.item_count} items, "
        f"{len(manifest.files)} files verified"
    )
    for parity in generation.parity:
        print(
            f"golden {parity.model}.{parity.output}: {parity.value_count} numbers as in training, "
            f"largest difference {parity.difference_max:.2g}"
        )
    if not generation.parity:
        print(
            "golden: the bundle has no golden requests; its numbers are not compared with training"
        )
    return 0


def _show_config(config: Any, parsed: argparse.Namespace) -> int:
    for name, field in type(config).model_fields.items():
        print(f"# {' '.join((field.description or '').split())}")
        value = getattr(config, name)
        print(
            f"{name} = "
            f"{json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
