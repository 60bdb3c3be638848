"""A period ends by itself, the next begins with fresh grants, and the bill of the closed one is kept.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""
