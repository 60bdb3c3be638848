"""The parts of `streams.checker`, one invariant or source a file."""
