"""Data sets of answered queries, one file a format; `load_dataset` picks it by content."""

from routing.datasets.demo import load_demo, load_demo_vectors
from routing.datasets.detect import load_dataset

__all__ = ["load_dataset", "load_demo", "load_demo_vectors"]
