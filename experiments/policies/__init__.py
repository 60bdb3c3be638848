"""Policies behind one interface; `experiments.registry` knows them by name."""
