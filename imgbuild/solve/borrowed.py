"""The mounts of a step that is run again for somebody to look at: what is written to its caches is thrown away."""

from __future__ import annotations

from imgbuild.graph.ops import MountOp
from imgbuild.light.pathlib import Path
from imgbuild.linux.mounts import Mount
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.overlay import overlay_filesystem
from imgbuild.solve.mounts import StepMounts


class BorrowedMounts(StepMounts):
    """As a step's own, but that caches are only read."""

    def _lock_caches(self) -> None:
        """Somebody may look for hours; nobody has to wait for that, as nothing is written to them."""

    def _add_cache(self, mount: MountOp, number: int, directory: Path) -> None:
        cache = self._cache_place(mount, number)
        if not cache.is_dir():
            cache = directory / "empty"
            cache.mkdir(parents=True)
        upper, work = directory / "upper", directory / "work"
        for path in (upper, work):
            path.mkdir(parents=True)
        status = cache.stat()
        upper.chmod(status.st_mode & 0o7777)
        what = overlay_filesystem((DirectoryLower(cache),), upper, work, features=self._rooms.features)
        self._place(Mount(what, mount.target, read_only=mount.read_only))
