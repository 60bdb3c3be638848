"""CPUs that this process may use: by its affinity, and by the quotas of its cgroups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """Return how many CPUs this process may use, at least 1.

    The smallest of the machine's CPUs, the process's affinity and the quotas of its cgroups (versions 1 and
    2), rounded up. A container with a quota of two CPUs sees all of its machine's, and threads beyond the
    quota only wait for each other.

    Parameters
    ----------
    root : Path
        Where /proc and /sys are.
    """
    # an operating system without affinity (macOS) gives all its CPUs
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return max(1, allowed if quota == math.inf else min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = ROOT) -> float:
    """Return the CPUs that the process's cgroups grant, infinity where none has a quota.

    Parameters
    ----------
    root : Path
        Where /proc and /sys are.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    mounts = root / "sys/fs/cgroup"
    quotas = [math.inf]
    for line in memberships:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            bases, quota = (mounts, mounts / "unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            bases, quota = (mounts / controllers, mounts / "cpu"), _quota_v1
        else:
            continue
        quotas += [quota(folder) for base in bases for folder in _up(base, group)]
    return min(quotas)


def _up(mount: Path, group: str) -> Iterator[Path]:
    """Yield the folders of a cgroup and of its parents: the quota of each holds.

    In a container, the group's path may be the host's, of which the mount shows the container's own at its
    root.
    """
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _quota_v2(folder: Path) -> float:
    words = _words(folder / "cpu.max")
    return _ratio(words[0], words[1]) if len(words) == 2 else math.inf


def _quota_v1(folder: Path) -> float:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _ratio(quota[0], period[0]) if quota and period else math.inf


def _ratio(quota: str, period: str) -> float:
    """Return CPUs; no quota is written `max` or -1."""
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return ratio if ratio > 0 else math.inf


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def library_threads() -> int | None:
    """Return the threads that a numeric library may use beside the lanes; None where the environment says.

    Libraries count the machine's CPUs, whatever a container's quota is.
    """
    return None if "OMP_NUM_THREADS" in os.environ else usable_cpus()
