"""What /proc says of the mounts of this process's namespace."""

from __future__ import annotations

from imgbuild.patterns import pattern

_OCTAL = pattern(rb"\\([0-7]{3})")


def points_below(fd: int) -> tuple[bytes, ...]:
    """The mount points below a mount, from the new root, which lies over "/". A mount that another covers stays as it is: nobody in a
    sandbox can open what is in it, or take off what covers it."""
    info = _content(f"/proc/self/fdinfo/{fd}")
    inside = {next(line.split()[1] for line in info.splitlines() if line.startswith(b"mnt_id:"))}
    found = []
    rows = [line.split()[:5] for line in _content("/proc/self/mountinfo").splitlines()]
    while new := [row for row in rows if row[1] in inside and row[0] not in inside]:
        inside |= {row[0] for row in new}
        found += [_OCTAL.sub(lambda match: bytes((int(match[1], 8),)), row[4]) for row in new]
    return tuple(found)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
