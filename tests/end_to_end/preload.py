"""What the server of workers imports, before it forks any."""

import streams.commands.worker
import streams.starting

__all__ = ["streams"]
