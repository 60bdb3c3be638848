"""CPUs of a process: affinity and the quotas of cgroups, from files as the kernel writes them."""

import math
import os
from pathlib import Path

import pytest

from streams.config import cpus as cpus_module
from streams.config.cpus import cpu_quota, usable_cpus
from streams.worker import process_tuning
from streams.worker.process_tuning import library_threads, threads_per_lane


def system(root: Path, membership: str, files: dict[str, str]) -> Path:
    """A root with a process's cgroups and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "12:cpuset:/docker/abc\n5:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        # version 2: a container sees its own group at the root, or a service its path
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/system.slice/router\n", {"system.slice/router/cpu.max": "50000 100000\n"}, 0.5),
        # the quota of a parent holds as well
        ("0::/pods/a\n", {"pods/cpu.max": "150000 100000\n", "pods/a/cpu.max": "max 100000\n"}, 1.5),
        ("0::/pods/a\n", {"pods/cpu.max": "400000 100000\n", "pods/a/cpu.max": "30000 10000\n"}, 3.0),
        # the path is the host's, and the mount shows the container's group
        ("0::/../../kubepods/pod1\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/kubepods/pod1\n", {"cpu.max": "250000 100000\n"}, 2.5),
        # version 1
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3.0),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "100000", "cpu/docker/abc/cpu.cfs_period_us": "50000"}, 2.0),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, math.inf),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n"}, math.inf),
        # both: a hybrid host mounts version 2 beside
        (V1 + "0::/docker/abc\n", {"unified/docker/abc/cpu.max": "100000 100000"}, 1.0),
        # what no kernel writes is no quota
        ("0::/\n", {"cpu.max": ""}, math.inf),
        ("0::/\n", {"cpu.max": "x y\n"}, math.inf),
        ("0::/\n", {"cpu.max": "100000 0\n"}, math.inf),
        ("nothing\n\n", {"cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_cpu_quota_smallest_quota_counts(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float
) -> None:
    assert cpu_quota(system(tmp_path, membership, files)) == quota


def test_cpu_quota_without_cgroups_is_infinite(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf
    assert usable_cpus(tmp_path) == usable_cpus(tmp_path / "none") >= 1


@pytest.mark.parametrize(
    ("affinity", "cpu_max", "cpus"),
    [
        (8, "max 100000", 8),
        (8, "200000 100000", 2),
        (8, "250000 100000", 3),
        (8, "10000 100000", 1),
        (2, "600000 100000", 2),
    ],
)
def test_library_threads_smaller_of_affinity_and_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affinity: int, cpu_max: str, cpus: int
) -> None:
    root = system(tmp_path, "0::/\n", {"cpu.max": cpu_max})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cpus(root) == cpus
    for module in (cpus_module, process_tuning):
        monkeypatch.setattr(module, "usable_cpus", lambda: usable_cpus(root))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert library_threads() == cpus
    assert [threads_per_lane(lanes) for lanes in (1, 2, 64)] == [cpus, max(1, cpus // 2), 1]
    # without affinity (macOS) the machine's CPUs count
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(root) == min(64, math.ceil(cpu_quota(root)) if cpu_max[0] != "m" else 64)


def test_library_threads_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert library_threads() is None
