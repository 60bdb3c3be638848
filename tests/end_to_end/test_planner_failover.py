"""The planner's worker dies at the worst moments: one plan, the same prices, no sample lost or counted twice.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""
