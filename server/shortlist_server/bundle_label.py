"""The labels under which bundles are loaded side by side."""

from __future__ import annotations

from enum import StrEnum


class BundleLabel(StrEnum):
    """What a bundle is loaded for."""

    STABLE = "stable"
    """Answers whoever the canary does not."""
    CANARY = "canary"
    """Answers a share of the users, and who asks for it."""
    SHADOW = "shadow"
    """Answers behind the others, for comparison; nobody gets its answers."""
