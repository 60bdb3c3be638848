"""Brokers for development and tests, the demo, dashboards and alerts."""
