"""Functions for operators: explanations of decisions, dead letters and their replay, bills."""
