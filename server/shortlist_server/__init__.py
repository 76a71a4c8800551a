"""The Shortlist server: candidate retrieval, ranking and selection behind one gRPC call."""

__version__ = "0.1.0"
__all__ = ["__version__"]
