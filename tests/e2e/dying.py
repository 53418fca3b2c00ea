"""imgbuild, killed by SIGKILL at a change that it makes: ``python dying.py COUNT WHOM REPORT ARGUMENT...``

The COUNTth time that a process of it opens a file for writing, renames, makes or removes something, or connects, it dies before it does so:
WHOM is "group", then with its process group, or "alone". COUNT 0 never comes; then the number of changes is written to REPORT.
The end of a process is so an event that can be repeated, wherever the time goes.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = frozenset({
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "os.utime",
    "os.setxattr", "os.removexattr", "fcntl.flock", "socket.connect", "sqlite3.connect",
})  # fmt: skip


def main() -> None:
    """Count, and be imgbuild."""
    wanted, whom, report = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    counter = itertools.count(1)
    last = [0]
    own = os.getpid()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" and event not in _CHANGES:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITES):
            return
        last[0] = next(counter)
        # The first process of a PID namespace can't kill itself, and need not: it dies with the others.
        if last[0] == wanted and os.getpid() != 1:
            if whom == "group":
                os.killpg(0, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    # Writing .pyc files is no change of imgbuild's.
    sys.dont_write_bytecode = True
    from imgbuild.cli.main import main as imgbuild

    sys.addaudithook(hook)
    try:
        imgbuild(sys.argv[4:])
    finally:
        if os.getpid() == own:
            seen = last[0]
            with open(report, "w", encoding="ascii") as file:
                file.write(str(seen))


if __name__ == "__main__":
    main()
