"""What a RUN gets of this machine beyond a sandbox: devices that it was allowed to open, and the disk whose use is limited."""

from __future__ import annotations

import os
import stat

from imgbuild.errors import BuildfileError, SandboxError
from imgbuild.graph.ops import DeviceOp
from imgbuild.hints import Callable, Iterable
from imgbuild.light.pathlib import Path

_INSECURE = ("/dev/fuse", "/dev/loop-control", *(f"/dev/loop{number}" for number in range(8)))
"""What a step without a sandbox finds in its /dev, where this machine has it: what is needed to mount images."""


def devices_of(asked: Iterable[DeviceOp], say: Callable[[str], None], *, insecure: bool) -> tuple[tuple[str, str], ...]:
    """The path of each device and what control groups call it. BuildfileError for one that is required and not there; one that
    is not required is done without, which `say` is told."""
    found = {}
    for device in asked:
        rule = _rule(device.name) if device.name.startswith("/") else None
        if rule is not None:
            found[device.name] = rule
            continue
        words = f"this machine has no device {device.name}"
        if device.required:
            hint = "name a device below /dev, such as --device=/dev/fuse; names of vendors' devices are not looked up"
            raise BuildfileError(words, at=device.span, hint=hint)
        say(f"{words}: the step runs without it")
    if insecure:
        found |= {path: rule for path in _INSECURE if path not in found and (rule := _rule(path)) is not None}
    return tuple(found.items())


def _rule(path: str) -> str | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    return f"{kind} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if kind else None


def disk_of(directory: Path) -> str:
    """The disk that holds a directory, as MAJOR:MINOR. SandboxError where it is on no single disk."""
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    place = f"/sys/dev/block/{number}"
    if os.major(device) == 0 or not os.path.exists(place):
        hint = "put the store on a disk (IMGBUILD_ROOT), or leave the --io limits out"
        raise SandboxError(f"the use of the disk can't be limited: {directory} is on a file system without one", hint=hint)
    if os.path.exists(f"{place}/partition"):
        # Limits are those of whole disks.
        return Path(os.path.realpath(f"{place}/.."), "dev").read_text(encoding="ascii").strip()
    return number
