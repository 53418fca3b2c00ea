"""What is built, made with a fixed seed: root file systems, contexts and Buildfiles."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

STEPS = 20
FILES = 20_000
BIG = 512 << 20
_SEED = 20_240_101
_WORDS = [f"{first}{second}" for first in ("al", "be", "co", "de", "en", "fi", "go") for second in ("ra", "tion", "ment", "ly", "s", "ing")]


def text(source: random.Random, size: int) -> bytes:
    """So many bytes that compress as text or code does."""
    words = source.choices(_WORDS, k=size // 5 + 1)
    return "".join(f"{word} " if source.random() < 0.9 else f"{word} = {source.random()}\n" for word in words).encode()[:size]


def busybox(tar: Path) -> None:
    """A root file system of this machine's own static busybox."""
    program = shutil.which("busybox")
    if program is None:
        raise SystemExit("busybox is not installed: apt-get install busybox-static")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(tar, "w") as archive:
        for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev"):
            _directory(archive, name)
        _file(archive, "bin/busybox", Path(program).read_bytes(), 0o755)
        _file(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        for applet in applets:
            if applet != "busybox":
                _link(archive, f"bin/{applet}", "busybox")


def python_like(tar: Path, base: Path, megabytes: int = 300) -> None:
    """The base with a tree like that of a Python distribution: 10,000 files, mostly small and of text, some large and not."""
    source = random.Random(_SEED)
    shutil.copy(base, tar)
    block = text(source, 4 << 20)
    with tarfile.open(tar, "a") as archive:
        _directory(archive, "usr")
        _directory(archive, "usr/lib")
        left = megabytes << 20
        for package in range(200):
            _directory(archive, f"usr/lib/package{package}")
            for module in range(50):
                size = min(int(source.lognormvariate(9, 1.2)), 1 << 20)
                at = source.randrange(len(block) - size)
                _file(archive, f"usr/lib/package{package}/module{module}.py", block[at : at + size])
                left -= size
        number = 0
        while left > 0:
            size = min(left, source.randrange(1 << 20, 8 << 20))
            half = size // 2
            _file(archive, f"usr/lib/library{number}.so", source.randbytes(half) + block[: size - half], 0o755)
            left -= size
            number += 1


def contexts(directory: Path) -> None:
    """Every context below `directory`, each with its Buildfile beside it as NAME.Buildfile."""
    directory.mkdir()

    def new(name: str, buildfile: str) -> Path:
        (directory / f"{name}.Buildfile").write_text(buildfile)
        (directory / name).mkdir()
        return directory / name

    (new("one", "FROM busybox\nRUN echo 1 > /f1\n") / "unused").touch()
    steps = "".join(f"RUN echo {number} > /f{number}\n" for number in range(STEPS))
    (new("many", f"FROM busybox\n{steps}") / "unused").touch()
    last = "".join(f"RUN echo {number} > /f{number}\n" for number in range(STEPS - 1))
    (new("edit", f"FROM busybox\n{last}COPY f /f\n") / "f").write_text("0\n")
    stages = "".join(f"FROM busybox AS s{number}\nRUN sleep 1; echo {number} > /f{number}\n" for number in range(4))
    copies = "".join(f"COPY --from=s{number} /f{number} /f{number}\n" for number in range(4))
    (new("stages", f"{stages}FROM busybox\n{copies}") / "unused").touch()
    small_files(new("files", "FROM busybox\nCOPY src /src\n") / "src", FILES)
    loop = f"i=0; while [ $i -lt {BIG >> 24} ]; do cat /seed; i=$((i+1)); done > /big"
    seed = new("step", f"FROM busybox\nCOPY seed /seed\nRUN {loop}\n") / "seed"
    seed.write_bytes(random.Random(_SEED).randbytes(1 << 24))
    large(new("large", "FROM busybox\nCOPY large /large\n") / "large", BIG)


def small_files(directory: Path, count: int) -> None:
    """A tree of files of 100 to 8,000 bytes, a hundred in a directory."""
    source = random.Random(_SEED)
    block = text(source, 1 << 20)
    for number in range(count):
        parent = directory / f"d{number // 1000}" / f"e{number // 100 % 10}"
        if number % 100 == 0:
            parent.mkdir(parents=True)
        size = source.randrange(100, 8000)
        at = source.randrange(len(block) - size)
        (parent / f"f{number % 100}.txt").write_bytes(block[at : at + size])


def large(path: Path, size: int) -> None:
    """A file of which one half is as good as random."""
    source = random.Random(_SEED)
    block = text(source, 1 << 20)
    with path.open("wb") as file:
        for _ in range(size >> 21):
            file.write(source.randbytes(1 << 20))
            file.write(block)


PYTHON_APP = """\
FROM python AS build
COPY wheels /wheels
COPY requirements.txt /
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-index --no-compile --find-links /wheels -r /requirements.txt
FROM python
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY app /app
CMD ["/opt/venv/bin/python", "-m", "app"]
"""
_REQUIREMENTS = "click\nrequests\npyyaml\nrich\npygments\n"


def python_app(directory: Path) -> None:
    """An application with its wheels, which are fetched now, so that no step needs a network."""
    context = directory / "app"
    (context / "wheels").mkdir(parents=True)
    (context / "app").mkdir()
    (directory / "app.Buildfile").write_text(PYTHON_APP)
    (context / "requirements.txt").write_text(_REQUIREMENTS)
    (context / "app" / "__main__.py").write_text("print('hello')\n")
    download = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", str(context / "wheels")]
    subprocess.run([*download, "--only-binary=:all:", *_REQUIREMENTS.split()], check=True)


def _directory(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)


def _file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(entry)
