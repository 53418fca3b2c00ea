"""Memory in huge pages, for what is filled from end to end."""

from __future__ import annotations

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from imgbuild.light.contextlib import suppress

_HUGE_PAGE = 2 << 20
_HUGE_PAGES = 14
"""MADV_HUGEPAGE (madvise(2))."""


def filled_memory(size: int) -> memoryview:
    """So many bytes, all of which will be used: so they are had in a few large pieces, where the kernel has such."""
    whole = (size + _HUGE_PAGE - 1) & -_HUGE_PAGE if size >= _HUGE_PAGE else size
    area = mmap(-1, whole, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    with suppress(OSError):
        area.madvise(_HUGE_PAGES)
    return memoryview(area)[:size]
