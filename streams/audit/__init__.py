"""Recomputes every ledger from the topics and checks the invariants.

The audit shares formats with the router, never its logic.
"""
