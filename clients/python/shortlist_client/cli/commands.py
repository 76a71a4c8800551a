"""What the commands that ask for items do: options in, the text to print out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.message import Message

from shortlist_client.cli.command import Output, json_document, json_line
from shortlist_client.cli.conditions import filter_from_conditions
from shortlist_client.cli.connection import KeepingClient, open_client
from shortlist_client.cli.explanation import Answer
from shortlist_client.cli.features import features_from_text
from shortlist_client.cli.report import answer_report
from shortlist_client.cli.screen import BOLD, styled
from shortlist_client.filters import Filter, any_of
from shortlist_client.options import Rerank
from shortlist_client.queries import Embedding, FeatureValue, Items, Query, User
from shortlist_client.results import BundleInfo


def search(options: Namespace) -> Output:
    """Run `shortlist search`."""
    options.text = " ".join(options.words)
    return recommend(options)


def recommend(options: Namespace) -> Output:
    """Run `shortlist recommend`."""
    if options.stream:
        return _stream(options)
    with open_client(options) as client:
        answer = client.recommend(**_recommend_arguments(options, client))
    return _printed(options, client.response, answer)


def _stream(options: Namespace) -> Generator[str, None, None]:
    with (
        open_client(options) as client,
        client.stream_recommend(**_recommend_arguments(options, client)) as lists,
    ):
        for answer in lists:
            if options.settings.json:
                yield json_line(client.response)
                continue
            refinement = answer.refinement or "ranked"
            yield styled(f"{refinement}{' (the last)' if answer.last else ''}", BOLD) + "\n"
            yield answer_report(answer) + "\n" * (1 if answer.last else 2)


def _printed(options: Namespace, response: Message, answer: Answer) -> str:
    return json_document(response) if options.settings.json else answer_report(answer)


def _recommend_arguments(options: Namespace, client: KeepingClient) -> dict[str, Any]:
    bundle = cache(client.get_active_bundle)
    asked = _read_query(options, bundle)
    return {
        "query": asked.query,
        "context": asked.context,
        "text": options.text,
        "limit": options.limit,
        "candidate_count": options.candidates,
        "ef": options.ef,
        "exact": options.exact,
        "excluded_item_ids": options.exclude,
        "exclude_seen": not options.include_seen,
        "filter": read_filter(options, bundle),
        "excluded_filter": read_excluded_filter(options, bundle),
        "sources": options.source,
        "score_min": options.score_min,
        "diversity": options.diversity,
        "caps": options.cap,
        "pinned_items": options.pin,
        "output_weights": dict(options.weight),
        "temperature": options.temperature,
        "seed": options.seed,
        "rerank": _read_rerank(options),
        "explain": options.explain,
        "debug": options.debug,
        "min_revision": options.min_revision,
        "bundle_label": options.label,
        "attributes": options.attributes,
        "strict": options.strict,
    }


def _read_rerank(options: Namespace) -> Rerank | None:
    if options.rerank is None:
        return None
    return Rerank(
        candidate_count=options.rerank or None, reasons=options.reasons, passes=options.passes
    )


def retrieve(options: Namespace) -> Output:
    """Run `shortlist retrieve`."""
    with open_client(options) as client:
        bundle = cache(client.get_active_bundle)
        asked = _read_query(options, bundle)
        answer = client.retrieve(
            asked.query,
            context=asked.context,
            text=options.text,
            candidate_count=options.candidates,
            ef=options.ef,
            exact=options.exact,
            excluded_item_ids=options.exclude,
            exclude_seen=not options.include_seen,
            filter=read_filter(options, bundle),
            excluded_filter=read_excluded_filter(options, bundle),
            sources=options.source,
            explain=options.explain,
            debug=options.debug,
            min_revision=options.min_revision,
            bundle_label=options.label,
            attributes=options.attributes,
            strict=options.strict,
        )
    return _printed(options, client.response, answer)


def similar(options: Namespace) -> Output:
    """Run `shortlist similar`."""
    with open_client(options) as client:
        answer = client.find_similar_items(
            options.item,
            by_text=options.by_text,
            limit=options.limit,
            candidate_count=options.candidates,
            ef=options.ef,
            exact=options.exact,
            excluded_item_ids=options.exclude,
            filter=read_filter(options, client.get_active_bundle),
            debug=options.debug,
            min_revision=options.min_revision,
            bundle_label=options.label,
            attributes=options.attributes,
            strict=options.strict,
        )
    return _printed(options, client.response, answer)


def rank(options: Namespace) -> Output:
    """Run `shortlist rank`."""
    with open_client(options) as client:
        bundle = cache(client.get_active_bundle)
        asked = _read_query(options, bundle)
        answer = client.rank(
            asked.query,
            context=asked.context,
            item_ids=options.ranked,
            ranker=options.ranker,
            output_weights=dict(options.weight),
            attributes=options.attributes,
            strict=options.strict,
            explain=options.explain,
            debug=options.debug,
            min_revision=options.min_revision,
            bundle_label=options.label,
        )
    return _printed(options, client.response, answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    query: Query | None
    context: Mapping[str, FeatureValue]


def _read_query(options: Namespace, bundle: Callable[[], BundleInfo]) -> _Asked:
    of_user = options.user is not None or options.feature or options.history
    kinds = [bool(options.items), options.embedding is not None, bool(of_user)]
    if sum(kinds) > 1:
        options.parser.error(
            "--items and --embedding stand alone: leave out --user, --feature and --history"
        )
    text = getattr(options, "text", None)  # rank takes none
    if not any(kinds) and text is None:
        options.parser.error("for whom? Give --user, --feature, --history, --items or --embedding")
    features, context = _read_features(options, bundle)
    query: Query | None = None
    if options.items:
        query = Items(options.items)
    elif options.embedding is not None:
        query = Embedding(options.embedding)
    elif of_user:
        query = User(id=options.user or "", features=features, history=options.history)
    return _Asked(query=query, context=context)


def _read_features(
    options: Namespace, bundle: Callable[[], BundleInfo]
) -> tuple[Mapping[str, FeatureValue], Mapping[str, FeatureValue]]:
    if not options.feature and not options.context:
        return {}, {}
    # One more call, so that the bundle and not a guess says that 01234 is text and 33 a number.
    declared = bundle().features
    return (
        features_from_text(options.feature, declared, scope="user", flag="--feature"),
        features_from_text(options.context, declared, scope="context", flag="--context"),
    )


def read_filter(options: Namespace, bundle: Callable[[], BundleInfo]) -> Filter | None:
    """Return the filter of --where, if there is one."""
    if not options.where:
        return None
    return filter_from_conditions(options.where, bundle().item_attributes, flag="--where")


def read_excluded_filter(options: Namespace, bundle: Callable[[], BundleInfo]) -> Filter | None:
    """Return the filter of --exclude-where, if there is one."""
    if not options.exclude_where:
        return None
    declared = bundle().item_attributes
    return any_of(
        *(
            filter_from_conditions(conditions, declared, flag="--exclude-where")
            for conditions in options.exclude_where
        )
    )
