"""Data, accounting, baselines and reports of `producers.prepare` and `producers.replay`."""
