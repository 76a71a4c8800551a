"""Which error each failure becomes, seen from both clients."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from shortlist.v1 import errors_pb2, recommendation_pb2
from shortlist_client import (
    DeadlineExceeded,
    Internal,
    InvalidRequestError,
    MessageTooLarge,
    NotFound,
    OutOfRange,
    Overloaded,
    PermissionDenied,
    ShortlistError,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
    UnknownItem,
    errors,
)

if TYPE_CHECKING:
    from tests.clients.python.conftest import Ask, FakeServer
    from tests.clients.python.conftest import Failure as FailureType

    MakeFailure = Callable[..., FailureType]

Code = grpc.StatusCode

# Of the reasons that are not INVALID_ARGUMENT: a class for the rest must be of that family.
CODES = {
    "DEADLINE_EXCEEDED": Code.DEADLINE_EXCEEDED,
    "OVERLOADED": Code.RESOURCE_EXHAUSTED,
    "SHUTTING_DOWN": Code.UNAVAILABLE,
    "INTERNAL": Code.INTERNAL,
    "API_KEY_MISSING": Code.UNAUTHENTICATED,
    "API_KEY_INVALID": Code.UNAUTHENTICATED,
    "LABEL_NOT_LOADED": Code.FAILED_PRECONDITION,
    "SCOPE_MISSING": Code.PERMISSION_DENIED,
    "RATE_LIMITED": Code.RESOURCE_EXHAUSTED,
    "BUNDLE_MISSING": Code.NOT_FOUND,
    "BUNDLE_CORRUPT": Code.FAILED_PRECONDITION,
    "BUNDLE_UNSUPPORTED": Code.FAILED_PRECONDITION,
    "PARITY": Code.FAILED_PRECONDITION,
    "MODEL_SIGNATURE_MISMATCH": Code.FAILED_PRECONDITION,
    "NOT_CONFIGURED": Code.FAILED_PRECONDITION,
    "SWITCH_UNDER_WAY": Code.ABORTED,
    "CATALOG_UNAVAILABLE": Code.UNAVAILABLE,
    "REVISION_NOT_REACHED": Code.UNAVAILABLE,
    "TEXT_EMBEDDER_UNAVAILABLE": Code.UNAVAILABLE,
    "CATALOG_READ_ONLY": Code.FAILED_PRECONDITION,
    "CONVERSATION_NOT_FOUND": Code.NOT_FOUND,
}
REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name, number in errors_pb2.ErrorReason.items()
    if number != errors_pb2.ERROR_REASON_UNSPECIFIED
]


def class_name(reason: str) -> str:
    return "".join(word.capitalize() for word in reason.split("_"))


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_the_class_of_its_name(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure, reason: str
) -> None:
    code = CODES.get(reason, Code.INVALID_ARGUMENT)
    # Four times: what is UNAVAILABLE is retried.
    fake_server.script(*[failure(code, reason, field="limit", expected="less", got="more")] * 4)
    with pytest.raises(ShortlistError, match="what is wrong") as caught:
        ask("recommend", user="42", request_id="mine")
    error = caught.value
    assert type(error) is getattr(errors, class_name(reason))
    assert isinstance(error, InvalidRequestError) == (code is Code.INVALID_ARGUMENT)
    assert (error.reason, error.code, error.request_id) == (reason, code, "mine")
    assert error.metadata == {"field": "limit", "expected": "less", "got": "more"}
    assert isinstance(error.__cause__, grpc.RpcError)


def test_an_invalid_request_names_field_expected_and_got(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    violation = BadRequest.FieldViolation(field="limit", description="out of range")
    fake_server.script(
        failure(
            Code.INVALID_ARGUMENT,
            "OUT_OF_RANGE",
            BadRequest(field_violations=[violation]),  # As the server sends it: not in the way.
            field="limit",
            expected="1..500, or unset for 20",
            got="501",
        )
    )
    with pytest.raises(OutOfRange) as caught:
        ask("recommend", user="42", limit=501)
    assert caught.value.field == "limit"
    assert caught.value.expected == "1..500, or unset for 20"
    assert caught.value.got == "501"


def test_an_unknown_item_is_not_found_or_refused_by_its_status(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script(
        failure(Code.NOT_FOUND, "UNKNOWN_ITEM", field="item_id"),
        failure(Code.INVALID_ARGUMENT, "UNKNOWN_ITEM", field="item_id"),
    )
    with pytest.raises(NotFound) as caught:
        ask("find_similar_items", "9999")
    assert caught.value.metadata["field"] == "item_id"
    with pytest.raises(UnknownItem):
        ask("find_similar_items", "9999", strict=True)


def test_an_overloaded_server_says_when_to_come_back(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    delay = RetryInfo(retry_delay=Duration(seconds=1, nanos=250_000_000))
    fake_server.script(failure(Code.RESOURCE_EXHAUSTED, "OVERLOADED", delay))
    with pytest.raises(Overloaded) as caught:
        ask("recommend", user="42")
    assert caught.value.retry_delay_s == 1.25


def test_without_retry_info_there_is_no_delay(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script(failure(Code.RESOURCE_EXHAUSTED, "OVERLOADED"))
    with pytest.raises(Overloaded) as caught:
        ask("recommend", user="42")
    assert caught.value.retry_delay_s is None


def test_a_deadline_names_the_stage_that_had_no_time(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script(failure(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", stage="ranking"))
    with pytest.raises(DeadlineExceeded) as caught:
        ask("recommend", user="42")
    assert caught.value.stage == "ranking"


@pytest.mark.parametrize(
    ("trailing", "metadata", "expected"),
    [
        ((("x-request-id", "theirs"),), {}, "theirs"),
        ((), {"request_id": "theirs"}, "theirs"),
        ((), {}, "mine"),
    ],
)
def test_the_request_id_of_an_error_is_the_one_in_the_servers_log(
    ask: Ask,
    fake_server: FakeServer,
    failure: MakeFailure,
    trailing: tuple[tuple[str, str], ...],
    metadata: dict[str, str],
    expected: str,
) -> None:
    fake_server.script(failure(Code.INTERNAL, "INTERNAL", trailing=trailing, **metadata))
    with pytest.raises(Internal) as caught:
        ask("recommend", user="42", request_id="mine")
    assert caught.value.request_id == expected


FALLBACKS = {
    Code.INVALID_ARGUMENT: InvalidRequestError,
    Code.NOT_FOUND: NotFound,
    Code.UNAUTHENTICATED: Unauthenticated,
    Code.PERMISSION_DENIED: PermissionDenied,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.RESOURCE_EXHAUSTED: Overloaded,
    Code.UNAVAILABLE: Unavailable,
    Code.INTERNAL: Internal,
    Code.DATA_LOSS: Internal,
    Code.UNKNOWN: Internal,
}


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
@pytest.mark.parametrize("reason", ["", "FROM_THE_FUTURE"])
def test_without_a_known_reason_the_status_decides(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure, code: grpc.StatusCode, reason: str
) -> None:
    fake_server.script(*[failure(code, reason)] * 4)
    with pytest.raises(ShortlistError) as caught:
        ask("recommend", user="42")
    assert type(caught.value) is FALLBACKS.get(code, ShortlistError)
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_reasons_of_other_domains_are_not_taken_for_ours(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    theirs = ErrorInfo(reason="OUT_OF_RANGE", domain="proxy.example", metadata={"field": "x"})
    fake_server.script(failure(Code.INTERNAL, "", theirs))
    with pytest.raises(Internal) as caught:
        ask("recommend", user="42")
    assert (caught.value.reason, caught.value.metadata) == ("", {})


def test_unreadable_details_do_not_hide_the_error(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    broken = (("grpc-status-details-bin", b"\xff\xff\xff"),)
    fake_server.script(failure(Code.NOT_FOUND, trailing=broken))
    with pytest.raises(NotFound, match="what is wrong"):
        ask("recommend", user="42")


def test_a_request_over_4_mib_is_not_taken_for_an_overload(
    ask: Ask, fake_server: FakeServer
) -> None:
    excluded = ["x" * 256] * 17_000
    # "Sent": refused by the client's own limit, before 4 MiB are on their way.
    with pytest.raises(MessageTooLarge, match="Sent message larger than max") as caught:
        ask("recommend", user="42", excluded_item_ids=excluded)
    assert isinstance(caught.value, InvalidRequestError)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert fake_server.received == []


def test_an_answer_over_4_mib_is_read_and_one_over_16_mib_is_named_too_large(
    ask: Ask, fake_server: FakeServer
) -> None:
    long, too_long = ["x" * 1024] * 5_000, ["x" * 1024] * 17_000
    fake_server.script(
        recommendation_pb2.RankResponse(unknown_item_ids=long),
        recommendation_pb2.RankResponse(unknown_item_ids=too_long),
    )
    fields = {"user": "42", "item_ids": ["1"], "timeout_s": 10.0}
    assert len(ask("rank", **fields).unknown_item_ids) == 5_000
    with pytest.raises(MessageTooLarge):
        ask("rank", **fields)


def all_errors() -> list[type[ShortlistError]]:
    return [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, ShortlistError)
    ]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: list[tuple[str, str]] = []
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.split()
        if line.startswith("    ") and words:
            depth = (len(line) - len(line.lstrip())) // 2
            name = words[0] if words[0] not in ("x", "-") else words[1]
            drawn.append((name, parents.get(depth - 1, "Exception")))
            parents[depth] = name
    actual = [(kind.__name__, kind.__base__.__name__) for kind in all_errors() if kind.__base__]
    assert sorted(drawn) == sorted(actual)


@pytest.mark.parametrize("kind", all_errors())
@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_survive_copying_and_pickling(
    kind: type[ShortlistError], duplicate: Callable[[ShortlistError], ShortlistError]
) -> None:
    error = kind(
        "what is wrong",
        code=Code.ABORTED,
        reason="REASON",
        request_id="mine",
        metadata={"field": "limit"},
        retry_delay_s=0.5,
    )
    again = duplicate(error)
    assert type(again) is kind
    assert str(again) == "what is wrong"
    assert vars(again) == vars(error)


def test_a_server_that_is_stopping_is_one_that_is_unavailable() -> None:
    assert issubclass(ShuttingDown, Unavailable)
