"""Outcomes replace reservations: what is cheaper can be spent again, what is dearer is charged and held back.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""
