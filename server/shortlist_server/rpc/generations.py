"""Which of the loaded bundles answers a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.errors import InvalidValue, LabelNotLoaded
from shortlist_server.rpc.snapshot import Serving

STABLE, CANARY = BundleLabel.STABLE, BundleLabel.CANARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The generations that answer at one moment, by label."""

    stable: Serving
    canary: Serving | None = None
    canary_share: float = 0.0
    """Share of the users whom the canary answers, 0..1."""
    shadow: Serving | None = None
    """Answers no request."""

    def choose(self, *, label: str, user_id: str, request_id: str) -> tuple[str, Serving]:
        """Return the label of what answers a request, and that: the caller's choice, else the
        canary for a share of the users, else the stable bundle. A canary that does not follow the
        catalogue answers nobody meanwhile: it might recommend items that were deleted.

        Args:
            label: `bundle_label` of the request; empty leaves it to the server.
            user_id: Empty where the request names no user: the request id decides then.
            request_id: Id of the request.

        Raises:
            InvalidValue: there is no such label.
            LabelNotLoaded: no bundle has this label now.
        """
        if label not in ("", STABLE, CANARY):
            raise InvalidValue(
                "bundle_label", expected="stable, canary, or empty for either", got=label
            )
        canary = self.canary if self.canary is not None and self.canary.follows else None
        if label == STABLE or (label == "" and canary is None):
            return STABLE, self.stable
        if canary is None:
            raise LabelNotLoaded("bundle_label", expected=STABLE, got=label)
        drawn = position(canary.snapshot.identity.sha256, user_id or request_id)
        if label == CANARY or drawn < self.canary_share:
            return CANARY, canary
        return STABLE, self.stable


def position(salt: str, key: str) -> float:
    """Return where a user stands among all users, 0..1 without 1: the same in every process and
    version, evenly spread, and another for each canary.

    The first 53 bits of BLAKE2b over `salt/key` in UTF-8, as a fraction: what a double holds
    exactly, so that a share of 1 takes everybody. A larger share only adds users.

    Args:
        salt: The sha256 of the canary, in hex.
        key: The user's id, or the request's where there is none.
    """
    digest = hashlib.blake2b(f"{salt}/{key}".encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> 11) / 2**53)
