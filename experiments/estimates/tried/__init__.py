"""Variants of the best estimator that were measured and not adopted.

They are kept so that the commands beside their tables in docs/results.md still run. Only
`experiments.policies.registry` imports them.
"""
