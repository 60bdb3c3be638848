"""Data sets of answered queries, one file per format; `load` chooses the format by content."""
