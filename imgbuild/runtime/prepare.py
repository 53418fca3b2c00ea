"""Makes what a container needs on disk (its upperdir, volumes, mount points) and says, as a `SandboxSpec`, how it is to be put together."""

from __future__ import annotations

import os
import stat

from imgbuild.errors import SandboxError, UsageError
from imgbuild.hints import Mapping, Sequence
from imgbuild.light.pathlib import Path
from imgbuild.linux.features import Features
from imgbuild.linux.mounts import File, Mount
from imgbuild.linux.paths import Root
from imgbuild.oci.config import ImageConfig
from imgbuild.rootfs.stubs import StubTarget, make_stubs, resolve_target
from imgbuild.rootfs.users import lookup_user
from imgbuild.runtime import spec as plan
from imgbuild.runtime.options import MountRequest, RunOptions
from imgbuild.runtime.records import MountPoint
from imgbuild.sandbox.spec import SandboxSpec
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.overlay import overlay_filesystem
from imgbuild.snapshot.union import UnionView
from imgbuild.store.store import Store
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class RunImage:
    """An image that can be run: what it is called, the digest of its manifest, its config, and its layers as lowers."""

    reference: str
    digest: str
    config: ImageConfig
    lowers: Lowers

    @property
    def snapshots(self) -> tuple[str, ...]:
        """The ids of the snapshots that the lowers are."""
        return tuple(lower.directory.name for lower in self.lowers)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a container is made: the store, what the kernel can, the container's id and directory, and the host's own texts
    of the generated files by path."""

    store: Store
    features: Features
    identifier: str
    directory: Path
    host_files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What can be started, and what of it the record shows."""

    spec: SandboxSpec
    mounts: tuple[MountPoint, ...]


def prepare(ground: Ground, image: RunImage, options: RunOptions) -> Prepared:
    """Make the container's directory ready and plan its sandbox. Fails before anything is made where the options can't be meant."""
    config = image.config.config
    hostname = options.hostname or ground.identifier[:12]
    requests = plan.plan_mounts(config.volumes, options.mounts)
    with UnionView(image.lowers, userxattr=ground.features.rootless) as view:
        identity = lookup_user(view, options.user or config.user)
        process = plan.container_process(config, options, identity, hostname)
        placed = _place(ground, view, requests)
        files = _generated(view, placed, plan.generated_files(ground.host_files, options, hostname))
        targets = [StubTarget(tree) for tree in plan.SANDBOX_TREES]
        targets += _mount_points(placed)
        targets += [StubTarget(path, is_directory=False) for path in files if plan.enclosing(placed, path) is None]
        stubs = make_stubs(ground.directory / "stubs", view, targets)
        upper, work = _upper(ground.directory, view)
    root = overlay_filesystem(stubs.over(image.lowers), upper, work, features=ground.features)
    mounts = (*_files(files, options), *plan.sandbox_mounts(placed))
    spec = plan.container_spec(root, process, mounts, options, hostname=hostname, cgroup_name=f"container-{ground.identifier}")
    return Prepared(spec, tuple(_shown(mount) for mount in placed))


def _place(ground: Ground, view: UnionView, requests: Sequence[MountRequest]) -> tuple[plan.PlacedMount, ...]:
    """Resolve targets, find or make sources."""
    placed = []
    for number, request in enumerate(requests):
        if request.kind == "bind":
            source = _bind_source(request)
            target = resolve_target(view, StubTarget(request.target, source.is_dir()))
        else:
            target = resolve_target(view, StubTarget(request.target))
            source = Path()
        if request.kind == "volume":
            source = _volume(ground, view, request, target, str(number))
        placed.append(plan.PlacedMount(request, target, "" if request.kind == "tmpfs" else str(source)))
    return plan.in_order(placed)


def _volume(ground: Ground, view: UnionView, request: MountRequest, target: str, number: str) -> Path:
    from imgbuild.runtime.volumes import make_volume, named_volume

    if request.source:
        return named_volume(ground.store, request.source, view, target, seed=request.seed)
    volumes = ground.directory / "volumes"
    volumes.mkdir(mode=0o700, exist_ok=True)
    return make_volume(volumes / number, view, target, seed=request.seed)


def _bind_source(request: MountRequest) -> Path:
    source = Path(request.source)
    if not source.exists():
        if not request.create_source:
            raise UsageError(f"the source {request.source} of the mount at {request.target} does not exist")
        try:
            source.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SandboxError(f"can't make the directory {request.source}", detail=error.strerror) from None
    return source


def _mount_points(placed: Sequence[plan.PlacedMount]) -> list[StubTarget]:
    """The mount points that the root must have; those inside other mounts are made there."""
    points = []
    for mount in placed:
        is_directory = not mount.source or Path(mount.source).is_dir()
        around = plan.enclosing(placed, mount.target)
        if around is not None:
            _make_inside(around, mount.target, is_directory)
        elif not plan.below_sandbox_trees(mount.target):
            points.append(StubTarget(mount.target, is_directory))
    return points


def _make_inside(around: plan.PlacedMount, target: str, is_directory: bool) -> None:
    if not around.source:
        hint = "mount a volume there instead of the tmpfs"
        raise SandboxError(f"can't mount at {target}: it is inside the tmpfs at {around.target}", hint=hint)
    inside = target[len(around.target) :]
    try:
        with Root.open_path(around.source) as root:
            if is_directory:
                os.close(root.makedirs(inside))
            elif not root.exists(inside):
                parent, name = root.open_parent(inside, create=True)
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=parent))
    except OSError as error:
        raise SandboxError(f"can't make the mount point {target} in {around.source}", detail=error.strerror) from None


def _generated(view: UnionView, placed: Sequence[plan.PlacedMount], texts: Mapping[str, str]) -> dict[str, str]:
    """The generated files by resolved target, without those whose place the user has taken."""
    taken = {mount.target for mount in placed}
    files: dict[str, str] = {}
    for path, text in texts.items():
        target = resolve_target(view, StubTarget(path, is_directory=False))
        around = plan.enclosing(placed, target)
        if target not in taken and (around is None or _exists_inside(around, target)):
            files[target] = text
    return files


def _exists_inside(around: plan.PlacedMount, target: str) -> bool:
    if not around.source or not Path(around.source).is_dir():
        return False
    with Root.open_path(around.source) as root:
        return root.exists(target[len(around.target) :])


def _upper(directory: Path, view: UnionView) -> tuple[Path, Path]:
    """A new upperdir, whose root looks like the image's, and a work directory: the kernel wants a fresh one for each mount."""
    upper, work = directory / "fs", directory / "work"
    upper.mkdir()
    work.mkdir()
    status = view.lstat("/")
    if status is not None:
        os.chown(upper, status.uid, status.gid)
        upper.chmod(stat.S_IMODE(status.mode))
        for name, value in view.xattrs("/").items():
            os.setxattr(upper, name, value)
        os.utime(upper, ns=(status.mtime_ns, status.mtime_ns))
    return upper, work


def _files(files: Mapping[str, str], options: RunOptions) -> tuple[Mount, ...]:
    return tuple(
        Mount(File(text.encode("utf-8", "surrogateescape"), mode=0o644), target, read_only=options.read_only)
        for target, text in sorted(files.items())
    )


def _shown(mount: plan.PlacedMount) -> MountPoint:
    request = mount.request
    source = request.source or mount.source
    return MountPoint(request.kind, source, mount.target, request.read_only)
