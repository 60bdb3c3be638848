"""What the server of workers imports, before it forks any."""

import streams.commands.worker
import streams.worker

__all__ = ["streams"]
