"""Routing policies behind one interface; `experiments.policies.registry` creates them by name."""
