"""The catalogue changes while workers run: no restart, no overspend, nothing lost.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""
