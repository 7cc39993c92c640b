"""How many CPUs this process may use."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def allowed_cpus() -> int:
    """Count the CPUs that affinity and control groups allow, at least 1.

    A container's quota is a share of time and not a set of CPUs: the operating system's count does not know of it.
    """
    cpus = len(os.sched_getaffinity(0))
    for quota in _quotas():
        cpus = min(cpus, max(1, round(quota)))
    return cpus


def _quotas() -> list[float]:
    """Read the CPU quotas of this process's groups, in CPUs (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`)."""
    quotas = []
    for folder in [_CGROUPS, *_own_groups()]:
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            try:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            except OSError:
                continue
        if quota.isdigit() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return quotas


def _own_groups() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = _CGROUPS / controllers if controllers else _CGROUPS
        if not controllers or "cpu" in controllers.split(","):
            leaf = root / path.lstrip("/")
            groups += [root, leaf, *(parent for parent in leaf.parents if root in parent.parents)]
    return groups
