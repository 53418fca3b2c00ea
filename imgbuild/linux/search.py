"""Finds strings in large blocks by the C library's memmem(3), which other threads need not wait for, as they would for `bytes.find`."""

from __future__ import annotations

import ctypes

_SMALL = 1 << 16
"""Bytes that are sooner searched than a foreign function is called."""

_MEMMEM = getattr(ctypes.CDLL(None), "memmem", None)
if _MEMMEM is not None:
    _MEMMEM.restype = ctypes.c_void_p
    _MEMMEM.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


class Haystack:
    """A block of bytes that is searched several times."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        large = _MEMMEM is not None and len(data) > _SMALL
        self._address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value if large else None

    def find(self, needle: bytes, start: int = 0) -> int:
        """As `bytes.find`."""
        if self._address is None or _MEMMEM is None or start > len(self._data):
            return self._data.find(needle, start)
        found = _MEMMEM(self._address + start, len(self._data) - start, needle, len(needle))
        return -1 if found is None else found - self._address
