"""One worker process: preflight checks, assembly, monitoring, shutdown."""
