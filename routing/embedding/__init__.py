"""Embedding of texts as unit vectors: the embedder interface, each kind of embedder, prompt features."""
