"""What every store keeps to, whatever it is kept in."""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shortlist_server.catalog.store import (
    Append,
    AppendResult,
    CatalogStore,
    IdempotencyKey,
    ItemChange,
    StoreOptions,
)
from shortlist_server.errors import (
    CatalogMismatch,
    CatalogUnavailable,
    IdempotencyKeyReused,
    Overloaded,
)

if TYPE_CHECKING:
    from tests.server.catalog.conftest import OpenStore, WallClockOfTests

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def put(*item_ids: str, payload: bytes = b"x", key: str | None = None, digest: bytes = b"d") -> Any:
    return Append(
        changes=[ItemChange(item_id=item_id, payload=payload) for item_id in item_ids],
        outcomes=f"{len(item_ids)} stored".encode(),
        idempotency_key=IdempotencyKey(key=key, request_digest=digest) if key else None,
    )


def done(future: Future[AppendResult]) -> AppendResult:
    return future.result(timeout=20)


def state(store: CatalogStore) -> dict[str, tuple[int, bool, bytes]]:
    tail = store.changes_since(0)
    assert tail.complete
    return {each.item_id: (each.revision, each.deleted, each.payload) for each in tail.changes}


def test_an_append_is_one_revision_and_an_item_has_its_latest(open_store: OpenStore) -> None:
    store = open_store()
    assert (store.head(), state(store)) == (0, {})
    assert done(store.append(put("a", "b"))).revision == 1
    changes = [ItemChange(item_id="a", deleted=True), ItemChange(item_id="c", payload=b"\0\xff")]
    assert done(store.append(Append(changes=changes))).revision == 2
    assert store.head() == 2
    assert state(store) == {"b": (1, False, b"x"), "a": (2, True, b""), "c": (2, False, b"\0\xff")}
    tail = store.changes_since(1)
    assert sorted(each.item_id for each in tail.changes) == ["a", "c"]
    assert (tail.revision, tail.complete) == (2, True)
    assert store.changes_since(2).changes == ()


def test_the_last_change_of_an_item_counts(open_store: OpenStore) -> None:
    store = open_store()
    changes = [
        ItemChange(item_id="a", payload=b"1"),
        ItemChange(item_id="a", deleted=True),
        ItemChange(item_id="a", payload=b"3"),
    ]
    done(store.append(Append(changes=changes)))
    assert state(store) == {"a": (1, False, b"3")}


@pytest.mark.parametrize(
    "item_id", ["\0", "a\0b", "é", "e\u0301", "a ", "A", "😀😀", "'; --"], ids=ascii
)
def test_ids_are_kept_as_they_are(open_store: OpenStore, item_id: str) -> None:
    store = open_store()
    done(store.append(put("a", "é ", item_id, key=item_id)))
    assert set(state(store)) == {"a", "é ", item_id}
    assert done(store.append(put("other", key=item_id))).replayed


def test_what_is_appended_is_there_when_opened_again(open_store: OpenStore) -> None:
    first = open_store()
    for _ in range(3):
        done(first.append(put("a", "b", key=None)))
    first.close()
    second = open_store()
    assert second.head() == 3
    assert set(state(second)) == {"a", "b"}


def test_another_opener_sees_an_append_at_once(open_store: OpenStore) -> None:
    writer, reader = open_store(), open_store()
    for revision in range(1, 10):
        done(writer.append(put(f"i{revision}")))
        assert reader.head() == revision
        assert [each.item_id for each in reader.changes_since(revision - 1).changes] == [
            f"i{revision}"
        ]


def test_a_request_that_is_sent_again_is_applied_once(open_store: OpenStore) -> None:
    store, other = open_store(), open_store()
    first = done(store.append(put("a", key="k")))
    assert first == AppendResult(revision=1, outcomes=b"1 stored", replayed=False)
    done(store.append(put("a", payload=b"later")))
    for again in (store, other):
        assert done(again.append(put("a", key="k"))) == AppendResult(
            revision=1, outcomes=b"1 stored", replayed=True
        )
    assert state(store) == {"a": (2, False, b"later")}
    assert store.head() == 2


def test_a_key_of_another_request_is_refused_by_field(open_store: OpenStore) -> None:
    store = open_store()
    done(store.append(put("a", key="k")))
    with pytest.raises(IdempotencyKeyReused) as caught:
        done(store.append(put("b", key="k", digest=b"e")))
    assert (caught.value.field, caught.value.got) == ("idempotency_key", "'k'")
    assert set(state(store)) == {"a"}
    assert store.head() == 1


def test_one_bad_append_does_not_fail_those_beside_it(open_store: OpenStore) -> None:
    store = open_store()
    futures = [
        store.append(append)
        for append in (
            put("a", key="k"),
            put("b", key="k", digest=b"e"),
            put("c", "\ud800"),
            put("d", key="\ud800"),
            put("e"),
            put("f", key="k"),
        )
    ]
    assert done(futures[0]).revision == 1
    assert isinstance(futures[1].exception(20), IdempotencyKeyReused)
    assert isinstance(futures[2].exception(20), UnicodeEncodeError)
    assert isinstance(futures[3].exception(20), UnicodeEncodeError)
    assert done(futures[4]).revision == 2
    assert done(futures[5]).replayed
    assert set(state(store)) == {"a", "e"}


def test_an_append_without_changes_is_a_revision(open_store: OpenStore) -> None:
    store = open_store()
    done(store.append(put("a")))
    assert done(store.append(put(key="k"))).revision == 2
    tail = store.changes_since(1)
    assert (tail.changes, tail.revision, tail.complete) == ((), 2, True)


def test_pages_part_no_revision_and_end_complete(open_store: OpenStore) -> None:
    store = open_store()
    for revision in range(5):
        done(store.append(put(*(f"{revision}-{item}" for item in range(3)))))
    done(store.append(put("0-0")))
    seen, revision, pages = [], 0, []
    while not pages or not pages[-1].complete:
        pages.append(store.changes_since(revision, limit=4))
        seen += [(each.revision, each.item_id) for each in pages[-1].changes]
        revision = pages[-1].revision
    assert [page.revision for page in pages] == [2, 4, 6]
    assert [len(page.changes) for page in pages] == [5, 6, 4]
    assert seen == sorted(seen, key=lambda entry: entry[0])
    assert len(set(seen)) == 15
    assert store.changes_since(0, limit=1).revision == 1


def test_a_day_ends_a_key(open_store: OpenStore, clock: WallClockOfTests) -> None:
    store = open_store()
    done(store.append(put("a", key="k")))
    for _ in range(24):
        clock.now_ms += HOUR_MS
        done(store.append(put("b")))
    assert done(store.append(put("a", key="k"))).replayed
    for _ in range(2):
        clock.now_ms += HOUR_MS
        done(store.append(put("b")))
    assert not done(store.append(put("a", key="k"))).replayed


@pytest.mark.parametrize("jump_ms", [-DAY_MS, DAY_MS, -365 * DAY_MS, 365 * DAY_MS])
def test_a_clock_that_jumps_ends_no_key_early_and_keeps_none_for_ever(
    open_store: OpenStore, clock: WallClockOfTests, jump_ms: int
) -> None:
    store = open_store()
    done(store.append(put("a", key="before")))
    clock.now_ms += jump_ms
    done(store.append(put("b", key="after")))
    for _ in range(23):
        clock.now_ms += HOUR_MS
        done(store.append(put("c")))
    for key in ("before", "after"):
        assert done(store.append(put("x", key=key))).replayed
    for _ in range(3):
        clock.now_ms += HOUR_MS
        done(store.append(put("c")))
    for key in ("before", "after"):
        assert not done(store.append(put("x", key=key))).replayed


def test_appends_beyond_the_bound_are_refused(open_store: OpenStore) -> None:
    store = open_store(options=StoreOptions(waiting_max=3))
    futures = []
    refused = 0
    # The writer takes what waits; appending is faster than a disk, so the bound is met.
    while not refused:
        try:
            futures.append(store.append(put("a")))
        except Overloaded as error:
            refused = error.retry_delay_ms
    assert sorted(done(future).revision for future in futures) == list(range(1, len(futures) + 1))


def test_a_closed_store_has_applied_what_waited_and_takes_no_more(open_store: OpenStore) -> None:
    store = open_store()
    futures = [store.append(put(f"i{number}")) for number in range(200)]
    store.close()
    store.close()
    assert [future.result(0).revision for future in futures] == list(range(1, 201))
    for ask in (store.head, lambda: store.changes_since(0), lambda: store.append(put("a"))):
        with pytest.raises(CatalogUnavailable, match="closed"):
            ask()
    assert len(state(open_store())) == 200


def test_a_cancelled_append_is_applied_wholly_or_not_at_all(open_store: OpenStore) -> None:
    store = open_store()
    futures = [store.append(put(f"a{number}", f"b{number}")) for number in range(300)]
    cancelled = {number for number, future in enumerate(futures) if future.cancel()}
    store.close()
    applied = set(range(300)) - cancelled
    assert set(state(open_store())) == {f"{side}{number}" for side in "ab" for number in applied}


def test_a_store_belongs_to_one_catalogue(open_store: OpenStore) -> None:
    open_store("films")
    with pytest.raises(CatalogMismatch, match=r"expected .*'books'.*got .*'films'"):
        open_store("books")
    assert open_store("films").head() == 0


def test_threads_append_and_read_side_by_side(open_store: OpenStore) -> None:
    store = open_store()

    def append(thread: int) -> list[int]:
        return [
            done(store.append(put(f"{thread}/{turn}", "shared"))).revision for turn in range(40)
        ]

    def follow() -> dict[str, int]:
        seen: dict[str, int] = {}
        revision = 0
        while revision < 320:
            tail = store.changes_since(revision)
            assert tail.revision <= store.head()
            assert all(revision < each.revision <= tail.revision for each in tail.changes)
            seen.update((each.item_id, each.revision) for each in tail.changes)
            revision = tail.revision
        return seen

    with ThreadPoolExecutor(10) as pool:
        followers = [pool.submit(follow) for _ in range(2)]
        revisions = list(pool.map(append, range(8)))
        assert sorted(itertools.chain.from_iterable(revisions)) == list(range(1, 321))
        wanted = {
            f"{thread}/{turn}": revision
            for thread, own in enumerate(revisions)
            for turn, revision in enumerate(own)
        }
        for follower in followers:
            assert follower.result(timeout=30) == {**wanted, "shared": 320}


IDS = st.sampled_from(["a", "b", "c", "d", "e"])
CHANGES = st.builds(
    lambda item_id, payload: ItemChange(
        item_id=item_id, deleted=payload is None, payload=payload or b""
    ),
    IDS,
    st.none() | st.binary(max_size=5),
)
KEYS = st.none() | st.builds(
    IdempotencyKey, key=st.sampled_from("kl"), request_digest=st.sampled_from([b"1", b"2"])
)
APPENDS = st.builds(
    Append,
    changes=st.lists(CHANGES, max_size=4),
    outcomes=st.binary(max_size=3),
    idempotency_key=KEYS,
)


@given(groups=st.lists(st.lists(APPENDS, max_size=5), max_size=6), limit=st.integers(1, 6))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_store_is_a_dict(open_store: OpenStore, groups: list[list[Append]], limit: int) -> None:
    store = open_store()
    # Examples share a store: the model begins with what the last one left.
    model = state(store)
    base = store.head()
    keys: dict[str, tuple[bytes, AppendResult]] = {}
    names: dict[str, str] = {}
    head = base
    for group in groups:
        sent = []
        for append in group:
            key = append.idempotency_key
            if key:
                name = names.setdefault(key.key, f"{key.key}{base}-{len(names)}")
                key = IdempotencyKey(key=name, request_digest=key.request_digest)
            renamed = Append(changes=append.changes, outcomes=append.outcomes, idempotency_key=key)
            sent.append((renamed, store.append(renamed)))
        for append, future in sent:
            key = append.idempotency_key
            if key and key.key in keys:
                digest, first = keys[key.key]
                if digest != key.request_digest:
                    assert isinstance(future.exception(20), IdempotencyKeyReused)
                else:
                    assert done(future) == AppendResult(
                        revision=first.revision, outcomes=first.outcomes, replayed=True
                    )
                continue
            head += 1
            result = AppendResult(revision=head, outcomes=append.outcomes, replayed=False)
            assert done(future) == result
            if key:
                keys[key.key] = (key.request_digest, result)
            for change in append.changes:
                model[change.item_id] = (head, change.deleted, change.payload)
        assert store.head() == head
        assert state(store) == model
    read, revision, complete = {}, 0, False
    while not complete:
        tail = store.changes_since(revision, limit=limit)
        read.update(
            (each.item_id, (each.revision, each.deleted, each.payload)) for each in tail.changes
        )
        revision, complete = tail.revision, tail.complete
    assert (read, revision) == (model, head)
    store.close()


def test_a_store_is_told_from_another_of_the_same_name(open_store: OpenStore) -> None:
    store = open_store()
    assert len(store.identity) == 32
    assert open_store().identity == store.identity
