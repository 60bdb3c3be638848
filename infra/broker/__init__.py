"""Kafka brokers for development and tests: native Apache Kafka, Docker Compose, embedded, or external."""
