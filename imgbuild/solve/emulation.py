"""Steps for another platform than the machine's own: whether it can run them, and in words what it lacks."""

from __future__ import annotations

from imgbuild.errors import SandboxError
from imgbuild.linux.emulation import Handler, architecture_of, find_handler, handlers_are_listed
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.run import RunJob

_FIX = (
    "install one (Debian, Ubuntu: apt-get install qemu-user-static binfmt-support), or build the stage with FROM "
    "--platform=$BUILDPLATFORM and let it compile for TARGETARCH"
)


def check_foreign(rooms: Rooms, job: RunJob) -> None:
    """SandboxError where the machine has nothing that runs the step's programs. Where it does not say which handlers it has, the step
    may try."""
    handler = find_handler(architecture_of(job.op.platform))
    if handler is None:
        if handlers_are_listed():
            raise no_handler(rooms, job.op.platform)
    elif not handler.enabled:
        raise SandboxError(
            f"{_what(rooms, job.op.platform)}, and the handler {handler.name} for its programs is disabled",
            hint=f"enable it: echo 1 > /proc/sys/fs/binfmt_misc/{handler.name}",
        )
    elif not handler.fixed and not _holds(rooms, job, handler):
        raise SandboxError(
            f"{_what(rooms, job.op.platform)}; the handler {handler.name} for its programs is registered without the flag F, and its "
            f"interpreter {handler.interpreter} is not in the step's root file system",
            hint="register it with the flag F, as Debian's qemu-user-static does",
        )


def no_handler(rooms: Rooms, platform: str) -> SandboxError:
    """Why programs for a platform can't be run, and what helps."""
    return SandboxError(f"{_what(rooms, platform)}, and no binfmt_misc handler is registered for its programs", hint=_FIX)


def _what(rooms: Rooms, platform: str) -> str:
    return f"the step is for {platform}, this machine is {rooms.features.machine}"


def _holds(rooms: Rooms, job: RunJob, handler: Handler) -> bool:
    with rooms.view(job.lowers) as view:
        path = ""
        for part in filter(None, handler.interpreter.split("/")):
            path += f"/{part}"
            if view.lstat(path) is None:
                return False
    return bool(path)
