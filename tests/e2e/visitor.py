"""A user without rights, who exists only in a mount namespace of the test: nothing of the machine's own is changed, all is gone with it.

There, what the user must reach (imgbuild, its Python and what it imports, the bench) is mounted below ``/mnt``, as its own place may be
in directories that only root may enter; ``/etc/passwd``, ``group``, ``subuid`` and ``subgid`` are the test's.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .harness import SOURCE, Bench, clean_environ

UID = 54321
_PLACE = "/mnt/place"


@dataclass
class VisitorBench(Bench):
    """A bench whose commands are the visitor's. Paths below its place, in arguments, are meant as the visitor sees them."""

    holder: int = 0
    python: tuple[str, ...] = ()

    def command(self, *arguments: str | Path) -> list[str]:
        return [*self.as_visitor(), *self.python, "-m", "imgbuild", "--root", f"{_PLACE}/store", *map(self.seen, arguments)]

    def seen(self, argument: str | Path) -> str:
        """An argument with the paths that the visitor knows."""
        return str(argument).replace(str(self.place), _PLACE)

    def as_visitor(self) -> tuple[str, ...]:
        """What makes a command the visitor's, in the build context."""
        drop = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--")
        return (*self.entering(), *drop, "sh", "-c", f'cd {_PLACE}/context && exec "$@"', "sh")

    def entering(self) -> tuple[str, ...]:
        """What runs a command where the visitor is, still as root."""
        return ("nsenter", "--target", str(self.holder), "--mount", "--")

    def give(self, path: Path) -> None:
        """Make a tree the visitor's."""
        for each in (path, *path.rglob("*")):
            os.lchown(each, UID, UID)

    def write(self, files: Mapping[str, str | bytes]) -> None:
        super().write(files)
        self.give(self.context)


@contextmanager
def visitor(place: Path, ranged: bool) -> Iterator[VisitorBench]:
    """A bench of a user with a range of ids, or with one id; with an empty store and context."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    (place / "context").mkdir(parents=True)
    etc = _etc(place / "etc", ranged)
    environ = clean_environ(place / "home")
    environ |= {"HOME": f"{_PLACE}/home", "PYTHONPATH": "/mnt/source:/mnt/site", "PYTHONDONTWRITEBYTECODE": "1"}
    binds = {place: _PLACE, SOURCE: "/mnt/source", Path(sysconfig.get_path("purelib")): "/mnt/site", **etc}
    prefix = Path(sys.base_prefix)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not prefix.is_relative_to("/usr"):
        binds[prefix] = "/mnt/python"
        prefix = Path("/mnt/python")
        environ["LD_LIBRARY_PATH"] = str(prefix / "lib")  # a shared libpython is looked for where it was, else in the system's places
    script = ["set -e", "mount -t tmpfs -o mode=755 tmpfs /mnt"]
    for source, target in binds.items():
        if target.startswith("/mnt/"):
            script.append(f"mkdir -p {shlex.quote(target)}")
        script.append(f"mount --bind {shlex.quote(str(source))} {shlex.quote(target)}")
    script += ["echo ready", "read end"]
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            bench = VisitorBench(place, environ, holder.pid, (str(prefix / "bin" / python), "-P"))
            bench.give(place)
            yield bench
        finally:
            holder.kill()


def needs_namespaces(bench: VisitorBench) -> None:
    """Skip where such a user may have no user namespace."""
    tried = [*bench.as_visitor(), "unshare", "--user", "--map-root-user", "--mount", "true"]
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a user namespace for an unprivileged user: {done.stderr.strip()}")


def _etc(directory: Path, ranged: bool) -> dict[Path, str]:
    directory.mkdir()
    rows = f"visitor:{_free_ids()}\n" if ranged else ""
    texts = {
        "passwd": f"root:x:0:0::/root:/bin/sh\nvisitor:x:{UID}:{UID}::{_PLACE}/home:/bin/sh\n",
        "group": f"root:x:0:\nvisitor:x:{UID}:\n",
        "subuid": rows,
        "subgid": rows,
    }
    binds = {}
    for name, text in texts.items():
        if not Path("/etc", name).exists():
            pytest.skip(f"needs /etc/{name}")
        (directory / name).write_text(text)
        binds[directory / name] = f"/etc/{name}"
    return binds


def _free_ids() -> str:
    """A range that this user namespace has."""
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    many = any(first <= 200_000 and first + count > 300_000 for first, _, count in ranges)
    return "200000:65536" if many else "1000:50000"
