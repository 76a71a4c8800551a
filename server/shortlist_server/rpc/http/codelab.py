"""`POST /recommend`, as the backend of the TensorFlow and Flutter codelab answers it: see
docs/codelab.md.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2

from shortlist_server.errors import FieldRequired, InvalidValue, RequestError
from shortlist_server.rpc.check_values import ID_BYTES_MAX, text_at_most
from shortlist_server.rpc.http.calls import answer, endpoint_in_front_of
from shortlist_server.rpc.http.options import CodelabOptions

PATH = "/recommend"
METHOD = "/shortlist.v1.RecommendationService/Recommend"
LIMIT = 10
"""Films of an answer, as many as the codelab's model of retrieval has built in."""
FIELD, EXPECTED = "user_id", 'a string, as in {"user_id": "42"}'
_GOT = {
    "null_value": "null",
    "number_value": "a number",
    "bool_value": "a boolean",
    "struct_value": "an object",
    "list_value": "a list",
}


def endpoint(options: CodelabOptions) -> Any:
    """Return what answers at `PATH`, as calls of `METHOD`."""

    async def recommend(request: Struct | DecodeError) -> Struct:
        return _films(await answer(_asked(request, options)), options.title)

    return endpoint_in_front_of(METHOD, recommend, asked=Struct, answered=Struct)


def _asked(request: Struct | DecodeError, options: CodelabOptions) -> Any:
    """Return the RecommendRequest, or the RequestError that says why there is none."""
    try:
        user_id = _user_id(request)
    except RequestError as error:
        return error
    return pb.RecommendRequest(
        query=types_pb2.Query(user=types_pb2.UserQuery(id=user_id)),
        limit=LIMIT,
        retrieval=types_pb2.RetrievalOptions(candidate_count=options.candidate_count),
        exclusions=types_pb2.Exclusions(seen=options.exclude_seen),
        attributes=[options.title],
    )


def _user_id(request: Struct | DecodeError) -> str:
    """Return whom films are for; empty is anybody. Other fields are skipped, as in the codelab."""
    if isinstance(request, DecodeError):
        raise InvalidValue(
            "request", expected='a JSON object, as {"user_id": "42"}', got=str(request)
        )
    if FIELD not in request.fields:
        raise FieldRequired(FIELD, expected=EXPECTED, got="none")
    value = request.fields[FIELD]
    kind = value.WhichOneof("kind")
    if kind != "string_value":
        raise InvalidValue(FIELD, expected=EXPECTED, got=_GOT[kind or "null_value"])
    text_at_most(FIELD, value.string_value, ID_BYTES_MAX)
    return value.string_value


def _films(response: pb.RecommendResponse, title: str) -> Struct:
    films = Struct()
    # The app takes nothing but strings: an item without a title is shown by its id.
    films.get_or_create_list("movies").extend(
        item.attributes[title].string_value if title in item.attributes else item.id
        for item in response.items
    )
    return films
