"""Nearest-neighbour search over the item embeddings."""
