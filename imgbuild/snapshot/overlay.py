"""The overlay file system over a stack of lowers, as a value. The only place that says ``lowerdir``.

index, redirect_dir, metacopy and xino are off: what an upperdir holds is then plain files, whiteouts and opaque directories, and
means the same on any machine. ``volatile`` leaves out the syncs of an upper that is worth nothing after a crash; the kernel then
refuses to mount the same workdir twice. Kernel: Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os

from imgbuild.errors import StoreError
from imgbuild.hints import Protocol
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.linux.mounts import Filesystem
from imgbuild.snapshot import IndexedTarLower, Lowers

MAX_LOWERS = 500
"""The kernel's own limit (OVL_MAX_STACK)."""


_DIRTY = "work/incompat/volatile/dirty"
_VOLATILE = ("work/incompat/volatile", "work/incompat")
"""What overlayfs leaves in a workdir that was mounted volatile: a file, and the directories around it."""


class OverlayFeatures(Protocol):
    """What matters here of linux.features.Features."""

    @property
    def lowerdir_plus(self) -> bool: ...

    @property
    def rootless(self) -> bool: ...


def overlay_filesystem(lowers: Lowers, upper: Path | None, work: Path | None, *, features: OverlayFeatures) -> Filesystem:
    """An overlay of `lowers` (lowest first), written to `upper`; read-only without, and then of two lowers at least.

    `work` is an empty directory beside `upper`, never used before. Without ``lowerdir+`` all paths must be below one directory,
    from which they are then relative.
    """
    layers = [lower_mount(lower) if isinstance(lower, IndexedTarLower) else str(lower.path) for lower in reversed(lowers)]
    if (upper is None) != (work is None):
        raise ValueError("an upperdir needs a workdir, and the reverse")
    if len(layers) < (2 if upper is None else 1):
        raise ValueError("too few lowers for an overlay")
    if len(layers) > MAX_LOWERS:
        raise StoreError(f"a root file system of {len(layers)} layers is more than the kernel can stack ({MAX_LOWERS})")
    directory = ""
    options: list[tuple[str, str | Filesystem | None]] = []
    if features.lowerdir_plus:
        options += [("lowerdir+", layer) for layer in layers]
        above = [(name, str(path)) for name, path in (("upperdir", upper), ("workdir", work)) if path is not None]
    else:
        if not all(isinstance(layer, str) for layer in layers):
            raise StoreError("layers that are not unpacked can't be mounted without the overlay option lowerdir+")
        places = [str(layer) for layer in layers] + [str(path) for path in (upper, work) if path is not None]
        directory = os.path.commonpath([os.path.dirname(place) for place in places])
        options.append(("lowerdir", ":".join(_escaped(os.path.relpath(place, directory)) for place in places[: len(layers)])))
        named = (("upperdir", upper), ("workdir", work))
        above = [(name, os.path.relpath(path, directory).replace(",", "\\,")) for name, path in named if path is not None]
    for _, path in above:
        if "\\" in path.replace("\\,", ","):
            raise StoreError(f"the store's path must not have a backslash in it: {path}")
    options += above
    options += [("index", "off"), ("metacopy", "off"), ("xino", "off")]
    # userxattr implies that redirects are not followed, and refuses to be told so.
    options.append(("userxattr", None) if features.rootless else ("redirect_dir", "off"))
    if upper is not None:
        options.append(("volatile", None))
    return Filesystem("overlay", tuple(options), source="overlay", directory=directory)


def lower_mount(lower: IndexedTarLower) -> Filesystem:
    """The mount that a lower in form (b) is, detached: nothing of it is left when the processes that have it are dead."""
    devices = [("device", str(tar)) for tar in (lower.tar, *lower.more)]
    return Filesystem("erofs", (*devices, ("ro", None)), source=str(lower.index))


def clear_work(work: Path) -> None:
    """Remove a workdir that was used, as far as the kernel left it in order: quicker than to leave it for the trash."""
    with suppress(OSError):
        os.unlink(f"{work}/{_DIRTY}")
        for place in _VOLATILE:
            os.rmdir(f"{work}/{place}")
    with suppress(OSError):
        for name in os.listdir(f"{work}/work"):  # the whiteout that all others were links of
            os.unlink(f"{work}/work/{name}")
        os.rmdir(f"{work}/work")
    with suppress(OSError):
        os.rmdir(work)


def _escaped(path: str) -> str:
    """As overlay and mount(2) want it: their separators are escaped by a backslash."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
