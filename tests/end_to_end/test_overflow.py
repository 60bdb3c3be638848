"""Budgets over partitions: global ones are kept, and nothing of them is stranded.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""
