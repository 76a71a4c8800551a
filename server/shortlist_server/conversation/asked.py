"""What the funnel is asked in a turn: the caller's own limits first, whatever was understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.conversation.attributes import Attributes, filter_of
from shortlist_server.conversation.intent import Action, Intent
from shortlist_server.conversation.state import Conversation
from shortlist_server.funnel.filter import AllOf, Filter
from shortlist_server.funnel.options import (
    Named,
    Nearest,
    Options,
    Pin,
    SelectionOptions,
    SourceOptions,
    Text,
)
from shortlist_server.funnel.types import Event, FeatureValue, Query, User

CANDIDATES = 200
TEXT_CANDIDATES_MIN = 15
LIKED = "like"
"""Action of the events that say what a user likes."""
HISTORY_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn, as the caller sends it: every value in its range."""

    text: str
    user: User = field(default_factory=User)
    context: Mapping[str, FeatureValue] = field(default_factory=dict)
    limit: int = 5
    attributes: tuple[str, ...] = ()
    filter: Filter | None = None
    excluded_filter: Filter | None = None
    excluded_item_ids: Sequence[str] = ()
    exclude_seen: bool = True


def settled(intent: Intent, conversation: Conversation) -> Intent:
    """Return what can be done of an intent: a list that is not there can neither be explained nor
    have some of it replaced.
    """
    if intent.action is Action.RECOMMEND:
        return intent
    last = conversation.last_item_ids
    if intent.action is Action.EXPLAIN and (subjects := intent.subjects or last):
        return replace(intent, subjects=subjects)
    subjects = tuple(item for item in intent.subjects if item in last)
    if intent.action is Action.SWAP and subjects and len(subjects) < len(last):
        return replace(intent, subjects=subjects)
    return replace(intent, action=Action.RECOMMEND)


def asked(
    turn: Turn,
    intent: Intent,
    conversation: Conversation,
    catalog: ItemTable,
    attributes: Attributes,
    *,
    has_texts: bool = False,
) -> tuple[Query, Options]:
    """Return what the funnel is asked.

    Args:
        turn: What the caller sent.
        intent: What it asks for, settled.
        conversation: What came of the turns before.
        catalog: The items, and the users that are known.
        attributes: Those of the items.
        has_texts: Whether items can be found by their texts.
    """
    excluded = list(dict.fromkeys(turn.excluded_item_ids))
    options = Options(
        limit=turn.limit,
        candidate_count=CANDIDATES,
        filter=turn.filter,
        excluded_filter=turn.excluded_filter,
        exclude_seen=turn.exclude_seen,
        attributes=turn.attributes,
    )
    user = turn.user
    if intent.action is Action.EXPLAIN:
        # Not the conditions: he may ask about items from before he set them.
        named = SourceOptions(settings=Named(item_ids=intent.subjects))
        options = replace(
            options,
            limit=len(intent.subjects),
            excluded_item_ids=excluded,
            sources=(named,),
        )
        return Query(subject=user, context=turn.context), options
    unwanted = {*excluded, *intent.rejected}
    pins: tuple[Pin, ...] = ()
    if intent.action is Action.SWAP:
        last = conversation.last_item_ids
        pins = tuple(
            Pin(item_id=item, position=place)
            for place, item in enumerate(last)
            if item not in intent.subjects and item not in unwanted
        )
        options = replace(options, limit=len(last), selection=SelectionOptions(pins=pins))
    stays = {pin.item_id for pin in pins}
    shown = (item for item in (*conversation.shown, *intent.rejected) if item not in stays)
    options = replace(
        options,
        excluded_item_ids=list(dict.fromkeys((*excluded, *shown))),
        filter=_both(turn.filter, filter_of(attributes, intent.conditions)),
    )
    liked = [item for item in (*conversation.liked, *intent.liked) if item not in stays]
    query = Query(subject=_who_likes(user, liked, catalog), context=turn.context)
    if has_texts and intent.taste:
        query = replace(query, text=intent.taste)
        options = replace(options, sources=by_words(options.limit, max(1, options.limit // 2)))
    return query, options


def without_words(query: Query, options: Options) -> tuple[Query, Options]:
    """Return the same for a server that cannot search by words now."""
    return replace(query, text=""), replace(options, sources=())


def by_words(limit: int, others: int) -> tuple[SourceOptions, ...]:
    """Return the sources of a taste in words.

    Args:
        limit: Number of items wanted.
        others: How many of those that suit the user anyway are among the candidates, 1 or more.
            What ranks them all reads no words: of many, it would put many first.
    """
    return (
        SourceOptions(settings=Text(), candidate_count=max(TEXT_CANDIDATES_MIN, 3 * limit)),
        SourceOptions(settings=Nearest(), candidate_count=others),
    )


def _both(first: Filter | None, second: Filter | None) -> Filter | None:
    if first is None or second is None:
        return first or second
    return AllOf((first, second))


def _who_likes(user: User, liked: Sequence[str], catalog: ItemTable) -> User:
    """Return the user with what he likes at the end of his history: the one that he was sent with,
    else the one that the bundle knows, which a history that is sent replaces.
    """
    events = tuple(Event(item_id=item, action=LIKED) for item in dict.fromkeys(liked))
    if not events:
        return user
    history = user.history
    if not history and user.id and catalog.user_features(user.id) is not None:
        history = tuple(
            Event(item_id=catalog.item_id(row)) for row in catalog.seen(user.id).tolist()
        )
    return replace(user, history=(*history, *events)[-HISTORY_MAX:])
