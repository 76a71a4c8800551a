"""The `shortlist-server` command."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from shortlist_server import __version__
from shortlist_server.access import api_keys
from shortlist_server.access.api_keys import Scope
from shortlist_server.errors import (
    ConfigError,
    MissingExtra,
    NothingToCompare,
    ShortlistError,
)

EXAMPLES = """examples:
  shortlist-server check --bundle build/demo/bundle
  shortlist-server serve --bundle build/demo/bundle --listen 127.0.0.1:8500
  shortlist-server replay build/requests --bundle build/demo/bundle --bundle build/next/bundle
  shortlist-server evaluate-rerank build/requests --bundle build/demo/bundle --out lift.json
  shortlist-server make-key --name shop --scopes recommend >> keys.toml
  shortlist-server health --target 127.0.0.1:8500
  shortlist-server prewarm --users users.txt --target 127.0.0.1:8500
  shortlist-server load-milvus --bundle build/demo/bundle --config server.toml
  SHORTLIST_SERVER_COMPUTE_THREADS=4 shortlist-server serve --config server.toml

Settings come from the defaults, then the TOML file, then SHORTLIST_SERVER_* environment variables,
then flags; `shortlist-server show-config` prints what they come to. Exit codes: 0 stopped as asked,
1 could not serve or replay, 2 usage, 3 a replay came out worse than --fail-on allows, or not all
users were asked for by prewarm.
"""

FLAGS_TOO = {"http_listen": ("--http",), "codelab_title": ("--codelab",)}
"""Shorter names of flags."""
FLAGS_ALONE = {"codelab_title": "title"}
"""What flags say that are given without a value; those that are true or false say `true`, others
need one."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["health"]:
        from shortlist_server import health

        return health.main(arguments[1:])
    if arguments[:1] == ["prewarm"]:
        from shortlist_server import prewarm

        return prewarm.main(arguments[1:])
    # One thread for each matrix product: parallelism comes from requests. Must be set before numpy
    # is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        try:
            from shortlist_server import config
        except ImportError as error:
            raise MissingExtra(feature="the server", extra="server") from error
        if arguments[:1] == ["load-milvus"]:
            from shortlist_server import milvus_load

            return milvus_load.main(arguments[1:])
        parsed = _parser(config.ServerConfig).parse_args(arguments)
        if parsed.run in (_make_key, _openapi):
            return int(parsed.run(parsed))
        flags = {
            name: value
            for name in config.ServerConfig.model_fields
            if (value := getattr(parsed, name, None)) is not None
        }
        if bundles := getattr(parsed, "replayed", None):
            flags["bundle"] = bundles[0]
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
            if field_name in config_type.SECTIONS:
                continue
            # What is switched on needs no word beside its name.
            alone = FLAGS_ALONE.get(field_name, "true" if field.annotation is bool else None)
            default = "required" if field.is_required() else f"default {field.default}"
            command.add_argument(
                f"--{field_name.replace('_', '-')}",
                *FLAGS_TOO.get(field_name, ()),
                nargs="?" if alone is not None else None,
                const=alone,
                metavar="VALUE",
                help=f"{' '.join((field.description or '').split())} ({default})".replace(
                    "%", "%%"
                ),
            )
    _add_replay(commands)
    _add_evaluate_rerank(commands)
    _add_make_key(commands)
    text = "print the OpenAPI description of the services over HTTP"
    command = commands.add_parser("openapi", help=text, description=text.capitalize() + ".")
    command.set_defaults(run=_openapi)
    # For the list of commands alone: they have parsers of their own, see `main`.
    commands.add_parser("health", help="ask a running server for its health")
    commands.add_parser("load-milvus", help="write the items of a bundle to Milvus")
    commands.add_parser("prewarm", help="have a running server ask its language model beforehand")
    return parser


def _add_replay(commands: Any) -> None:
    text = "answer logged requests again, and compare the answers"
    command = commands.add_parser("replay", help=text, description=text.capitalize() + ".")
    command.set_defaults(run=_replay)
    _add_log(command)
    command.add_argument(
        "--bundle",
        dest="replayed",
        type=Path,
        action="append",
        required=True,
        metavar="FOLDER",
        help="a bundle to answer with; a second one is compared with the first",
    )
    command.add_argument(
        "--limit", type=_count, metavar="N", help="replay the first N requests only"
    )
    command.add_argument(
        "--examples",
        type=_count,
        default=10,
        metavar="N",
        help="requests to describe one by one that are not identical (default 10)",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument(
        "--fail-on",
        choices=("different", "reordered"),
        help="exit with 3 if a request comes out so, or worse; errors always count",
    )


def _add_log(command: Any) -> None:
    """Add the log that a command reads, and what it is read with."""
    command.add_argument(
        "log", type=Path, metavar="LOG", help="the folder that was `request_log`, or one file of it"
    )
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file with the settings of the server"
    )
    command.add_argument(
        "--salt-file",
        type=Path,
        metavar="FILE",
        help="the secret of a log written with `request_log_users = hash`",
    )


def _add_evaluate_rerank(commands: Any) -> None:
    text = "measure by logged requests what a language model's orders changed"
    command = commands.add_parser("evaluate-rerank", help=text, description=text.capitalize() + ".")
    command.set_defaults(run=_evaluate_rerank)
    _add_log(command)
    command.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="the bundle that answered them"
    )
    command.add_argument(
        "--next",
        type=Path,
        metavar="FILE",
        help="CSV of what users did next: user_id, item_id, and time where it is known (default: "
        "what histories of later requests say)",
    )
    command.add_argument(
        "--k", type=_count, default=10, metavar="N", help="items of a list that count (default 10)"
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="where the report goes: `rerank.lift_report`"
    )
    command.add_argument("--json", action="store_true", help="print what was measured as JSON")


def _add_make_key(commands: Any) -> None:
    text = (
        "make an API key: its entry for `api_keys_file` goes to standard output, the key to error"
    )
    command = commands.add_parser("make-key", help=text, description=text.capitalize() + ".")
    command.set_defaults(run=_make_key)
    command.add_argument(
        "--name", required=True, metavar="NAME", help="what logs call it: who is to use it"
    )
    command.add_argument(
        "--scopes",
        required=True,
        nargs="+",
        choices=[scope.value for scope in Scope],
        metavar="SCOPE",
        help=f"what it opens: {', '.join(Scope)}",
    )
    command.add_argument(
        "--requests-per-second",
        type=float,
        metavar="N",
        help="most requests per second on average (default: no limit)",
    )
    command.add_argument(
        "--burst",
        type=_count,
        metavar="N",
        help="most requests at once, after a rest (default: those of a second)",
    )


def _make_key(parsed: argparse.Namespace) -> int:
    key = api_keys.make_key()
    toml = api_keys.entry(
        key,
        name=parsed.name,
        scopes=parsed.scopes,
        requests_per_second=parsed.requests_per_second,
        burst=parsed.burst,
    )
    print(toml)
    # Apart from the entry, so that `>> keys.toml` takes the hash alone. Nothing else keeps it.
    print(key, file=sys.stderr)
    return 0


def _openapi(parsed: argparse.Namespace) -> int:
    from shortlist_server.rpc.http.openapi import describe

    print(json.dumps(describe(), indent=1, ensure_ascii=False))
    return 0


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def _serve(config: Any, parsed: argparse.Namespace) -> int:
    # Until the server listens for it: as PID 1 of a container a process has no default that ends
    # it, and a bundle may take long to load.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from shortlist_server.observability.logs import set_up_logging
    from shortlist_server.rpc.http.playground import check_built

    if config.playground:
        check_built()
    if config.workers:
        # Which has no gRPC, nor what it would need to serve itself.
        from shortlist_server.workers.supervisor import supervise as serve
    else:
        from shortlist_server.serving import serve
    set_up_logging(config.log_level, config.log_format)
    asyncio.run(serve(config, ready=lambda port: print(f"ready on port {port}", flush=True)))
    return 0


def _check(config: Any, parsed: argparse.Namespace) -> int:
    from shortlist_server import app
    from shortlist_server.generation import load_generation
    from shortlist_server.language_models import embedding_service

    options = app.generation_options(config, embedding_service(config))
    generation = load_generation(config.served_folder, options)
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


def _replay(config: Any, parsed: argparse.Namespace) -> int:
    from shortlist_server import app
    from shortlist_server.generation import load_generation
    from shortlist_server.language_models import embedding_service
    from shortlist_server.observability.masking import read_key
    from shortlist_server.replay import report as reports
    from shortlist_server.replay.comparison import Outcome
    from shortlist_server.replay.reader import read_log
    from shortlist_server.replay.replay import replay_log
    from shortlist_server.replay.runner import Replayer

    if len(parsed.replayed) > 2:
        raise ConfigError(f"--bundle: expected one or two, got {len(parsed.replayed)}")
    rows = read_log(parsed.log, parsed.limit)
    key = None if parsed.salt_file is None else read_key(parsed.salt_file)
    service = embedding_service(config)
    options = replace(app.generation_options(config, service), recall_share=0.0)
    generations = [load_generation(folder, options) for folder in parsed.replayed]
    # As in `serve`: what is loaded stays, and collecting it is no part of an answer's time.
    gc.collect()
    gc.freeze()
    replayers = [Replayer(generation, key=key) for generation in generations]
    report = replay_log(rows, replayers, examples_max=parsed.examples)
    for generation in generations:
        generation.close()
    if service is not None:
        service.close()
    document = reports.as_json(report, str(parsed.log), replayers)
    print(json.dumps(document, indent=1) if parsed.json else reports.as_text(document))
    if parsed.fail_on is None:
        return 0
    tally = report.verdict.tally
    if not tally.compared_count and not tally.counts[Outcome.ERROR]:
        raise NothingToCompare(
            f"--fail-on: none of the {report.request_count} requests of {parsed.log} could be "
            "compared"
        )
    tolerated = Outcome.REORDERED if parsed.fail_on == "different" else Outcome.IDENTICAL
    return 3 if tally.is_worse_than(tolerated) else 0


def _evaluate_rerank(config: Any, parsed: argparse.Namespace) -> int:
    from shortlist_server.replay import evaluate_rerank

    return evaluate_rerank.run(config, parsed)


def _show_config(config: Any, parsed: argparse.Namespace) -> int:
    # Sections are the last of the fields: what follows a section in TOML is part of it.
    _show_fields(config, "")
    return 0


def _show_fields(config: Any, section: str) -> None:
    for name, field in type(config).model_fields.items():
        print(f"# {' '.join((field.description or '').split())}")
        value = getattr(config, name)
        if value is None:  # TOML has no null
            print(f"# {section}{name} is not set\n")
        elif hasattr(type(value), "model_fields"):
            print(f"[{name}]\n")
            _show_fields(value, f"{name}.")
        else:
            value = str(value) if isinstance(value, Path) else value
            print(f"{name} = {json.dumps(value, ensure_ascii=False)}\n")


if __name__ == "__main__":
    sys.exit(main())
