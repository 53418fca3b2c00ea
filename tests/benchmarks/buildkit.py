"""BuildKit's own daemon as one of those that take part: it builds and pushes, and has no containers to launch.

moby/buildkit: README.md, docs/buildkitd.toml.md and docs/reference/buildctl.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Command, daemon
from benchmarks.tools import Base, await_daemon, with_children

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SETTINGS = """\
root = "{directory}/root"
[grpc]
  address = ["{socket}"]
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  gc = false
  networkMode = "host"
  defaultCgroupParent = "/{account}"
"""


class BuildKit(Base):
    """`buildkitd` and `buildctl`. Bases are OCI layouts, as they can't be imported; layers are compressed the quickest way it has."""

    launches = False

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        super().__init__("buildkit", directory)
        socket = f"unix://{directory}/socket"
        settings = directory / "buildkitd.toml"
        settings.write_text(_SETTINGS.format(directory=directory, socket=socket, account=self.account.name))
        self._client = ("buildctl", "--addr", socket)
        self._bases: list[str] = []
        self._built: dict[str, tuple[str, ...]] = {}
        self._empty = directory / "empty"
        self._empty.mkdir()
        stack.callback(self.account.close)  # after the daemon's end
        self._daemon = stack.enter_context(daemon(["buildkitd", "--config", str(settings)], self.account, directory / "log"))
        await_daemon(self._daemon, directory / "log", *self._client, "debug", "workers")

    def environment(self) -> dict[str, str]:
        return {"DOCKER_CONFIG": str(self.directory)}

    def version(self) -> str:
        return next(word for word in self.do("buildctl", "--version").split() if word.lstrip("v")[:1].isdigit())

    def daemons(self) -> Sequence[int]:
        return with_children(self._daemon.pid)

    def load(self, archive: Path, name: str) -> None:
        place = self.directory / "bases" / name
        digest = oci_layout(archive, place)
        self._bases += ["--oci-layout", f"{name}={place}", "--opt", f"context:{name}=oci-layout://{name}@{digest}"]
        self._warm(name)

    def _warm(self, name: str) -> None:
        """A step on a base has it unpacked; no row has the same one."""
        place = self.directory / "warm" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "Dockerfile").write_text(f"FROM {name}\nRUN : warm\n")
        self.do(*self._build(place / "Dockerfile", self._empty))

    def fresh(self) -> None:
        self.do(*self._client, "prune", "--all")
        self.do(*self._client, "prune-histories", check=False)
        for place in sorted((self.directory / "bases").iterdir()):
            self._warm(place.name)

    def _build(self, file: Path, context: Path) -> tuple[str, ...]:
        sources = ("--local", f"context={context}", "--local", f"dockerfile={file.parent}", "--opt", f"filename={file.name}")
        return (*self._client, "build", "--progress", "plain", "--frontend", "dockerfile.v0", *sources, *self._bases)

    def build(self, file: Path, context: Path, tag: str, *, push: str = "") -> list[Command]:
        argv = self._built[push or tag] = self._build(file, context)
        output = f"type=image,name={push or tag},compression=zstd,oci-mediatypes=true"
        pushing = ",push=true,registry.insecure=true" if push else ""
        return [self.command(*argv, "--output", output + pushing)]

    def run(self, image: str, *command: str) -> list[Command]:
        """A step on an image of a registry, which is pulled for it: the nearest it has to a first command."""
        place = self.directory / "step"
        place.mkdir(exist_ok=True)
        (place / "Dockerfile").write_text(f"FROM {image}\nRUN {json.dumps(command)}\n")
        return [self.command(*self._build(place / "Dockerfile", self._empty))]

    def forget(self, image: str) -> None:
        self.fresh()

    def save(self, tag: str, archive: Path) -> None:
        form = "type=docker,compression=gzip,force-compression=true"
        self.do(*self._built[tag], "--output", f"{form},name={tag},dest={archive}")


def oci_layout(archive: Path, directory: Path) -> str:
    """Make a root file system's tar an OCI layout with one image; the digest of its manifest."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer = blob(archive.read_bytes(), "layer.v1.tar")
    config = {"architecture": _ARCHITECTURES[platform.machine()], "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": [layer["digest"]]}
    described = blob(json.dumps(config).encode(), "config.v1+json")
    content = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": described, "layers": [layer]}
    manifest = blob(json.dumps(content).encode(), "manifest.v1+json")
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return str(manifest["digest"])
