"""Brokers, containers and the demo: what the router runs on. Only tests and the Makefile use it."""
