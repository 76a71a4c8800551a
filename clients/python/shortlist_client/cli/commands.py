"""What each command of `shortlist` does: options in, the text to print out."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from shortlist_client.cli.conditions import filter_from_conditions
from shortlist_client.cli.features import features_from_text
from shortlist_client.cli.items import ITEMS_MAX, read_items
from shortlist_client.cli.options import TIMEOUT_S
from shortlist_client.cli.report import (
    answer_report,
    bundle_report,
    bundles_report,
    changes_report,
    identity,
    item_report,
    json_report,
    stats_report,
    switch_report,
)
from shortlist_client.client import Client
from shortlist_client.connection import TlsOptions
from shortlist_client.filters import Filter, any_of
from shortlist_client.options import Rerank
from shortlist_client.queries import FeatureValue, Items, User
from shortlist_client.results import BundleInfo


def recommend(options: Namespace) -> str:
    """Run `shortlist recommend`."""
    with open_client(options) as client:
        bundle = cache(client.get_active_bundle)
        asked = _read_query(options, bundle)
        answer = client.recommend(
            asked.query,
            context=asked.context,
            text=options.text,
            limit=options.limit,
            candidate_count=options.candidates,
            ef=options.ef,
            exact=options.exact,
            excluded_item_ids=options.exclude,
            exclude_seen=not options.include_seen,
            filter=read_filter(options, bundle),
            excluded_filter=read_excluded_filter(options, bundle),
            sources=options.source,
            score_min=options.score_min,
            diversity=options.diversity,
            caps=options.cap,
            pinned_items=options.pin,
            temperature=options.temperature,
            seed=options.seed,
            rerank=_read_rerank(options),
            explain=options.explain,
            debug=options.debug,
            bundle_label=options.label,
            attributes=options.attributes,
            strict=options.strict,
        )
    return json_report(answer) if options.json else answer_report(answer)


def _read_rerank(options: Namespace) -> Rerank | None:
    if options.rerank is None:
        return None
    return Rerank(
        candidate_count=options.rerank or None, reasons=options.reasons, passes=options.passes
    )


def retrieve(options: Namespace) -> str:
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
            bundle_label=options.label,
            attributes=options.attributes,
            strict=options.strict,
        )
    return json_report(answer) if options.json else answer_report(answer)


def similar(options: Namespace) -> str:
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
            bundle_label=options.label,
            attributes=options.attributes,
            strict=options.strict,
        )
    return json_report(answer) if options.json else answer_report(answer)


def rank(options: Namespace) -> str:
    """Run `shortlist rank`."""
    with open_client(options) as client:
        bundle = cache(client.get_active_bundle)
        asked = _read_query(options, bundle)
        answer = client.rank(
            asked.query,
            context=asked.context,
            item_ids=options.ranked,
            ranker=options.ranker,
            attributes=options.attributes,
            strict=options.strict,
            explain=options.explain,
            debug=options.debug,
            bundle_label=options.label,
        )
    return json_report(answer) if options.json else answer_report(answer)


def info(options: Namespace) -> str:
    """Run `shortlist info`."""
    with open_client(options) as client:
        bundle = client.get_active_bundle()
    return json_report(bundle) if options.json else bundle_report(bundle)


def stats(options: Namespace) -> str:
    """Run `shortlist stats`."""
    with open_client(options) as client:
        result = client.get_catalog_stats(bundle_label=options.label)
    return json_report(result) if options.json else stats_report(result)


def item(options: Namespace) -> str:
    """Run `shortlist item`."""
    with open_client(options) as client:
        result = client.get_item(
            options.item, with_vector=options.vector, bundle_label=options.label
        )
    return json_report(result) if options.json else item_report(result)


def upsert(options: Namespace) -> str:
    """Run `shortlist upsert`; a call for every thousand items."""
    items = read_items(options.file)
    reports = []
    with open_client(options) as client:
        for start in range(0, len(items), ITEMS_MAX):
            changes = client.upsert_items(items[start : start + ITEMS_MAX], strict=options.strict)
            reports.append(changes_report(changes))
            options.failed |= bool(changes.failures)
    return "\n".join(reports)


def delete(options: Namespace) -> str:
    """Run `shortlist delete`."""
    with open_client(options) as client:
        changes = client.delete_items(options.items)
    return changes_report(changes)


def bundles(options: Namespace) -> str:
    """Run `shortlist bundles`."""
    with open_client(options) as client:
        entries = client.list_bundles()
    return json_report(entries) if options.json else bundles_report(entries)


def activate(options: Namespace) -> str:
    """Run `shortlist activate`."""
    with open_client(options) as client:
        switch = client.activate_bundle(
            name=options.name,
            version=options.bundle_version,
            sha256=options.sha256,
            label=options.label,
            validate_only=options.validate,
        )
    if options.validate:
        return f"{identity(switch.bundle)} can be served"
    return switch_report(switch, options.label)


def deactivate(options: Namespace) -> str:
    """Run `shortlist deactivate`."""
    with open_client(options) as client:
        previous = client.deactivate_bundle(options.label)
    return f"{options.label}: none, was {'none' if previous is None else identity(previous)}"


def roll_back(options: Namespace) -> str:
    """Run `shortlist roll-back`."""
    with open_client(options) as client:
        return switch_report(client.roll_back_bundle(label=options.label), options.label)


def open_client(options: Namespace) -> Client:
    """Return a client of the server that the options name."""
    pems = (options.ca_file, options.certificate_file, options.key_file)
    if (options.certificate_file is None) != (options.key_file is None):
        options.parser.error("--certificate-file and --key-file belong together")
    tls = None
    if options.tls or any(pem is not None for pem in pems):
        ca, certificate, key = pems
        tls = TlsOptions(root_certificates=ca, client_certificate=certificate, client_key=key)
    return Client(
        options.target,
        timeout_s=TIMEOUT_S if options.timeout is None else options.timeout,
        tls=tls,
        # Not as the option's default, which argparse would take for the name of a file.
        api_key=os.environ.get("SHORTLIST_API_KEY") if options.api_key is None else options.api_key,
        allow_plaintext_key=options.allow_plaintext_key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    query: User | Items | None
    context: Mapping[str, FeatureValue]


def _read_query(options: Namespace, bundle: Callable[[], BundleInfo]) -> _Asked:
    of_user = options.user is not None or options.feature or options.history
    if options.items and of_user:
        options.parser.error("--items stands alone: leave out --user, --feature and --history")
    text = getattr(options, "text", None)  # rank takes none
    if not options.items and not of_user and text is None:
        options.parser.error("for whom? Give --user, --feature, --history or --items")
    features, context = _read_features(options, bundle)
    if not options.items and not of_user:
        return _Asked(query=None, context=context)
    if options.items:
        return _Asked(query=Items(options.items), context=context)
    user = User(id=options.user or "", features=features, history=options.history)
    return _Asked(query=user, context=context)


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
