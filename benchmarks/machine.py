"""Description of the machine that ran a benchmark."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, object]:
    """Return processor, cores, memory, Python and relevant libraries."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in _lines(info) if line.startswith("model name")]
    memory = [line.split()[1] for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "libraries": {
            name: version(name)
            for name in ("numpy", "faiss-cpu", "confluent-kafka", "aiokafka", "faust-streaming")
        },
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
