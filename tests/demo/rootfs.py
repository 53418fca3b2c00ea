"""Root file systems for base images, made of this machine's own packages: busybox, and a small Debian (or Ubuntu).

Each is a tar in a cache directory, under a name that says what it was made from; the same packages give the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.machine import AptSources, MachineError, apt_sources, distribution

_EPOCH = 1704067200  # 2024-01-01: newer files are given this time, so that a base does not depend on when it was made
_HOOKS = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
_EXCLUDED = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*")
_CUSTOMIZED = (
    # The machine's own name and name servers are not the base's.
    'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1"/var/cache/debconf/*-old',
    'cd "$1/etc/apt/sources.list.d" && mv -- *distribution.sources distribution.sources',
)

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
www-data:x:33:
users:x:100:
nobody:x:65534:
"""
_SHADOW = "root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """A tar, what it is, the command that an image of it starts, and the names that it goes by."""

    tar: Path
    description: str
    command: str
    names: tuple[str, ...]


def busybox(cache: Path, say: Say) -> RootFilesystem:
    """Debian's static busybox with its applets as links, and the least of /etc."""
    program = _static_busybox()
    data = program.read_bytes()
    recipe = [_PASSWD, _GROUP, _SHADOW, _NSSWITCH, str(_EPOCH), hashlib.sha256(data).hexdigest()]
    names = subprocess.run([str(program), "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    tar = _cached(cache, "busybox", recipe, lambda path: _write_busybox(path, data, names), say)
    return RootFilesystem(tar, f"busybox of {distribution().name}", "sh", ("busybox:latest", "busybox:stable"))


def _static_busybox() -> Path:
    for path in (Path("/bin/busybox"), Path("/usr/bin/busybox")):
        if path.is_file() and not _is_dynamic(path.read_bytes()):
            return path
    raise MachineError("there is no static busybox: install the package busybox-static")


def _is_dynamic(data: bytes) -> bool:
    """Whether an ELF file of 64 bits asks for an interpreter (a program header of type PT_INTERP)."""
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    return any(struct.unpack_from("<I", data, offset + size * index)[0] == 3 for index in range(count))


def _write_busybox(path: Path, program: bytes, applets: list[str]) -> None:
    directories = {"bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "var", "var/www"}
    files = {
        "bin/busybox": (program, 0o755),
        "etc/group": (_GROUP.encode(), 0o644),
        "etc/nsswitch.conf": (_NSSWITCH.encode(), 0o644),
        "etc/passwd": (_PASSWD.encode(), 0o644),
        "etc/shadow": (_SHADOW.encode(), 0o640),
    }
    modes = {"tmp": 0o1777, "root": 0o700}
    links = {f"bin/{os.path.basename(applet)}" for applet in applets} - set(files)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(directories | set(files) | links):
            entry = tarfile.TarInfo(name)
            entry.mtime = _EPOCH
            if name in directories:
                entry.type, entry.mode = tarfile.DIRTYPE, modes.get(name, 0o755)
                tar.addfile(entry)
            elif name in files:
                data, entry.mode = files[name]
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            else:
                entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, "busybox"
                tar.addfile(entry)


def debian(cache: Path, say: Say) -> RootFilesystem:
    """This machine's distribution, as small as Debian's slim images, from this machine's own apt sources.

    It goes by the names that Buildfiles use for Debian, on Ubuntu too: an example does not ask which of them it is on.
    """
    system = distribution()
    sources = apt_sources(system.codename)
    recipe = [system.codename, platform.machine(), sources.text, *sources.options, *_EXCLUDED, *_CUSTOMIZED, str(_EPOCH)]
    tar = _cached(cache, f"{system.id}-{system.codename}", recipe, lambda path: _write_debian(path, system.codename, sources), say)
    tags = dict.fromkeys(("bookworm", "bookworm-slim", "stable-slim", "latest", system.codename, f"{system.codename}-slim"))
    if system.codename != "bookworm":
        say(f"the examples say debian:bookworm; here that name stands for {system.name}")
    return RootFilesystem(tar, system.name, "bash", tuple(f"debian:{tag}" for tag in tags))


def _write_debian(path: Path, codename: str, sources: AptSources) -> None:
    with _beside(path, "distribution.sources") as listed:
        listed.write_text(sources.text, encoding="utf-8")
        command = ["mmdebstrap", "--variant=minbase", "--format=tar", "--skip=output/dev"]
        command += [f"--hook-dir={_HOOKS}"] if _HOOKS.is_dir() else []
        command += [f"--aptopt={option}" for option in sources.options]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
        command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        keyrings = (f'[ -e "$1{ring}" ] || install -D -m 644 {ring} "$1{ring}"' for ring in sources.keyrings)
        command += [f"--customize-hook={hook}" for hook in (*_CUSTOMIZED, *keyrings)]
        command += [codename, str(path), str(listed)]
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH), "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environ
            )
        except FileNotFoundError:
            raise MachineError("there is no mmdebstrap: install the package mmdebstrap") from None
    if done.returncode:
        raise MachineError(f"mmdebstrap failed ({done.returncode}):\n{done.stdout[-4000:]}")


@contextmanager
def _beside(path: Path, name: str) -> Iterator[Path]:
    """A file of exactly this name, in a directory of its own, as long as it is needed."""
    directory = path.with_name(f"{path.name}.files")
    directory.mkdir(exist_ok=True)
    file = directory / name
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
        directory.rmdir()


def _cached(cache: Path, name: str, recipe: list[str], write: Callable[[Path], None], say: Say) -> Path:
    """The tar that `write` makes, from the cache if it was made before. Of several processes one makes it, the others wait."""
    key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
    path = cache / f"{name}-{key}.tar"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            say(f"{name}: {path.name} is there already")
            return path
        say(f"{name}: making {path.name} from this machine's packages")
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        write(temporary)
        temporary.replace(path)
    return path
