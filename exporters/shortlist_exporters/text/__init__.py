"""Texts of items: the embedder that reads them, and their embeddings in a bundle."""
