"""Starts the commands that are timed, in a small process of its own: who is measured inherits the peak memory of who forked it.

Reads one JSON object a line: argv, env, log, procs (the file by which a control group is joined, or null), apart (whether cgroup v2 is
hidden). Answers with [seconds, wait status, peak in bytes].
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from typing import Any


def begin(job: dict[str, Any], started: int) -> None:
    """In the child: become the command, and say when: to be counted takes the kernel some milliseconds, which are not the command's."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open("/dev/null", os.O_RDONLY)
    for target, source in enumerate((null, log, log)):
        os.dup2(source, target)
    if job["procs"]:
        file = os.open(job["procs"], os.O_WRONLY)
        os.write(file, b"0")
        os.close(file)
    if job["apart"]:
        libc = ctypes.CDLL(None)
        libc.unshare(0x20000)  # CLONE_NEWNS
        libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None)  # MS_PRIVATE, MS_REC
        libc.umount2(b"/sys/fs/cgroup/unified", 2)  # MNT_DETACH
    os.write(started, repr(time.perf_counter()).encode())
    os.execvpe(job["argv"][0], job["argv"], job["env"])


def main() -> None:
    """Until nobody asks any more."""
    for line in iter(sys.stdin.buffer.readline, b""):
        job = json.loads(line)
        told, started = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                begin(job, started)
            finally:
                os._exit(127)
        os.close(started)
        _, status, usage = os.wait4(pid, 0)
        ended = time.perf_counter()
        with open(told, encoding="ascii") as stream:
            answer = [ended - float(stream.read() or ended), status, usage.ru_maxrss * 1024]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
