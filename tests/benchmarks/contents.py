"""What is in an image, for comparison: a docker archive -> the digest, size and number of its files and links.

Owners, times and directories are left out: who takes part here writes them in ways of its own. So are the files that each tool puts over
those of the image while a step runs, and may leave traces of.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path

_OVERLAID = frozenset({"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv", "run/.containerenv"})
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """Regular files and links: how many, their bytes, and a digest over paths, modes and contents."""

    count: int
    size: int
    digest: str


def contents_of(archive: Path) -> Contents:
    """Read the one image of a docker archive."""
    found: dict[str, tuple[str, int]] = {}
    with tarfile.open(archive) as outer:
        manifest = outer.extractfile("manifest.json")
        assert manifest is not None
        for name in json.load(manifest)[0]["Layers"]:
            layer = outer.extractfile(_real(outer, name))
            assert layer is not None
            with tarfile.open(fileobj=layer) as inner:
                _apply(inner, found)
    kept = {path: what for path, what in found.items() if path not in _OVERLAID}
    hasher = hashlib.sha256()
    for path in sorted(kept):
        hasher.update(f"{path}\0{kept[path][0]}\0".encode("utf-8", "surrogateescape"))
    return Contents(len(kept), sum(size for _, size in kept.values()), hasher.hexdigest())


def _real(archive: tarfile.TarFile, name: str) -> str:
    """Docker writes a layer that an image has twice as a link."""
    member = archive.getmember(name)
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)) if member.issym() else name


def _apply(layer: tarfile.TarFile, found: dict[str, tuple[str, int]]) -> None:
    hidden: list[str] = []
    fresh: dict[str, tuple[str, int]] = {}
    for member in layer:
        path = member.name.removeprefix("./").strip("/")
        directory, _, name = path.rpartition("/")
        prefix = f"{directory}/" if directory else ""
        if name == ".wh..wh..opq":
            hidden.append(prefix)
        elif name.startswith(".wh."):
            hidden.append(prefix + name.removeprefix(".wh."))
        elif member.isreg():
            fresh[path] = (f"{member.mode & 0o7777:o} {_hashed(layer, member)}", member.size)
        elif member.islnk():
            target = member.linkname.removeprefix("./").strip("/")
            fresh[path] = fresh.get(target) or found.get(target) or ("link", 0)
        elif member.issym():
            fresh[path] = (f"-> {member.linkname}", 0)
    for path in hidden:
        below = path if path.endswith("/") or not path else f"{path}/"
        for other in [other for other in found if other == path or other.startswith(below)]:
            del found[other]
    found.update(fresh)


def _hashed(layer: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = layer.extractfile(member)
    assert file is not None
    hasher = hashlib.sha256()
    while data := file.read(_CHUNK):
        hasher.update(data)
    return hasher.hexdigest()
