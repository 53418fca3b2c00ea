"""How much memory processes can still have: of the machine, and within the limits of the control groups that this process is in."""

from __future__ import annotations

import os

from imgbuild.light.contextlib import suppress
from imgbuild.sandbox.group import Place, pairs, read

_UNLIMITED = 1 << 60


def available_memory(place: Place, meminfo: str = "/proc/meminfo") -> int | None:
    """Bytes; None where nothing says so. What the kernel would take back from its caches counts as available."""
    found = [_of_machine(meminfo), _v1(place.controllers.get("memory", "")), *_v2(place.unified, place.unified_top)]
    return min((each for each in found if each is not None), default=None)


def _of_machine(meminfo: str) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in read(meminfo).splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _v1(directory: str) -> int | None:
    """Within the smallest limit of the group and those above it; what they use beside it is not known here."""
    with suppress(OSError, ValueError, KeyError):
        stat = pairs(f"{directory}/memory.stat")
        limit = stat["hierarchical_memory_limit"]
        used = int(read(f"{directory}/memory.usage_in_bytes")) - stat.get("total_cache", 0) + stat.get("total_shmem", 0)
        return max(0, limit - used) if limit < _UNLIMITED else None
    return None


def _v2(directory: str, top: str) -> list[int]:
    found = []
    while directory and len(directory) >= len(top):
        with suppress(OSError, ValueError):
            stat = pairs(f"{directory}/memory.stat")
            used = int(read(f"{directory}/memory.current")) - stat.get("file", 0) + stat.get("shmem", 0)
            found.append(max(0, int(read(f"{directory}/memory.max")) - used))  # "max" is no number
        if directory == top or directory == os.path.dirname(directory):
            break
        directory = os.path.dirname(directory)
    return found
