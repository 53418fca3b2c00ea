"""A store with an image of busybox, and the command line on it as a process: everything is real but the registry."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgbuild.oci.config import ImageConfig, RunConfig, config_bytes
from imgbuild.oci.digest import DiffID
from imgbuild.oci.image import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, manifest_bytes
from imgbuild.oci.platform import normalize
from imgbuild.oci.reference import parse_reference
from imgbuild.store.store import Store

BUSYBOX = shutil.which("busybox") or ""
SOURCE = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds after which a test that hangs is given up: no test depends on it."""

Entry = tuple[str, str | bytes, dict[str, Any]]
"""A path, what it is (a link's target as "-> x", a directory as "/", else content), and fields of its tar entry."""


def tar_of(entries: Sequence[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, what, fields in entries:
            info = tarfile.TarInfo(path)
            info.mode = 0o755
            if isinstance(what, str) and what.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, what[3:]
            elif what == "/":
                info.type = tarfile.DIRTYPE
            content = what if isinstance(what, bytes) else b""
            info.size = len(content)
            for name, value in fields.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def base_layer() -> bytes:
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries: list[Entry] = [("bin", "/", {}), ("bin/busybox", Path(BUSYBOX).read_bytes(), {})]
    entries += [(f"bin/{applet}", "-> busybox", {}) for applet in applets if applet != "busybox"]
    entries += [
        ("etc", "/", {}),
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", {"mode": 0o644}),
        ("etc/group", b"root:x:0:\nann:x:1000:\nstaff:x:50:ann\n", {"mode": 0o644}),
        ("root", "/", {"mode": 0o700}),
        ("tmp", "/", {"mode": 0o1777}),
        ("srv", "/", {"mode": 0o750, "uid": 1000, "gid": 50}),
        ("srv/seed", b"from the image\n", {"mode": 0o640, "uid": 1000, "gid": 50}),
        ("srv/link", "-> seed", {}),
        ("noexec", b"text\n", {"mode": 0o644}),
        ("script", b"#!/no/such/interpreter\n", {}),
    ]
    return tar_of(entries)


def add_image(store: Store, name: str, layers: Sequence[bytes], config: RunConfig) -> None:
    blobs = [Descriptor(OCI_LAYER, store.blobs.put(layer), len(layer)) for layer in layers]
    diff_ids = tuple(DiffID("sha256:" + hashlib.sha256(layer).hexdigest()) for layer in layers)
    text = config_bytes(ImageConfig(normalize("linux", os.uname().machine), config, diff_ids))
    manifest = manifest_bytes(Manifest(Descriptor(OCI_CONFIG, store.blobs.put(text), len(text)), tuple(blobs)))
    store.tags.set(parse_reference(name), Descriptor(OCI_MANIFEST, store.blobs.put(manifest), len(manifest)))


class Shop:
    """A store and the command line on it. Every container of it is removed, and its traces are looked for, at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "store"
        self.mark = uuid.uuid4().hex
        self.environ = {
            "IMGBUILD_ROOT": str(self.root),
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(SOURCE),
            "TEST_MARK": self.mark,
        }
        self.command = (sys.executable, "-m", "imgbuild")
        self.before: Callable[[], None] | None = None  # what each process of the command line does first
        self.config = RunConfig(cmd=("/bin/sh",), env=("PATH=/bin", "IMAGE=1"))
        with Store.open(self.root) as store:
            self.base = base_layer()
            add_image(store, "box", [self.base], self.config)

    def image(self, name: str, *layers: bytes, **config: Any) -> None:
        """Another image: layers over busybox, and changes of its config."""
        with Store.open(self.root) as store:
            add_image(store, name, [self.base, *layers], replace(self.config, **config))

    def __call__(self, *words: str, check: bool = True, text: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of imgbuild to its end."""
        done = subprocess.run(
            [*self.command, *words], env=self.environ, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False,
            preexec_fn=self.before, **more,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """``run --rm`` with these words."""
        return self("run", "--rm", *words, **more)

    def sh(self, script: str, *options: str, **more: Any) -> str:
        """What a shell script in a new container writes."""
        return self.run(*options, "box", "sh", "-c", script, **more).stdout

    def start(self, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        """A command of imgbuild as a process."""
        return subprocess.Popen([*self.command, *words], env=self.environ, **{"preexec_fn": self.before, **more})

    def traces(self) -> list[str]:
        """Processes that still belong to this shop: by their environment, or by a mount of its store."""
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            for file, wanted in (("environ", self.mark), ("mountinfo", str(self.root))):
                try:
                    text = Path(f"/proc/{pid}/{file}").read_bytes()
                except OSError:
                    continue
                if wanted.encode() in text and int(pid) != os.getpid():
                    found.append(f"{pid}: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}")
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    if not BUSYBOX:
        pytest.skip("needs busybox")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    shop = Shop(tmp_path)
    yield shop
    close(shop)


def close(shop: Shop) -> None:
    """Remove all containers, and look for what should not be left."""
    names = shop("ps", "-aq").stdout.split()
    if names:
        shop("rm", "-f", *names)
    assert shop("ps", "-aq").stdout == ""
    assert os.listdir(shop.root / "containers") == []
    assert shop.traces() == []
