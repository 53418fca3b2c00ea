"""The mounts of a RUN: from `MountOp`s to mounts of a sandbox, with what must be locked, made or written for them meanwhile.

bind: files of a stage are attached as they are, through a view of its lowers; files of the build context are first copied
as COPY would copy them, so that owners, times and ignored files are the same for everybody. What a writable bind writes is
thrown away. cache: a directory of the store by id and what it began with. tmpfs and secret: memory. ssh: a socket that leads to an agent.
"""

from __future__ import annotations

import os
import posixpath
import stat

from imgbuild.context.tree import Tree
from imgbuild.errors import BuildfileError, ContextError
from imgbuild.graph.ops import MountOp, RunOp
from imgbuild.graph.run import DOCUMENTS
from imgbuild.hints import Callable, Mapping, TracebackType
from imgbuild.light.contextlib import ExitStack
from imgbuild.light.pathlib import Path
from imgbuild.linux.mounts import Bind, File, Filesystem, Mount
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import canonical_json
from imgbuild.rootfs.stubs import StubTarget
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.overlay import overlay_filesystem
from imgbuild.solve.inputs import mount_digests
from imgbuild.solve.rooms import Rooms
from imgbuild.store.locks import Interrupted

_PRIVATE_CACHES = 64
_AGENT_VARIABLE = "SSH_AUTH_SOCK"


class StepMounts:
    """Context manager: inside it, `mounts` (targets not yet resolved), their `targets` in the same order, and `environment`
    (``NAME=value`` of secrets) are what the step's sandbox needs. Caches that are not shared stay locked until it ends."""

    def __init__(
        self,
        rooms: Rooms,
        op: RunOp,
        inputs: Mapping[str, str],
        stage_lowers: Callable[[int], Lowers],
        directory: Path,
        stopped: Callable[[], bool],
    ) -> None:
        self._rooms = rooms
        self._op = op
        self._inputs = inputs
        self._stage_lowers = stage_lowers
        self._directory = directory
        self._stopped = stopped
        self._stack = ExitStack()
        self.mounts: list[Mount] = []
        self.targets: list[StubTarget] = []
        self.environment: tuple[str, ...] = ()

    def __enter__(self) -> StepMounts:
        if self._op.mounts:
            self._directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._stack = stack
            self._lock_caches()
            for number, mount in enumerate(self._op.mounts):
                self._add(mount, number, self._directory / f"mount{number}")
            if self._op.document is not None:
                document = self._op.document
                file = File(document.content.encode("utf-8", "surrogateescape"), mode=0o755)
                self._place(Mount(file, f"{DOCUMENTS}/{document.name}", read_only=True), is_directory=False)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _lock_caches(self) -> None:
        # In one order for all steps, so that two of them never wait for each other; a cache that is mounted twice, once.
        for name in sorted({_cache_name(mount) for mount in self._op.mounts if mount.kind == "cache" and mount.sharing == "locked"}):
            self._stack.enter_context(self._rooms.store.lock(f"cache {name}", cancelled=self._stopped))

    def _add(self, mount: MountOp, number: int, directory: Path) -> None:
        match mount.kind:
            case "bind":
                self._bind(mount, directory)
            case "cache":
                self._add_cache(mount, number, directory)
            case "tmpfs":
                size = () if mount.size is None else (("size", str(mount.size)),)
                memory = Filesystem("tmpfs", (("mode", "1777"), *size))
                self._place(Mount(memory, mount.target, read_only=mount.read_only, nosuid=True, nodev=True))
            case "secret":
                self._secret(mount)
            case "ssh":
                self._agent(mount, directory)

    def _place(self, mount: Mount, is_directory: bool = True) -> None:
        self.mounts.append(mount)
        self.targets.append(StubTarget(mount.target, is_directory))

    def _bind(self, mount: MountOp, directory: Path) -> None:
        if mount.stage is None:
            lowers, source = self._from_context(mount, directory)
        else:
            lowers, source = self._stage_lowers(mount.stage), posixpath.normpath(f"/{mount.source}")
        lowers = (*lowers, *self._written(directory))
        with self._rooms.view(lowers) as view:
            real = view.resolve(source)
            status = view.lstat(real)
        if status is None:
            raise BuildfileError(f"the mount's source {mount.source!r} does not exist in the stage", at=mount.span)
        upper = work = None
        if not mount.read_only:
            upper, work = directory / "upper", directory / "work"
            for path in (upper, work):
                path.mkdir(parents=True)
        what: Filesystem | Bind
        if upper is None and len(lowers) == 1:
            what = self._rooms.snapshotter.view(lowers)
        else:
            if not lowers:
                empty = directory / "empty"
                empty.mkdir(parents=True, exist_ok=True)
                lowers = (DirectoryLower(empty), *lowers)
            what = overlay_filesystem(lowers, upper, work, features=self._rooms.features)
        subpath = "" if real == "/" else real
        self._place(Mount(what, mount.target, subpath, read_only=mount.read_only), is_directory=stat.S_ISDIR(status.mode))

    def _written(self, directory: Path) -> Lowers:
        """What was written to the mount before."""
        return ()

    def _from_context(self, mount: MountOp, directory: Path) -> tuple[Lowers, str]:
        """A copy of what the context has at the mount's source, and the path that it has in there."""
        try:
            context = self._rooms.files(mount.context)
            from imgbuild.solve.files import copy_subtree

            return (copy_subtree(self._rooms, context, mount.source, directory / "context", self._op.epoch),), "/source"
        except ContextError as error:
            raise error.located(mount.span) from None

    def _add_cache(self, mount: MountOp, number: int, directory: Path) -> None:
        self._place(Mount(Bind(str(self._cache(mount, number))), mount.target, read_only=mount.read_only))

    def _cache_place(self, mount: MountOp, number: int) -> Path:
        """Where the cache is, the first where there are several. What begins with other files is another one."""
        private = ".0" if mount.sharing == "private" else ""
        return self._rooms.store.root / "cache" / (_cache_name(mount) + _seed_name(mount_digests(self._inputs, number)) + private)

    def _cache(self, mount: MountOp, number: int) -> Path:
        """The cache's directory, made if it is new."""
        path, store = self._cache_place(mount, number), self._rooms.store
        name = path.name
        if mount.sharing == "private":
            name = self._private_cache(name.removesuffix(".0"))
            path = path.with_name(name)
        if not path.exists():
            with store.lock(f"new cache {name}", cancelled=self._stopped), store.temporary("cache") as temporary:
                if not path.exists():
                    self._make_cache(mount, temporary / "new")
                    (temporary / "new").rename(path)
        return path

    def _private_cache(self, name: str) -> str:
        """The first of the cache's instances that nobody uses now."""
        for number in range(_PRIVATE_CACHES):
            candidate = f"{name}.{number}"
            try:
                self._stack.enter_context(self._rooms.store.lock(f"cache {candidate}", cancelled=lambda: True))
            except Interrupted:
                continue
            return candidate
        raise BuildfileError(f"more than {_PRIVATE_CACHES} steps use one private cache at once")

    def _make_cache(self, mount: MountOp, path: Path) -> None:
        if mount.stage is None and not mount.context:
            path.mkdir()
        else:
            with ExitStack() as stack:
                tree: Tree = self._rooms.files(mount.context)
                if mount.stage is not None:
                    tree = stack.enter_context(self._rooms.view(self._stage_lowers(mount.stage)))
                from imgbuild.solve.files import copy_subtree

                filled = copy_subtree(self._rooms, tree, mount.source, path.with_name("filled"), self._op.epoch)
            begin = filled.path / "source"
            if not stat.S_ISDIR(begin.lstat().st_mode):
                raise BuildfileError(f"a cache can't begin with {mount.source!r}, which is no directory", at=mount.span)
            begin.rename(path)
        os.chown(path, mount.uid, mount.gid)
        path.chmod(0o755 if mount.mode is None else mount.mode)

    def _secret(self, mount: MountOp) -> None:
        secret = self._rooms.secrets.get(mount.id)
        if secret is None:
            if mount.required:
                raise BuildfileError(
                    f"the secret {mount.id!r} was not given", at=mount.span, hint=f"give it with --secret id={mount.id},src=FILE"
                )
            return
        if mount.target:
            mode = 0o400 if mount.mode is None else mount.mode
            self._place(Mount(File(secret.data, mode, mount.uid, mount.gid), mount.target, read_only=True), is_directory=False)
        if mount.env:
            self.environment += (f"{mount.env}={secret.data.decode('utf-8', 'surrogateescape')}",)

    def _agent(self, mount: MountOp, directory: Path) -> None:
        agents = self._rooms.agents
        if not any(entry.startswith(f"{_AGENT_VARIABLE}=") for entry in self.environment):
            # The first one's, also where it was not given: as the reference has it.
            self.environment += (f"{_AGENT_VARIABLE}={mount.target}",)
        if agents is None or mount.id not in agents:
            if mount.required:
                raise BuildfileError(f"the ssh agent {mount.id!r} was not given", at=mount.span, hint=f"give it with --ssh {mount.id}")
            return
        from imgbuild.solve.agents import Forwarding

        directory.mkdir(parents=True)
        forwarding = self._stack.enter_context(Forwarding(directory / "agent", agents.socket(mount.id)))
        try:
            os.chown(forwarding.path, mount.uid, mount.gid)
        except OSError as error:
            hint = "without root, a step has the ids that a subuid range gives; leave uid and gid out"
            raise BuildfileError(f"the agent can't belong to {mount.uid}:{mount.gid}: {error.strerror}", at=mount.span, hint=hint) from None
        forwarding.path.chmod(0o600 if mount.mode is None else mount.mode)
        self._place(Mount(Bind(str(forwarding.path)), mount.target), is_directory=False)


def _cache_name(mount: MountOp) -> str:
    """The directory that a cache's id stands for."""
    import hashlib  # which loads OpenSSL: few steps need it here

    return hashlib.sha256(mount.id.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _seed_name(digests: Mapping[str, str]) -> str:
    """What tells caches of one id apart by the files that they begin with."""
    return f"-{digest_of(canonical_json(digests)).partition(':')[2][:32]}" if digests else ""
