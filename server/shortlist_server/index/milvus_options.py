"""Where a Milvus is, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusOptions:
    """Where a Milvus is, and how it is asked."""

    uri: str
    """http://HOST:PORT, or https:// with TLS."""
    token: str = field(default="", repr=False)
    """`user:password` or an API key; empty sends none."""
    database: str = ""
    """Empty: Milvus' own default."""
    timeout_s: float = 0.5
    """Longest that a search may take, in seconds."""
    rest_s: float = 1.0
    """Time for which nothing is asked after a call that failed, in seconds."""
    scan_items_max: int = 1_000
    """Where no more items are allowed they are compared here, and Milvus is not asked."""
    collection_prefix: str = "shortlist"
    """Begin of the names of collections, which tells those of several installations apart."""

    def alias(self, sha256: str) -> str:
        """Return the alias under which the items of a bundle are searched."""
        return f"{self.collection_prefix}_{sha256[:32]}"
