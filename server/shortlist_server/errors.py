"""Everything that can go wrong, by name.

    ShortlistError
      x RequestError            the caller's fault; names field, expected and got
        - FieldRequired
        - OutOfRange
        - InvalidValue
        - DimensionMismatch
        - FeatureTypeMismatch
        - UnknownFeature
        - UnknownAttribute
        - AttributeTypeMismatch
        - UnknownSource
        - UnknownItem
        - UnknownOutput
        - ExcludedItemRequested
        - IdempotencyKeyReused
      x AccessError             the caller may not make this call
        - ApiKeyMissing         the call carries no API key
        - ApiKeyInvalid         its key is not one of this server's
        - ScopeMissing          its key does not open what it asks for
      - RateLimited             its key is used more often than it may be
      - LabelNotLoaded          no bundle has the label that a request asks for
      - ConversationNotFound    the server keeps no such conversation for its caller
      - ItemNotFound            none of the items that a query needs is known
      - DeadlineExceeded        the time budget is gone
      - Overloaded              as many requests wait as are admitted
      - ShuttingDown            the server takes no more requests
      x BundleError             the bundle cannot be served
        - BundleMissing         no bundle at that place
        - BundleCorrupt         a file is missing, cut, changed or not what the manifest says
        - BundleUnsupported     its format, or a required section, is unknown to this version
        - ParityError           a model's numbers differ from those of the training framework
        - ModelSignatureMismatch  a model's tensors are not those the manifest declares
      - ModelOutputInvalid      a model gave a number that is not finite
      - RevisionNotReached      the catalogue is not seen as new as a request asks for
      - CatalogReadOnly         there is no store for changes of the items
      x CatalogError            the live catalogue's store cannot be used
        - CatalogUnavailable    not now: disk full or read-only, locked too long, not reachable
        - CatalogCorrupt        the store is damaged
        - CatalogMismatch       it holds another catalogue, or is no store
        - CatalogUnsupported    its format is unknown to this version
      x LogError                the request log cannot be replayed
        - LogMissing            no request log at that place
        - LogCorrupt            a file is no request log, or damaged
        - LogUnsupported        its format is unknown to this version
        - NothingToCompare      none of its requests can be replayed as it was asked
      - TextEmbedderUnavailable the service that embeds texts does not answer now
      - IndexUnavailable        the engine outside that searches the items does not answer now
      - NotConfigured           the server is not set up for what a call asks
      - SwitchUnderWay          another bundle is being switched to
      - ConfigError             the configuration cannot be used
      - MissingExtra            an optional dependency is not installed

Messages say what, what was expected, what came, and what to do. `rpc/status.py` alone knows which
gRPC status each becomes.
"""

from __future__ import annotations

from typing import ClassVar


class ShortlistError(Exception):
    """Base of all errors that Shortlist raises on purpose."""


class RequestError(ShortlistError):
    """A request cannot be answered because of what it says.

    Attributes:
        reason: Name of the ErrorReason value, without its prefix.
        field: Path of the field in the request, as a caller would write it.
        expected: What the field takes.
        got: What the field holds.
    """

    reason: ClassVar[str]

    def __init__(self, field: str, *, expected: str, got: str) -> None:
        super().__init__(f"{field}: expected {expected}, got {got}")
        self.field = field
        self.expected = expected
        self.got = got


class FieldRequired(RequestError):
    """A required field is not set."""

    reason = "FIELD_REQUIRED"


class OutOfRange(RequestError):
    """A number, a length or a count is out of its range."""

    reason = "OUT_OF_RANGE"


class InvalidValue(RequestError):
    """A value is not what its field takes."""

    reason = "INVALID_VALUE"


class DimensionMismatch(RequestError):
    """An embedding has not as many components as the index."""

    reason = "DIMENSION_MISMATCH"


class FeatureTypeMismatch(RequestError):
    """A feature has another type than the bundle declares."""

    reason = "FEATURE_TYPE_MISMATCH"


class UnknownFeature(RequestError):
    """The bundle declares no such feature (strict mode)."""

    reason = "UNKNOWN_FEATURE"


class UnknownAttribute(RequestError):
    """The bundle declares no such item attribute (in `attributes`: strict mode)."""

    reason = "UNKNOWN_ATTRIBUTE"


class AttributeTypeMismatch(RequestError):
    """An item attribute is compared with a value of another type, or by a condition that its type
    does not have.
    """

    reason = "ATTRIBUTE_TYPE_MISMATCH"


class UnknownSource(RequestError):
    """The bundle configures no source of this name."""

    reason = "UNKNOWN_SOURCE"


class UnknownItem(RequestError):
    """The bundle has no such item (strict mode)."""

    reason = "UNKNOWN_ITEM"


class UnknownOutput(RequestError):
    """The ranker has no such output."""

    reason = "UNKNOWN_OUTPUT"


class ExcludedItemRequested(RequestError):
    """Items are both asked for and excluded."""

    reason = "EXCLUDED_ITEM_REQUESTED"


class IdempotencyKeyReused(RequestError):
    """The key of an earlier request comes with a request that says something else."""

    reason = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, key: str) -> None:
        super().__init__(
            "idempotency_key",
            expected="a key that no other request of the last 24 hours has used",
            got=repr(key),
        )


class AccessError(ShortlistError):
    """A caller may not make a call. Never says anything of a key that the caller did not send."""


class ApiKeyMissing(AccessError):
    """The call carries no API key."""

    def __init__(self) -> None:
        self.expected = "metadata `authorization: Bearer sl_...`"
        super().__init__(f"the call carries no API key: expected {self.expected}")


class ApiKeyInvalid(AccessError):
    """The key that the call carries is not one of this server's."""

    def __init__(self) -> None:
        self.expected = "one key of this server as `authorization: Bearer sl_...`"
        super().__init__(f"the API key is not valid: expected {self.expected}")


class ScopeMissing(AccessError):
    """The key does not open what the call asks for.

    Attributes:
        scope: What would; several are joined by ` or `.
    """

    def __init__(self, *, scope: str) -> None:
        super().__init__(f"the call needs an API key with scope {scope}")
        self.scope = str(scope)


class RateLimited(ShortlistError):
    """A key is used more often than it may be.

    Attributes:
        limit: How often that is.
        retry_delay_ms: When the next call is admitted, in milliseconds.
    """

    def __init__(self, *, per_second: float, burst: int, retry_delay_ms: int) -> None:
        self.limit = f"at most {per_second:g} requests per second, {burst} at once"
        super().__init__(
            f"the API key admits {self.limit.removeprefix('at most ')}; retry in "
            f"{retry_delay_ms} ms"
        )
        self.retry_delay_ms = retry_delay_ms


class LabelNotLoaded(ShortlistError):
    """No bundle has the label that a request asks for."""

    def __init__(self, field: str, *, expected: str, got: str) -> None:
        self.field = field
        self.expected = f"the label of a bundle that is loaded: {expected}"
        self.got = got
        super().__init__(f"{field}: expected {self.expected}, got {got}")


class ConversationNotFound(ShortlistError):
    """The server keeps no such conversation for this caller."""

    def __init__(self, conversation_id: str) -> None:
        self.field = "conversation_id"
        self.expected = "the id of a conversation of this caller that the server keeps"
        self.got = conversation_id
        super().__init__(f"{self.field}: expected {self.expected}, got {self.got}")


class ItemNotFound(ShortlistError):
    """None of the items that a query needs is in the bundle."""

    def __init__(self, field: str, *, got: str) -> None:
        self.field = field
        self.expected = "the id of an item of the bundle"
        self.got = got
        super().__init__(f"{field}: expected {self.expected}, got {got}")


class DeadlineExceeded(ShortlistError):
    """The time budget was gone before the answer was ready."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"the time budget was gone before stage {stage!r} could begin")
        self.stage = stage


class Overloaded(ShortlistError):
    """As many requests are waiting as the server admits, or this one has waited too long.

    Attributes:
        limit: What is more than the server can do.
        retry_delay_ms: When it is worth coming back, in milliseconds.
    """

    def __init__(
        self, *, waiting_max: int, retry_delay_ms: int, waited_ms: float | None = None
    ) -> None:
        if waited_ms is None:
            self.limit = f"at most {waiting_max} requests waiting"
            why = f"{waiting_max} requests are waiting already"
        else:
            self.limit = "fewer requests than the server is asked"
            why = f"more is asked than the server can do: this request waited {waited_ms:.0f} ms"
        super().__init__(f"{why}; retry in {retry_delay_ms} ms")
        self.retry_delay_ms = retry_delay_ms


class ShuttingDown(ShortlistError):
    """The server is stopping and takes no more requests."""

    def __init__(self) -> None:
        super().__init__("the server is stopping; ask another replica, or retry")


class BundleError(ShortlistError):
    """A bundle cannot be served."""


class BundleMissing(BundleError):
    """There is no bundle at the place named."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, cut, changed, or not what the manifest says."""


class BundleUnsupported(BundleError):
    """The bundle is written in a format, or needs a section, that this version cannot read."""


class ParityError(BundleError):
    """A model's outputs differ from those recorded at training by more than the tolerance."""


class ModelSignatureMismatch(BundleError):
    """A model's inputs or outputs are not those that the manifest declares."""


class ModelOutputInvalid(ShortlistError):
    """A model gave a number that is not finite."""


class RevisionNotReached(ShortlistError):
    """This server has not come to see the revision of the catalogue that a request asks for.

    Attributes:
        wanted: The revision asked for.
        reached: The revision that it sees.
        retry_delay_ms: When it is worth coming back, in milliseconds.
    """

    def __init__(self, *, wanted: int, reached: int, retry_delay_ms: int = 100) -> None:
        super().__init__(f"min_revision: expected revision {wanted}, got revision {reached}")
        self.wanted = wanted
        self.reached = reached
        self.retry_delay_ms = retry_delay_ms


class CatalogReadOnly(ShortlistError):
    """There is no store for changes of the items."""

    def __init__(self) -> None:
        super().__init__(
            "items cannot be changed: this server has no store for changes; set `catalog_store`"
        )


class CatalogError(ShortlistError):
    """The store of the live catalogue cannot be used."""


class CatalogUnavailable(CatalogError):
    """The store of the live catalogue cannot be read or written now; retrying is safe.

    The message goes to callers: it names no file and no host. `__cause__` does.

    Attributes:
        problem: What is wrong.
        retry_delay_ms: When it is worth coming back, in milliseconds.
    """

    def __init__(self, problem: str, *, retry_delay_ms: int = 1000) -> None:
        super().__init__(
            f"the catalogue's store is not available: {problem}; retry in {retry_delay_ms} ms"
        )
        self.problem = problem
        self.retry_delay_ms = retry_delay_ms


class CatalogCorrupt(CatalogError):
    """The store of the live catalogue is damaged."""


class CatalogMismatch(CatalogError):
    """The store holds another catalogue, or what is at that place is no store."""


class CatalogUnsupported(CatalogError):
    """The store is written in a format that this version cannot read."""


class TextEmbedderUnavailable(ShortlistError):
    """The service that embeds texts does not answer now, or not with what can be used; retrying is
    safe.

    The message goes to callers: it names no service. `__cause__` does.

    Attributes:
        problem: Why, as `language_model.LanguageModelError.reason` says it.
        retry_delay_ms: When it is worth coming back, in milliseconds.
    """

    def __init__(self, *, problem: str, retry_delay_ms: int) -> None:
        super().__init__(
            f"the text cannot be embedded now: {problem}; retry in {retry_delay_ms} ms"
        )
        self.problem = problem
        self.retry_delay_ms = retry_delay_ms


class IndexUnavailable(ShortlistError):
    """The engine outside this process that searches the items does not answer now; retrying is
    safe.

    The message goes to callers: it names no host. `detail` does.

    Attributes:
        problem: `OUT_OF_TIME`, or `FAILED`.
        detail: What the engine, or its client, says; for the log.
        retry_delay_ms: When it is worth coming back, in milliseconds.
    """

    def __init__(self, problem: str, detail: str, *, retry_delay_ms: int = 1000) -> None:
        super().__init__(
            f"the items cannot be searched now: {problem}; retry in {retry_delay_ms} ms"
        )
        self.problem = problem
        self.detail = detail
        self.retry_delay_ms = retry_delay_ms


class NotConfigured(ShortlistError):
    """The server is not set up for what a call asks.

    Attributes:
        setting: What would have to be set.
        expected: To what.
    """

    def __init__(self, *, setting: str, expected: str) -> None:
        super().__init__(f"{setting}: expected {expected}, in the configuration of the server")
        self.setting = setting
        self.expected = expected


class SwitchUnderWay(ShortlistError):
    """Another bundle is being switched to; one at a time."""

    def __init__(self) -> None:
        super().__init__("another bundle is being switched to; try again when that has ended")


class LogError(ShortlistError):
    """A request log cannot be replayed."""


class LogMissing(LogError):
    """There is no request log at the place named."""


class LogCorrupt(LogError):
    """A file is no file of a request log, or is damaged."""


class LogUnsupported(LogError):
    """A file is written in a format that this version cannot read."""


class NothingToCompare(LogError):
    """A verdict was asked for, and none of the log's requests could be compared."""


class ConfigError(ShortlistError):
    """The configuration cannot be used."""


class MissingExtra(ShortlistError):
    """An optional dependency is not installed."""

    def __init__(self, *, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional part of Shortlist; "
            f"install it with: pip install 'shortlist[{extra}]'"
        )
        self.extra = extra
