"""The command `shortlist-export evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from shortlist_server.bundle.reader import Bundle

    from shortlist_exporters.evaluation.asking import Served
    from shortlist_exporters.evaluation.evaluation import EvaluationOptions, Measured
    from shortlist_exporters.evaluation.figures import Document
    from shortlist_exporters.evaluation.holdout import Holdout

BASELINE_NAMES = ("random", "popularity", "item-knn", "ease", "als")
CUTOFFS = (1, 5, 10, 50, 100)
DESCRIPTION = """Asks a bundle for every user of a held-out part, through the funnel that serves,
and prints how good its lists and predicted ratings are, with 95 % intervals, and what each stage
costs. The bundle must have been trained on the other part: `train` takes the same --split.
See docs/evaluation.md."""


def add_evaluate(commands: Any) -> None:
    """Add the command to those of a parser."""
    command = commands.add_parser(
        "evaluate",
        help="measure a bundle's lists and ratings on held-out data",
        description=DESCRIPTION,
    )
    command.set_defaults(run=_evaluate)
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    _add_data(command)
    _add_protocol(command)
    command.add_argument(
        "--target",
        metavar="HOST:PORT",
        help="ask the server there, which serves this bundle; default: within this process",
    )
    command.add_argument(
        "--baselines",
        nargs="*",
        choices=BASELINE_NAMES,
        metavar="NAME",
        help=f"also measure {', '.join(BASELINE_NAMES)}: those named, or all",
    )
    command.add_argument(
        "--compare", type=Path, metavar="BUNDLE", help="also another bundle, user by user"
    )
    command.add_argument(
        "--draws",
        type=int,
        default=1000,
        metavar="N",
        help="draws of users for the intervals (default 1000; 0: no intervals)",
    )
    command.add_argument(
        "--seed", type=int, default=42, help="of draws, negatives and baselines (default 42)"
    )
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.add_argument(
        "--report", type=Path, metavar="FILE.html", help="also write a page with plots"
    )
    command.add_argument(
        "--card",
        type=Path,
        metavar="OUT",
        help="also write this bundle to OUT with a model card of these figures in it",
    )
    command.add_argument("--replace", action="store_true", help="replace the bundle at --card")


def _add_data(command: Any) -> None:
    command.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="the data set, as for `train`: a folder, or a file of interactions; default the "
        "built-in sample",
    )
    part = command.add_mutually_exclusive_group(required=True)
    part.add_argument(
        "--split",
        metavar="SPLIT",
        help="random:SHARE[:SEED] (of which SHARE is trained on), leave-last-out, temporal:SHARE, "
        "temporal:DATE or cold-items:SHARE[:SEED]",
    )
    part.add_argument(
        "--test",
        type=Path,
        metavar="FILE",
        help="instead of a split: a file of interactions, such as the test.parquet of `train`; "
        "what the bundle says was seen is the other part",
    )


def _add_protocol(command: Any) -> None:
    command.add_argument(
        "--protocol",
        default="full",
        metavar="PROTOCOL",
        help="full (default): lists of the whole catalogue; uniform:N or popularity:N: each test "
        "pair ranked among N sampled items, as in papers' tables",
    )
    command.add_argument(
        "--k", type=int, nargs="+", default=list(CUTOFFS), help="cutoffs (default 1 5 10 50 100)"
    )
    command.add_argument(
        "--candidates",
        type=int,
        metavar="N",
        help="candidates of each source (default 200, or the largest cutoff)",
    )
    command.add_argument(
        "--include-seen", action="store_true", help="let seen items into the lists"
    )
    command.add_argument(
        "--relevant-from",
        type=float,
        metavar="RATING",
        help="only pairs rated so or higher are wanted in lists (default: all pairs are)",
    )
    command.add_argument(
        "--liked-from",
        type=float,
        default=4.0,
        metavar="RATING",
        help="ratings that count as liked, for the ranker's AUC (default 4)",
    )
    way = command.add_mutually_exclusive_group()
    way.add_argument("--exact", action="store_true", help="compare every item")
    way.add_argument("--ef", type=int, metavar="N", help="search the index with this width")


def _evaluate(parsed: argparse.Namespace) -> int:
    from shortlist_server.bundle.reader import open_bundle

    from shortlist_exporters.evaluation.card import write_card
    from shortlist_exporters.evaluation.printed import print_document
    from shortlist_exporters.evaluation.report_page import write_report

    bundle = open_bundle(parsed.bundle)
    other = None if parsed.compare is None else open_bundle(parsed.compare)
    options = _options(parsed, bundle)
    bundles = [bundle] if other is None else [bundle, other]
    document = _document(parsed, bundles, _parts(parsed, bundles), options)
    if parsed.report is not None:
        write_report(document, parsed.report)
        print(f"report: {parsed.report}", file=sys.stderr)
    if parsed.card is not None:
        write_card(parsed.bundle, parsed.card, document, replace=parsed.replace)
        print(f"bundle with a model card: {parsed.card}", file=sys.stderr)
    if parsed.json:
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print_document(document)
    return 0


def _options(parsed: argparse.Namespace, bundle: Bundle) -> EvaluationOptions:
    from shortlist_server.errors import ConfigError

    from shortlist_exporters.evaluation.asking import Search
    from shortlist_exporters.evaluation.evaluation import EvaluationOptions
    from shortlist_exporters.evaluation.negatives import parse_protocol

    cutoffs = tuple(sorted(set(parsed.k)))
    candidates = max(200, cutoffs[-1]) if parsed.candidates is None else parsed.candidates
    for name, value, expected, valid in (
        ("--k", cutoffs, "1 to 500 each", cutoffs[0] >= 1 and cutoffs[-1] <= 500),
        (
            "--candidates",
            candidates,
            f"{cutoffs[-1]}, the largest cutoff, to 4096",
            cutoffs[-1] <= candidates <= 4_096,
        ),
        ("--ef", parsed.ef, "1 to 4096", parsed.ef is None or 1 <= parsed.ef <= 4_096),
        ("--draws", parsed.draws, "0 to 100000", 0 <= parsed.draws <= 100_000),
        ("--seed", parsed.seed, "0 to 2**32 - 1", 0 <= parsed.seed < 2**32),
    ):
        if not valid:
            raise ConfigError(f"{name}: expected {expected}, got {value}")
    return EvaluationOptions(
        cutoffs=cutoffs,
        candidate_count=candidates,
        search=Search(exclude_seen=not parsed.include_seen, exact=parsed.exact, ef=parsed.ef),
        index_ef=parsed.ef or max(bundle.manifest.index.ef, candidates),
        negatives=parse_protocol(parsed.protocol),
        liked_from=parsed.liked_from,
        seed=parsed.seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is measured on."""

    train: pa.Table
    test: pa.Table
    item_ids: list[str]
    data_name: str
    simulated: bool
    split: str
    notes: tuple[str, ...]


def _parts(parsed: argparse.Namespace, bundles: list[Bundle]) -> _Parts:
    from shortlist_exporters.data import load_dataset
    from shortlist_exporters.data.split import parse_split
    from shortlist_exporters.evaluation.provenance import check_trained_on

    if parsed.test is not None:
        return _parts_of_file(parsed, bundles[0])
    split = parse_split(parsed.split)
    dataset = load_dataset(parsed.data)
    train, test = split.apply(dataset.interactions)
    notes = [
        note
        for bundle in bundles
        for note in check_trained_on(
            bundle, train, test, data_name=dataset.name, split=parsed.split
        )
    ]
    return _Parts(
        train=train,
        test=test,
        item_ids=dataset.items["id"].to_pylist(),
        data_name=dataset.name,
        simulated=dataset.simulated,
        split=split.text,
        notes=tuple(notes),
    )


def _parts_of_file(parsed: argparse.Namespace, bundle: Bundle) -> _Parts:
    from shortlist_server.errors import ConfigError

    from shortlist_exporters.data.interaction_file import load_interaction_file
    from shortlist_exporters.evaluation.provenance import seen_interactions

    if parsed.data is not None:
        raise ConfigError("--data: expected none beside --test, which is the test part already")
    test = load_interaction_file(parsed.test).interactions
    return _Parts(
        train=seen_interactions(bundle),
        test=test,
        item_ids=list(dict.fromkeys([*bundle.item_ids, *test["item_id"].to_pylist()])),
        data_name=bundle.manifest.data.name,
        simulated=bundle.manifest.data.simulated,
        split=parsed.test.name,
        notes=(f"whether the bundle was trained without {parsed.test.name} is not checked",),
    )


def _document(
    parsed: argparse.Namespace, bundles: list[Bundle], parts: _Parts, options: EvaluationOptions
) -> Document:
    from shortlist_exporters.evaluation.evaluation import measure_bundle
    from shortlist_exporters.evaluation.figures import Setting, make_comparison, make_document
    from shortlist_exporters.evaluation.holdout import make_holdout

    holdout = make_holdout(
        parts.train,
        parts.test,
        item_ids=parts.item_ids,
        more_item_ids=[item_id for bundle in bundles for item_id in bundle.item_ids],
        exclude_seen=options.search.exclude_seen,
        relevant_from=parsed.relevant_from,
    )
    baselines, notes = _baselines(parsed, holdout, options)
    setting = Setting(
        data_name=parts.data_name,
        simulated=parts.simulated,
        split=parts.split,
        reached=parsed.target or "in process",
        relevant_from=parsed.relevant_from,
        draw_count=parsed.draws,
        notes=(*parts.notes, *notes),
    )
    with _served(bundles[0], parsed.target) as served:
        measured = measure_bundle(served, holdout, options)
        document = make_document(served, measured, holdout, setting, options, baselines)
    if parsed.compare is not None:
        with _served(bundles[1], None) as other:
            document["comparison"] = make_comparison(
                measured, measure_bundle(other, holdout, options), other, setting, options
            )
    return document


@contextmanager
def _served(bundle: Bundle, target: str | None) -> Iterator[Served]:
    if target is None:
        from shortlist_exporters.evaluation.in_process import InProcess

        with closing(InProcess(bundle.folder)) as within:
            yield within
        return
    from shortlist_server.errors import ConfigError

    from shortlist_exporters.evaluation.over_grpc import OverGrpc

    with closing(OverGrpc(target)) as remote:
        wanted = f"{bundle.manifest.name} {bundle.manifest.version}"
        if (got := f"{remote.name} {remote.version}") != wanted:
            raise ConfigError(f"--target {target}: expected a server of {wanted}, got one of {got}")
        yield remote


def _baselines(
    parsed: argparse.Namespace, holdout: Holdout, options: EvaluationOptions
) -> tuple[dict[str, Measured], list[str]]:
    from shortlist_server.errors import ConfigError, MissingExtra

    from shortlist_exporters.evaluation.evaluation import measure_baseline

    if parsed.baselines is None:
        return {}, []
    found: dict[str, Measured] = {}
    notes = []
    for name in parsed.baselines or BASELINE_NAMES:
        try:
            found[name] = measure_baseline(name, holdout, options)
        except (ConfigError, MissingExtra) as error:
            if parsed.baselines:
                raise
            notes.append(f"baseline {name} is left out: {error}")
    return found, notes
