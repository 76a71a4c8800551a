"""The `shortlist-export` command."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from shortlist_exporters.cli_text import add_text_options, embedded_items
from shortlist_exporters.evaluation.command import add_evaluate
from shortlist_exporters.text.command import add_build_embedder, add_embed_text

EXAMPLES = """examples:
  shortlist-export train --recipe two-tower --data ml-100k --out build/trained
  shortlist-export bundle build/trained --out build/bundle
  shortlist-export bundle my-model/export.toml --out build/bundle     (towers trained elsewhere)
  shortlist-export inspect build/bundle
  shortlist-export verify build/bundle
  shortlist-export train --data ml-100k --split random:0.8 --out build/part
  shortlist-export bundle build/part --out build/part-bundle
  shortlist-export evaluate build/part-bundle --data ml-100k --split random:0.8 --baselines
  shortlist-export build-embedder all-MiniLM-L6-v2 build/embedder
  shortlist-export embed-text build/bundle --text title plot --texts plots.csv \\
    --embedder build/embedder --output build/bundle-text
  shortlist-export embed-text build/bundle --text title plot --texts plots.csv \\
    --embedder gemini --model gemini-embedding-001 --dimension 768 \\
    --key-env GEMINI_API_KEY --output build/bundle-text

Exit codes: 0 done, 1 not done (one line on standard error says why), 2 usage.
"""

TRAIN = """Trains two towers and a ranker on ratings, with TensorFlow Recommenders, and writes
them as SavedModels with everything that `shortlist-export bundle` needs: tables, vocabularies and
export.json.

--data takes a folder with MovieLens (100K, 1M, 10M, 20M, 25M, 32M, latest), or with
interactions.csv or .parquet (user_id, item_id, rating, time) and items.csv or .parquet (id, ...).
Or a file of interactions alone (user item [rating] time, or a user's items in a line; .gz,
.parquet).
Without --data, a small built-in sample with simulated ratings is used.
"""

BUNDLE = """Makes a bundle from trained models: converts the towers and the ranker to ONNX, checks
their numbers against training, embeds the items, builds the index, records golden requests,
verifies all of it, and writes one folder.

SPEC is the folder that `shortlist-export train` wrote, or an export spec (JSON or TOML) for models
trained elsewhere: SavedModels or .onnx files, .npy embeddings, items as CSV or Parquet. See
docs/bring-your-own-model.md.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from shortlist_server.errors import MissingExtra, ShortlistError

        try:
            import pyarrow  # noqa: F401
            import pydantic  # noqa: F401
            import rich  # noqa: F401
        except ImportError as error:
            raise MissingExtra(feature="shortlist-export", extra="export") from error
        parsed = _parser().parse_args(arguments)
        return int(parsed.run(parsed))
    except ShortlistError as error:
        print(f"shortlist-export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("shortlist-export: interrupted; nothing half-made is left behind", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shortlist-export",
        description="From ratings to a bundle that shortlist-server serves.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = importlib.metadata.version("shortlist")
    parser.add_argument("--version", action="version", version=f"shortlist-export {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_bundle(commands)
    inspect = commands.add_parser("inspect", help="show what is in a bundle")
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("bundle", type=Path, help="the bundle's folder")
    inspect.add_argument("--json", action="store_true", help="print the manifest's figures as JSON")
    verify = commands.add_parser(
        "verify", help="check a bundle: hashes, signatures, golden requests, index"
    )
    verify.set_defaults(run=_verify)
    verify.add_argument("bundle", type=Path, help="the bundle's folder")
    add_evaluate(commands)
    add_build_embedder(commands)
    add_embed_text(commands)
    return parser


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train two towers and a ranker on ratings",
        description=TRAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_train)
    command.add_argument(
        "--recipe",
        choices=["two-tower"],
        default="two-tower",
        help="which models (default two-tower)",
    )
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="the data set; default the built-in sample"
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where to write the trained models"
    )
    command.add_argument("--replace", action="store_true", help="replace what is at --out")
    command.add_argument(
        "--features",
        choices=["all", "ids"],
        default="all",
        help="all: ids and every usable column of users and items; "
        "ids: user and item ids alone, the "
        "models of the TFRS tutorials (default all)",
    )
    add_text_options(command)
    command.add_argument(
        "--time",
        action="store_true",
        help="with all: the models also see the time of the request (context.time), normalised "
        "and in buckets; costs hits on MovieLens 100K",
    )
    command.add_argument(
        "--dimension", type=int, default=32, help="components of an embedding (default 32)"
    )
    command.add_argument(
        "--epochs", type=int, default=3, help="passes over the training data (default 3)"
    )
    command.add_argument(
        "--batch-size", type=int, help="interactions in a step (default 1024; 8192 with ids)"
    )
    command.add_argument(
        "--learning-rate", type=float, default=0.1, help="of Adagrad (default 0.1)"
    )
    command.add_argument(
        "--test-fraction",
        type=float,
        default=0.0,
        help="share of the interactions held out at random and written to test.parquet (default 0)",
    )
    command.add_argument(
        "--split",
        metavar="SPLIT",
        help="instead: hold out by random:SHARE[:SEED] (of which SHARE is trained on), "
        "leave-last-out, temporal:SHARE, temporal:DATE or cold-items:SHARE[:SEED]",
    )
    command.add_argument(
        "--seed", type=int, default=42, help="seed of split, weights and order (default 42)"
    )


def _add_bundle(commands: Any) -> None:
    command = commands.add_parser(
        "bundle",
        help="make a bundle from trained models",
        description=BUNDLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_bundle)
    command.add_argument(
        "spec", type=Path, metavar="SPEC", help="folder or file of the export spec"
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder that will be the bundle"
    )
    command.add_argument(
        "--version", metavar="TEXT", help="version of the bundle; default the time in UTC"
    )
    command.add_argument(
        "--replace", action="store_true", help="replace the bundle that is at --out"
    )


def _train(parsed: argparse.Namespace) -> int:
    from shortlist_exporters.data import load_dataset
    from shortlist_exporters.data.split import parse_split
    from shortlist_exporters.recipes import TwoTowerOptions, train_two_tower

    dataset = load_dataset(parsed.data)
    kind = "simulated" if dataset.simulated else "observed"
    print(
        f"{dataset.name}: {len(dataset.interactions)} {kind} interactions, {len(dataset.items)} "
        "items",
        file=sys.stderr,
    )
    options = TwoTowerOptions(
        features=parsed.features,
        time=parsed.time,
        dimension=parsed.dimension,
        epochs=parsed.epochs,
        batch_size=parsed.batch_size,
        learning_rate=parsed.learning_rate,
        item_id_dropout=parsed.item_id_dropout,
        test_fraction=parsed.test_fraction,
        split=None if parsed.split is None else parse_split(parsed.split),
        seed=parsed.seed,
    )
    with embedded_items(parsed, dataset) as texts:
        train_two_tower(dataset, parsed.out, options, texts=texts, replace=parsed.replace)
    print(
        f"trained: {parsed.out}; next: shortlist-export bundle {parsed.out} --out BUNDLE",
        file=sys.stderr,
    )
    return 0


def _bundle(parsed: argparse.Namespace) -> int:
    from shortlist_exporters.export import export_bundle

    manifest = export_bundle(
        parsed.spec, parsed.out, version=parsed.version, replace=parsed.replace
    )
    print(f"bundle {manifest.name} {manifest.version}: {parsed.out}", file=sys.stderr)
    return 0


def _inspect(parsed: argparse.Namespace) -> int:
    from shortlist_exporters.inspection import describe, print_description

    description = describe(parsed.bundle)
    if parsed.json:
        print(json.dumps(description, indent=1, ensure_ascii=False))
    else:
        print_description(description)
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    from shortlist_exporters.export import verify_bundle

    verify_bundle(parsed.bundle)
    print(f"{parsed.bundle}: hashes, signatures, golden requests and index are as they must be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
