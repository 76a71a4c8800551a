"""Which of the loaded bundles answers a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shortlist_server.errors import InvalidValue, LabelNotLoaded
from shortlist_server.rpc.snapshot import Serving

STABLE, CANARY = "stable", "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The generations that answer at one moment, by label."""

    stable: Serving
    canary: Serving | None = None
    canary_share: float = 0.0
    """Share of the users whom the canary answers, 0..1."""

    def choose(self, *, label: str, user_id: str, request_id: str) -> tuple[str, Serving]:
        """Return the label of what answers a request, and that: the caller's choice, else the
        canary for a share of the users, else the stable bundle.

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
        if label == STABLE or (label == "" and self.canary is None):
            return STABLE, self.stable
        if self.canary is None:
            raise LabelNotLoaded("bundle_label", expected=STABLE, got=label)
        drawn = position(self.canary.snapshot.identity.sha256, user_id or request_id)
        if label == CANARY or drawn < self.canary_share:
            return CANARY, self.canary
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
