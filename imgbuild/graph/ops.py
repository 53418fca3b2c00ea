"""Operations and the graph they form: what a Buildfile amounts to once bases and arguments are known.

Every field of an op is part of its step's key unless it is marked `UNKEYED` where it is declared: such a field changes
how a step runs or is shown, never what it makes.
"""

from __future__ import annotations

from imgbuild.errors import Span
from imgbuild.hints import Any
from imgbuild.oci.config import History, RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Layer
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference
from imgbuild.values import dataclass, field

UNKEYED: dict[str, Any] = {"keyed": False}
"""Metadata of a field that is left out of the key."""


@dataclass(frozen=True, slots=True)
class ContextImage:
    """The image that a named context is, where it has no reference of its own: the key of its `Base`."""

    name: str

    def familiar(self) -> str:
        return self.name


BaseName = Reference | ContextImage
"""What names a base before it is at hand."""

BaseKey = tuple[BaseName, Platform]
"""What a base is asked for: an image, and the platform that it shall be for."""


@dataclass(frozen=True, slots=True)
class Base:
    """An image that a stage starts from, or copies from: what `FROM` needs to know of it."""

    name: str
    digest: Digest
    platform: Platform
    config: RunConfig
    layers: tuple[Layer, ...]
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a ``from`` means: the index of a stage, or the files of a named context."""

    stage: int | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a RUN may go: DESIGN's limits of an instruction. Bytes, processors, processes, seconds."""

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    pids: int | None = None
    timeout: float | None = None
    idle_timeout: float | None = None
    retry: int = 0
    io_weight: int | None = None
    io_read_bps: int | None = None
    io_write_bps: int | None = None
    io_read_iops: int | None = None
    io_write_iops: int | None = None


@dataclass(frozen=True, slots=True)
class MountOp:
    """One ``--mount`` of a RUN with its variables replaced. `stage` is the index of the stage that it reads, `context` the named
    context; neither is the build context (bind) or nothing (cache, tmpfs, secret, ssh)."""

    kind: str
    target: str
    source: str = "/"
    stage: int | None = None
    context: str = ""
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int | None = None
    required: bool = False
    env: str = ""
    span: Span | None = field(default=None, compare=False, metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class DeviceOp:
    """One ``--device`` of a RUN: a path below /dev, or the name of a device of this machine."""

    name: str
    required: bool = False
    span: Span | None = field(default=None, compare=False, metadata=UNKEYED)


HOSTNAME = "imgbuild"
"""What a step's machine is called where nothing else is asked for: the same everywhere, so that what a step makes is."""


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """What a build was asked for with regard to all of its RUN steps. `network` is that of steps that name none, `hosts` are names
    and addresses, `hostname` is the machine's own, `ulimits` are (name, soft, hard), `allow` what steps may ask for beyond a
    sandbox: ``security.insecure``, ``device`` or ``device=NAME``."""

    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int | None = None
    ulimits: tuple[tuple[str, int, int], ...] = ()
    cgroup_parent: str = ""
    allow: frozenset[str] = frozenset()
    hostname: str = HOSTNAME


@dataclass(frozen=True, slots=True)
class Document:
    """A heredoc with a shebang: a file that a RUN executes."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class RunOp:
    """RUN: `argv` in the environment `env` (``NAME=value``), as `user` (as written) in `cwd`. `epoch` bounds the mtimes of
    what it writes and is its SOURCE_DATE_EPOCH. `hosts` are names for /etc/hosts; their addresses are not in the key, as those of
    the network are not. `keep` are paths to be saved if it fails. `platform` is the one that its programs are for."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    epoch: int
    network: str = "default"
    mounts: tuple[MountOp, ...] = ()
    document: Document | None = None
    security: str = "sandbox"
    devices: tuple[DeviceOp, ...] = ()
    hosts: tuple[str, ...] = ()
    shm_size: int | None = None
    ulimits: tuple[tuple[str, int, int], ...] = ()
    hostname: str = HOSTNAME
    addresses: tuple[str, ...] = field(default=(), metadata=UNKEYED)
    cgroup_parent: str = field(default="", metadata=UNKEYED)
    keep: tuple[str, ...] = field(default=(), metadata=UNKEYED)
    proxy: tuple[str, ...] = field(default=(), metadata=UNKEYED)
    limits: Limits = field(default=Limits(), metadata=UNKEYED)
    platform: str = ""


@dataclass(frozen=True, slots=True)
class TestOp(RunOp):
    """TEST: what must succeed on a root file system, and changes nothing of it."""


@dataclass(frozen=True, slots=True)
class FileText:
    """A heredoc source of COPY: a file of that name with that content."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A source that is fetched: a file ("http") called `name`, or a tree of a repository ("git"). `checksum` is "" or what it must be;
    `position` its place among the sources of its instruction; `unpack` says that an archive is extracted. Where it comes from does
    not count, only what comes."""

    kind: str
    url: str = field(metadata=UNKEYED)
    name: str = field(default="", metadata=UNKEYED)
    checksum: str = field(default="", metadata=UNKEYED)
    ref: str = field(default="", metadata=UNKEYED)
    subdir: str = field(default="", metadata=UNKEYED)
    keep_git_dir: bool | None = field(default=None, metadata=UNKEYED)
    submodules: bool = field(default=True, metadata=UNKEYED)
    unpack: bool = False
    position: int = 0


@dataclass(frozen=True, slots=True)
class CopyOp:
    """COPY and ADD. `sources` are the local ones, as written; `destination` is absolute and ends in "/" where it was written so;
    `stage` is the stage that it reads, `context` the named context, neither the build context; `chown` and `chmod` as written ("" for
    none); `unpack` for ADD's archives. `link`: the result depends on nothing that it is put on. `parents`: sources keep the directories
    that lead to them. `optional`: a source may be missing, which says nothing of what is made of those that are there."""

    sources: tuple[str, ...]
    destination: str
    epoch: int
    stage: int | None = None
    context: str = ""
    remotes: tuple[RemoteSource, ...] = ()
    documents: tuple[FileText, ...] = ()
    chown: str = ""
    chmod: str = ""
    unpack: bool = False
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    optional: bool = field(default=False, metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class WorkdirOp:
    """WORKDIR: `path` and what leads to it, made where missing, owned by `user` (as written)."""

    path: str
    user: str
    epoch: int


Op = RunOp | CopyOp | WorkdirOp


@dataclass(frozen=True, slots=True)
class Step:
    """An op in its place. `name` is what a user sees: ``[build 2/5] RUN make``; `arguments` are those of the variables of a RUN that are
    ARGs."""

    op: Op
    name: str
    span: Span
    no_cache: bool = False
    arguments: tuple[str, ...] = ()

    @property
    def independent(self) -> bool:
        """Whether it makes the same layer whatever it stands on."""
        return isinstance(self.op, CopyOp) and self.op.link

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages whose files this step reads."""
        if isinstance(self.op, RunOp):
            return tuple(mount.stage for mount in self.op.mounts if mount.stage is not None)
        if isinstance(self.op, CopyOp) and self.op.stage is not None:
            return (self.op.stage,)
        return ()


@dataclass(frozen=True, slots=True)
class StageTest:
    """A TEST of a stage: its step, and how many of the stage's own steps are behind when it runs."""

    step: Step
    after: int


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One entry of the history to be; `step` is the number of the stage's own step whose layer it names, if any, `span` the instruction."""

    created_by: str
    step: int | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: it starts from another stage (`parent`), from an image (`base`), or from nothing; its steps; and what its
    image will say. `lines` are its own history, without its parent's."""

    index: int
    name: str
    parent: int | None
    base: Base | None
    steps: tuple[Step, ...]
    lines: tuple[HistoryLine, ...]
    config: RunConfig
    author: str
    platform: Platform
    epoch: int
    span: Span
    tests: tuple[StageTest, ...] = ()

    def step_at(self, number: int) -> tuple[Step, int]:
        """The step with that number, counted from 1, steps first and then tests; and how many steps it stands on."""
        if number <= len(self.steps):
            return self.steps[number - 1], number - 1
        test = self.tests[number - len(self.steps) - 1]
        return test.step, test.after


@dataclass(frozen=True, slots=True)
class BuildGraph:
    """The stages that the targets need, by index, and the targets' indexes. No cycles."""

    stages: dict[int, Stage]
    targets: tuple[int, ...]

    @property
    def target(self) -> int:
        """The only target of a graph that has one."""
        (only,) = self.targets
        return only
