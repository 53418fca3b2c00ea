"""A store, a build context and the command line as a process; what it left in the store is read without imgbuild's own code."""

from __future__ import annotations

import gzip
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

SOURCE = Path(__file__).parents[2]
NEEDS_GROUPS = pytest.mark.skipif("cgroup" in os.environ.get("IMGBUILD_DISABLE", ""), reason="needs control groups")
PATIENCE = 120
"""Seconds after which a test that hangs is given up: no test depends on it."""

EPOCH = 1_700_000_000
BASE_CREATED = "2023-11-14T22:13:20Z"

PASSWD = """root:x:0:0:root:/root:/bin/sh
ann:x:1000:1001:Ann:/home/ann:/bin/sh
bob:x:1002:1002::/home/bob:/bin/sh
"""
GROUP = """root:x:0:
ann:x:1001:
staff:x:50:ann,bob
bob:x:1002:
"""


@dataclass(frozen=True)
class Done:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say an error."""
        return [line for line in self.err.splitlines() if line.startswith("imgbuild: ")]

    @property
    def steps(self) -> dict[str, str]:
        """How each step ended, by its name: CACHED, DONE, FAILED or CANCELED."""
        names: dict[str, str] = {}
        outcomes: dict[str, str] = {}
        for line in self.err.splitlines():
            number, _, rest = line.partition(" ")
            if not number.startswith("#") or rest.startswith("|"):
                continue
            if rest.startswith("["):
                names[number] = rest.partition("] ")[2]
            elif number in names and not rest.startswith("MISS: "):
                outcomes[names[number]] = rest.split()[0]
        return outcomes

    @property
    def output(self) -> list[str]:
        """The lines that steps wrote, as a whole."""
        lines = [line.partition(" ")[2] for line in self.err.splitlines() if line.startswith("#")]
        return [line.removeprefix("| ") for line in lines if line.startswith("| ")]

    @property
    def misses(self) -> dict[str, str]:
        """Why each step that was performed was, by its name."""
        lines = [line for line in self.err.splitlines() if line.startswith("#")]
        names = {number: rest.partition("] ")[2] for number, _, rest in (line.partition(" ") for line in lines) if rest.startswith("[")}
        marked = [(number, rest) for number, _, rest in (line.partition(" ") for line in lines) if rest.startswith("MISS: ")]
        return {names[number]: rest.removeprefix("MISS: ") for number, rest in marked}

    def assert_explained(self) -> None:
        """Of each step that was performed it is said why, and of none that this is not known."""
        performed = {name for name, outcome in self.steps.items() if outcome == "DONE"}
        assert performed <= set(self.misses), f"not explained: {performed - set(self.misses)}\n{self.err}"
        assert not [text for text in self.misses.values() if text.endswith("not known any more")], self.err


@dataclass(frozen=True)
class Entry:
    """One entry of a layer."""

    info: tarfile.TarInfo
    data: bytes = field(repr=False)


@dataclass
class Bench:
    """A store at `root`, a build context at `context`, and a place for other files beside them."""

    place: Path
    environ: dict[str, str]
    explained: bool = field(default=True, kw_only=True)
    """Whether every miss must have a cause: no test damages or removes what it is known by."""

    @property
    def root(self) -> Path:
        return self.place / "store"

    @property
    def context(self) -> Path:
        return self.place / "context"

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files into the context; a name that ends in "/" is a directory, text that begins with "-> " a symlink."""
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            elif isinstance(content, str) and content.startswith("-> "):
                path.symlink_to(content[3:])
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "imgbuild", "--root", str(self.root), *map(str, arguments)]

    def run(
        self,
        *arguments: str | Path,
        code: int | None = 0,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Done:
        """Run imgbuild to its end. `code` is what it must end with; None for anything."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            env={**self.environ, **(environ or {})},
            cwd=cwd or self.context,
            timeout=PATIENCE,
            check=False,
        )
        result = Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
        if code is not None:
            assert result.code == code, f"ended with {result.code}\n{result.out}\n{result.err}"
        assert "Traceback" not in result.err
        return result

    @contextmanager
    def started(self, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """An imgbuild that runs, in a process group of its own; it is killed if the test leaves it behind."""
        process = subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ,
            cwd=self.context,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def build(
        self,
        text: str | bytes | None,
        *arguments: str | Path,
        code: int | None = 0,
        environ: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> Done:
        """Build `text` as the context's Buildfile (None: what is there), in plain progress, as the image "x"."""
        if text is not None:
            self.write({"Buildfile": text})
        done = self.run("build", "--progress=plain", "-t", "x", *arguments, self.context, code=code, environ=environ, stdin=stdin)
        if self.explained:
            done.assert_explained()
        return done

    def refused(self, text: str | bytes | None, *arguments: str | Path, code: int, environ: Mapping[str, str] | None = None) -> str:
        """Build what must fail with one error; returns everything that was said about it: what its step wrote, which stands above it, and
        the error."""
        done = self.build(text, *arguments, code=code, environ=environ)
        assert len(done.errors) == 1, done.err
        written = "".join(f"  | {line}\n" for line in done.output)
        return written + done.err[done.err.index("imgbuild: ") :]

    def inspect(self, name: str = "x") -> dict[str, Any]:
        (image,) = json.loads(self.run("inspect", name).out)
        return image

    def config(self, name: str = "x") -> dict[str, Any]:
        """The docker-style ``Config`` of an image."""
        config = self.inspect(name)["Config"]
        assert isinstance(config, dict)
        return config

    def blob(self, digest: str) -> bytes:
        return (self.root / "blobs" / digest.replace(":", "/")).read_bytes()

    def manifest(self, name: str = "x:latest") -> dict[str, Any]:
        """The manifest that index.json names, as any OCI tool finds it."""
        key = "org.opencontainers.image.ref.name"
        index = json.loads((self.root / "index.json").read_text())
        (entry,) = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(key) == name]
        return json.loads(self.blob(entry["digest"]))

    def image(self, name: str = "x:latest") -> dict[str, Any]:
        """The image config as it is stored."""
        return json.loads(self.blob(self.manifest(name)["config"]["digest"]))

    def layers(self, name: str = "x:latest") -> list[dict[str, Entry]]:
        """The entries of each layer, lowest first, by name; a name twice in one layer is an error."""
        layers = []
        for descriptor in self.manifest(name)["layers"]:
            found: dict[str, Entry] = {}
            with tarfile.open(fileobj=io.BytesIO(decompressed(self.blob(descriptor["digest"])))) as tar:
                for info in tar:
                    assert info.name not in found
                    stream = tar.extractfile(info) if info.isreg() else None
                    found[info.name] = Entry(info, stream.read() if stream else b"")
            layers.append(found)
        return layers

    def top(self, name: str = "x:latest") -> dict[str, Entry]:
        """The last layer."""
        return self.layers(name)[-1]

    def files(self, name: str = "x:latest") -> dict[str, Entry]:
        """All entries that the layers leave, whiteouts applied."""
        found: dict[str, Entry] = {}
        for layer in self.layers(name):
            for path in layer:
                parent, _, base = path.rpartition("/")
                gone = None
                if base == ".wh..wh..opq":
                    gone = parent
                elif base.startswith(".wh."):
                    gone = f"{parent}/{base[4:]}".lstrip("/")
                    found.pop(gone, None)
                if gone is not None:
                    found = {other: entry for other, entry in found.items() if not other.startswith(f"{gone}/")}
            found |= {path: entry for path, entry in layer.items() if not path.rpartition("/")[2].startswith(".wh.")}
        return found

    def history(self, name: str = "x:latest") -> list[str]:
        return [entry.get("created_by", "") for entry in self.image(name)["history"]]

    def assert_whole(self) -> None:
        """fsck finds nothing, and nothing of a build is left: no mount, no process, no temporary file."""
        done = self.run("fsck")
        assert "damaged" not in done.out, done.out
        assert os.listdir(self.root / "tmp") == []
        assert str(self.root) not in Path("/proc/self/mountinfo").read_text()
        assert self.processes() == []

    def processes(self) -> list[int]:
        """The processes that have to do with this store: by their command line, or by a root or mount of it."""
        found = []
        mark = str(self.root).encode()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                seen = (path / "cmdline").read_bytes() + (path / "mountinfo").read_bytes()
            except OSError:
                continue
            if mark in seen and int(path.name) != os.getpid():
                found.append(int(path.name))
        return found


def decompressed(data: bytes) -> bytes:
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def wait_for_line(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    """Read the process's stderr until it holds `wanted`."""
    assert process.stderr is not None
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([process.stderr], [], [], PATIENCE)
        data = os.read(process.stderr.fileno(), 65536) if ready else b""
        assert data, f"{wanted!r} was not said:\n{seen.decode()}"
        seen += data
    return seen


def wait_until_old(path: Path) -> None:
    """Wait until another change of a file would not leave the same times."""
    while time.time_ns() < path.stat().st_mtime_ns + 100_000_000:
        os.sched_yield()


def ended(process: subprocess.Popen[bytes], signum: signal.Signals | None = None) -> tuple[int, str]:
    """Send a signal, if one is given; the exit code and the rest of stderr once it is over."""
    if signum is not None:
        process.send_signal(signum)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err.decode("utf-8", "replace")


def base_tar(more: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    """A root file system of busybox with users."""
    busybox = shutil.which("busybox")
    assert busybox, "these tests need Debian's busybox-static"
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", mode: int = 0o755, uid: int = 0, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.linkname, info.size = kind, mode, uid, uid and 1001, link, len(data)
            info.mtime = EPOCH
            tar.addfile(info, io.BytesIO(data))

        for directory in ("bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "usr", "usr/bin", "var"):
            add(directory, tarfile.DIRTYPE, mode=0o700 if directory == "root" else 0o755)
        add("tmp", tarfile.DIRTYPE, mode=0o1777)
        add("home/ann", tarfile.DIRTYPE, uid=1000)
        add("bin/busybox", data=Path(busybox).read_bytes())
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", tarfile.SYMTYPE, mode=0o777, link="busybox")
        add("etc/passwd", data=PASSWD.encode(), mode=0o644)
        add("etc/group", data=GROUP.encode(), mode=0o644)
        if more is not None:
            more(tar)
    return buffer.getvalue()


def clean_environ(home: Path) -> dict[str, str]:
    """An environment that says nothing but where things are."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": str(home),
        "PYTHONPATH": str(SOURCE),
        "LC_ALL": "C.UTF-8",
        "IMGBUILD_DISABLE": os.environ.get("IMGBUILD_DISABLE", ""),
    }


def seed(place: Path) -> Bench:
    """A new bench, whose store has the image "busybox", unpacked already."""
    bench = Bench(place, clean_environ(place / "home"))
    bench.context.mkdir(parents=True)
    (place / "base.tar").write_bytes(base_tar())
    bench.run("import", place / "base.tar", "busybox")
    (place / "base.tar").unlink()
    bench.run("build", "-q", "-f", "-", ".", stdin=b"FROM busybox\nRUN true\n")
    bench.run("prune", "--all")
    return bench


def copied(template: Bench, place: Path) -> Bench:
    """A bench of one's own, with the template's store."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(template.root), str(place / "store")], check=True)
    bench = Bench(place, clean_environ(place / "home"))
    bench.context.mkdir()
    return bench
