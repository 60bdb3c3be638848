"""Talking to Kafka: client configuration, fenced transactions, reading topics, topic specifications, ACLs."""
