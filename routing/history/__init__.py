"""Answered queries: data, validation, storage, nearest-neighbour index."""
