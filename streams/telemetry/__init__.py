"""Metrics, health, heartbeats, traces and cluster summary of a worker."""
