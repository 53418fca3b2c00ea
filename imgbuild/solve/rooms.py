"""What a solve works with: the implementations of the rooms below, as `engine` has put them together."""

from __future__ import annotations

import math

from imgbuild.hints import TYPE_CHECKING, Callable, Mapping
from imgbuild.light.pathlib import Path
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.seen import Seen
from imgbuild.solve.etc import HostNetwork
from imgbuild.values import dataclass, field, replace

if TYPE_CHECKING:
    from imgbuild.context.local import LocalContext
    from imgbuild.context.tree import Tree
    from imgbuild.graph.ops import RemoteSource, Step
    from imgbuild.layer.compression import Compression
    from imgbuild.layer.leaks import Leaks
    from imgbuild.linux.features import Features
    from imgbuild.sandbox.zygote import Zygote
    from imgbuild.snapshot.snapshotter import DirectorySnapshotter
    from imgbuild.snapshot.union import UnionView
    from imgbuild.solve.agents import Agents
    from imgbuild.solve.secrets import Secret
    from imgbuild.store.blobs import BlobWriter
    from imgbuild.store.failed import Keep
    from imgbuild.store.store import Store


@dataclass(frozen=True, slots=True)
class Rooms:
    """`zygote` starts it when first called, which must be before there are threads. `contexts` are the named contexts that are files.
    `secrets` are those that were given, by id; their bytes go into mounts and environments, and nowhere else. `failures` is where files of
    failed steps go; None is the store's own place for them."""

    store: Store
    zygote: Callable[[], Zygote]
    features: Features
    context: LocalContext
    compression: Compression
    host: HostNetwork = HostNetwork()
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    contexts: Mapping[str, Tree] = field(default_factory=dict)
    agents: Agents | None = None
    failures: Path | None = None
    keep: Callable[[], Keep] | None = None
    """How much of failed steps is kept; None: nothing."""
    memory: int | None = None
    """The memory that steps at once may need by what they needed before; None: what is available."""
    silence: float = math.inf
    """After how many seconds it is said what a step that writes nothing waits for."""
    remotes: Mapping[RemoteSource, Tree] = field(default_factory=dict)
    """What was fetched, by the source without its `position` and `unpack`."""
    begun: Callable[[Step], Callable[[BlobWriter], object] | None] = lambda step: None
    """Who shall be told of the blob of a step's layer when it begins to be made."""
    leaks: Leaks | None = None
    """What looks for secrets in layers, where any were given."""
    seen: Seen = field(default_factory=Seen, repr=False)
    """What was seen of the lowers that the build reads."""

    def remote(self, source: RemoteSource) -> Tree:
        """What a remote source is."""
        return self.remotes[replace(source, position=0, unpack=False)]

    def files(self, context: str) -> Tree:
        """A named context that is files; the build context where the name is ""."""
        return self.contexts[context] if context else self.context

    @property
    def snapshotter(self) -> DirectorySnapshotter:
        """Where new lowers come from."""
        from imgbuild.snapshot.snapshotter import DirectorySnapshotter

        return DirectorySnapshotter(self.store.root, self.store, features=self.features, seen=self.seen)

    def view(self, lowers: Lowers) -> UnionView:
        """A root file system read without mounting it; close it."""
        from imgbuild.snapshot.union import UnionView

        return UnionView(lowers, userxattr=self.features.rootless, seen=self.seen)
