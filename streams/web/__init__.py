"""The HTTP port: probes, metrics, the page. Read only."""
