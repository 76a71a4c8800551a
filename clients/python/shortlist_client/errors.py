"""Everything that a call can raise, by name.

    ShortlistError
      x InvalidRequestError       the request cannot be answered because of what it says
        - FieldRequired           a required field is not set
        - OutOfRange              a number, a length or a count is out of its range
        - InvalidValue            a value is not what its field takes
        - DimensionMismatch       an embedding has not as many components as the bundle's
        - FeatureTypeMismatch     a feature has another type than the bundle declares
        - UnknownFeature          the bundle declares no such feature (strict)
        - UnknownAttribute        the bundle declares no such item attribute (`attributes`: strict)
        - AttributeTypeMismatch   a filter or source compares an attribute with another type
        - UnknownItem             the bundle has no such item (strict)
        - UnknownOutput           the ranker has no such output
        - UnknownSource           the bundle configures no source of this name
        - ExcludedItemRequested   items are both asked for and excluded
        - IdempotencyKeyReused    an earlier call's key comes with another request
        - MessageTooLarge         the request or its answer is larger than a message may be
      x Unauthenticated           the server does not know who calls
        - ApiKeyMissing           the call carried no API key
        - ApiKeyInvalid           its key is not one of the server's
      x PermissionDenied          the caller may not make this call
        - ScopeMissing            its API key does not open `scope`
      - LabelNotLoaded            the server has no bundle of the label asked for
      x NotFound                  none of the items that a query needs is known
        - ConversationNotFound    the server keeps no such conversation for this caller
      - DeadlineExceeded          the time was gone before the answer came
      x Overloaded                too busy: come back after `retry_delay_s`
        - RateLimited             this API key is used more often than it may be
      x Unavailable               nobody answers at the target
        - ShuttingDown            the server is stopping
        - RevisionNotReached      the server does not see `min_revision` of the catalogue yet
        - CatalogUnavailable      the store of its live catalogue cannot be read or written now
        - TextEmbedderUnavailable  the service that embeds texts does not answer it now
      - CatalogReadOnly           the server has no store for changes of items
      x BundleRefused             a bundle cannot be switched to
        - BundleMissing           there is no such bundle
        - BundleCorrupt           a file of it is not what its manifest says
        - BundleUnsupported       this version of the server does not know its format
        - Parity                  its models give other numbers than in training
        - ModelSignatureMismatch  a model is not what the manifest declares
      - NotConfigured             the server is not set up for the call; see `setting`
      - SwitchUnderWay            another bundle is being switched to: try again later
      - Internal                  a fault of the server; `request_id` leads to its log

`except InvalidRequestError` catches its whole family; what a client refuses before it sends
anything is of that family too. A reason or a status that this version does not know becomes the
nearest class above, `ShortlistError` at worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import grpc


class ShortlistError(Exception):
    """Base of all errors of a call.

    Attributes:
        reason: Name of the ErrorReason value without its prefix, as the server sent it. Empty where
            the error carries none: then gRPC made it, or something between client and server.
        code: The gRPC status code.
        request_id: Id of the failed request, as the server logs it.
        metadata: What the server says about the reason: `field`, `expected`, `got`, `stage`, ...
        retry_delay_s: Seconds after which the server asks to be called again. None where it does
            not say.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        request_id: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_delay_s: float | None = None,
    ) -> None:
        # Only the message goes to `args`, and everything else has a default: so errors survive
        # pickling, which rebuilds them from `args` and then restores the attributes. Process pools
        # need that.
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.request_id = request_id
        self.metadata = dict(metadata or {})
        self.retry_delay_s = retry_delay_s


class InvalidRequestError(ShortlistError):
    """A request cannot be answered because of what it says; a retry gives the same error."""

    @property
    def field(self) -> str:
        """Path of the field: `query.user.features["age"]`. Empty where unknown, as the next two."""
        return self.metadata.get("field", "")

    @property
    def expected(self) -> str:
        """What the field takes."""
        return self.metadata.get("expected", "")

    @property
    def got(self) -> str:
        """What the field holds."""
        return self.metadata.get("got", "")

    @classmethod
    def about(cls, field: str, *, reason: str, expected: str, got: str) -> Self:
        """Return the error by which the client refuses a field, just as the server would."""
        return cls(
            f"{field}: expected {expected}, got {got}",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason=reason,
            metadata={"field": field, "expected": expected, "got": got},
        )


class FieldRequired(InvalidRequestError):
    """A required field is not set."""


class OutOfRange(InvalidRequestError):
    """A number, a length or a count is out of its range."""


class InvalidValue(InvalidRequestError):
    """A value is not what its field takes."""


class DimensionMismatch(InvalidRequestError):
    """An embedding has not as many components as the bundle's embeddings."""


class FeatureTypeMismatch(InvalidRequestError):
    """A feature has another type than the bundle declares."""


class UnknownFeature(InvalidRequestError):
    """The bundle declares no such feature, and the request was strict."""


class UnknownAttribute(InvalidRequestError):
    """The bundle declares no such item attribute.

    In `attributes` an error only where the request was strict; in filters, caps and sources always.
    """


class AttributeTypeMismatch(InvalidRequestError):
    """A filter or a source compares an attribute with what its type cannot be compared with."""


class UnknownItem(InvalidRequestError):
    """The bundle has no such item, and the request was strict."""


class UnknownOutput(InvalidRequestError):
    """The ranker has no such output, or the bundle has no ranker."""


class UnknownSource(InvalidRequestError):
    """The bundle configures no source of this name."""


class ExcludedItemRequested(InvalidRequestError):
    """Items are both asked for and excluded."""


class IdempotencyKeyReused(InvalidRequestError):
    """The idempotency key of an earlier call comes with a request that says something else."""


class MessageTooLarge(InvalidRequestError):
    """The request, or its answer, is larger than a message may be.

    Ask for fewer items or attributes. gRPC refuses such messages before anyone reads them, so there
    is no reason and no field.
    """


class Unauthenticated(ShortlistError):
    """The server does not know who calls; a retry gives the same error."""


class ApiKeyMissing(Unauthenticated):
    """The server wants an API key, and the call carried none."""


class ApiKeyInvalid(Unauthenticated):
    """The API key is not one of the server's."""


class PermissionDenied(ShortlistError):
    """The caller may not make this call; a retry gives the same error."""


class ScopeMissing(PermissionDenied):
    """The API key does not open the method, or `explain` or `debug`."""

    @property
    def scope(self) -> str:
        """The scope that the key lacks; several, of which one is enough, joined by ` or `."""
        return self.metadata.get("scope", "")


class LabelNotLoaded(ShortlistError):
    """The server has no bundle of the label asked for; a retry gives the same error."""


class NotFound(ShortlistError):
    """None of the items that a query needs is known to the bundle."""


class ConversationNotFound(NotFound):
    """The server keeps no such conversation for this caller: begin a new one."""


class DeadlineExceeded(ShortlistError):
    """The time was gone before the answer came."""

    @property
    def stage(self) -> str:
        """Name of the stage that had no time left. Empty where the server did not say."""
        return self.metadata.get("stage", "")


class Overloaded(ShortlistError):
    """The server has as many requests waiting as it admits. Come back after `retry_delay_s`."""


class RateLimited(Overloaded):
    """This API key is used more often than it may be. Come back after `retry_delay_s`."""


class Unavailable(ShortlistError):
    """Nobody answers at the target, after the client's own retries."""


class ShuttingDown(Unavailable):
    """The server is stopping. Another replica, or the same one later, will answer."""


class RevisionNotReached(Unavailable):
    """The server does not see the revision of the catalogue that `min_revision` asks for, yet."""


class CatalogUnavailable(Unavailable):
    """The store of the live catalogue cannot be read or written now.

    A call that changes items may be sent again with its idempotency key: it is applied once.
    """


class TextEmbedderUnavailable(Unavailable):
    """The service that embeds texts does not answer the server now. `metadata["problem"]` says why.

    A request whose other sources find something is answered without.
    """


class CatalogReadOnly(ShortlistError):
    """Items cannot be changed: the server has no store for changes."""


class BundleRefused(ShortlistError):
    """A bundle cannot be switched to; what serves is as it was."""


class BundleMissing(BundleRefused):
    """There is no such bundle where the server's bundles come from."""


class BundleCorrupt(BundleRefused):
    """A file of the bundle is missing, cut, changed, or not what the manifest says."""


class BundleUnsupported(BundleRefused):
    """The bundle's format, or a section that it requires, is unknown to this server."""


class Parity(BundleRefused):
    """The golden requests of the bundle give other numbers on the server than in training."""


class ModelSignatureMismatch(BundleRefused):
    """A model of the bundle has other inputs or outputs than the manifest declares, or fails."""


class NotConfigured(ShortlistError):
    """The server is not set up for the call. `metadata["setting"]` is what would have to be set."""


class SwitchUnderWay(ShortlistError):
    """Another bundle is being switched to; one at a time."""


class Internal(ShortlistError):
    """A fault of the server. Its log has the cause under `request_id`."""
