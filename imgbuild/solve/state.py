"""Root file systems between steps: a chain of bases and step results, each known as a lower, as a layer, or as both.

A performed step is a lower at once and a layer when its capture ends; a cached one is a layer at once and a lower when somebody
needs its files. So a build in which everything is cached touches no file of any root file system.
"""

from __future__ import annotations

from imgbuild.graph.key import StepKey
from imgbuild.graph.ops import Base, CopyOp, Step
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Mapping
from imgbuild.light import json, threading
from imgbuild.oci.digest import chain_id, digest_of
from imgbuild.oci.image import Layer
from imgbuild.snapshot import Lower, Lowers
from imgbuild.values import dataclass, field

if TYPE_CHECKING:
    from imgbuild.context.digest import Kept
    from imgbuild.solve.rooms import Rooms

Materialize = Callable[[tuple[Layer, ...]], Lowers]


@dataclass(frozen=True, slots=True)
class StepLayer:
    """A step's result: its layer, None where the step changed nothing and leaves none. `ledger`, of one that was found: the build that
    performed it, its log and what it cost, under the names that `insight.builds` describes."""

    layer: Layer | None
    ledger: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Absent:
    """That a step is not found, and why: there is no "record"; it is only to be found without "cache"; it was performed on another
    "parent" than this one, of the same key; its "layer" is gone; or there is a secret in that, a "leak" which was allowed."""

    why: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A step that is to be found or performed: its record, its key, and what the digests of its inputs were made of, where they were
    made."""

    step: Step
    record: bytes
    key: StepKey
    kept: tuple[Kept, ...] = ()


class Promise:
    """A `StepLayer` that a capture will bring, or the error that it ended with."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._result: StepLayer | None = None
        self._error: BaseException | None = None

    def keep(self, result: StepLayer) -> None:
        self._result = result
        self._done.set()

    def break_(self, error: BaseException) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> StepLayer:
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


class RootState:
    """A root file system after a base or a step. `identity` is what the next step's key calls its parent. The lower of a step that
    is `independent` of its parent has a top directory of its own. `wanted` is the step, as it was found or performed."""

    def __init__(
        self,
        identity: str,
        materialize: Materialize,
        *,
        parent: RootState | None = None,
        base: Base | None = None,
        result: StepLayer | Promise | None = None,
        lower: Lower | None = None,
        independent: bool = False,
        wanted: Wanted | None = None,
    ) -> None:
        self.identity = identity
        self._materialize = materialize
        self._parent = parent
        self._base = base
        self._result = result
        self._lower = lower
        self._independent = independent
        self._lowers: Lowers | None = None
        self._layers: tuple[Layer, ...] | None = None
        self._chain: str | None = None
        self._lock = threading.Lock()
        self.performed: bool = isinstance(result, Promise) or (parent is not None and parent.performed)
        """Whether this state or one below it was made by this build rather than found."""
        self.copies: tuple[Wanted, ...] = parent.copies if parent is not None else ()
        """Of the steps that it stands on, those that copied from the build context."""
        if wanted is not None and wanted.kept and isinstance(op := wanted.step.op, CopyOp) and op.stage is None and not op.context:
            self.copies = (*self.copies, wanted)

    def own(self) -> StepLayer | None:
        """What the last step left, once captured; None for a base."""
        return self._result.wait() if isinstance(self._result, Promise) else self._result

    def layers(self) -> tuple[Layer, ...]:
        """All layers, lowest first; waits for captures that are under way."""
        above: list[Layer] = []
        state: RootState | None = self
        while state is not None and state._layers is None:  # a loop: there may be thousands of steps
            own = state.own()
            if own is not None and own.layer is not None:
                above.append(own.layer)
            if state._base is not None:
                state._layers = state._base.layers
                break
            state = state._parent
        below = state._layers if state is not None else None
        if state is not self:
            self._layers = (*(below or ()), *reversed(above))
        return self._layers or ()

    def chain(self) -> str:
        """The ChainID of the layers; waits for captures that are under way."""
        unknown: list[RootState] = []
        state: RootState | None = self
        while state is not None and state._chain is None:
            unknown.append(state)
            state = state._parent
        for each in reversed(unknown):
            each._chain = each._chain_above()
        assert self._chain is not None
        return self._chain

    def _chain_above(self) -> str:
        """The ChainID, where that of the parent is known."""
        own = self.own()
        if self._parent is None:
            return chain_id(layer.diff_id for layer in (self._base.layers if self._base is not None else ()))
        below = self._parent.chain()
        if own is None or own.layer is None:
            return below
        return digest_of(f"{below} {own.layer.diff_id}".encode()) if below else own.layer.diff_id

    def lowers(self) -> Lowers:
        """The root file system as lowers; made from layers where it is not at hand."""
        unknown = [self]
        while (parent := unknown[-1]._below()) is not None and parent._lowers is None:
            unknown.append(parent)
        for each in reversed(unknown[1:]):
            each._own_lowers()
        return self._own_lowers()

    def _below(self) -> RootState | None:
        """The state whose lowers this one's are made of."""
        stands = self._lower is not None or (isinstance(self._result, StepLayer) and self._result.layer is None)
        return self._parent if stands else None

    def _own_lowers(self) -> Lowers:
        with self._lock:
            if self._lowers is None:
                if self._lower is not None and self._parent is not None and self._fits():
                    self._lowers = (*self._parent.lowers(), self._lower)
                elif isinstance(self._result, StepLayer) and self._result.layer is None and self._parent is not None:
                    self._lowers = self._parent.lowers()
                else:
                    self._lowers = self._materialize(self.layers())
            return self._lowers

    def _fits(self) -> bool:
        """Whether the lower shows on the parent's what its layer means there: overlay takes the top directory from the topmost."""
        if not self._independent or self._parent is None:
            return True
        from imgbuild.rootfs.materialize import has_usual_root

        below = self._parent.lowers()
        return not below or has_usual_root(below[-1])


def identity_after(parent: RootState, step: Step, key: StepKey) -> str:
    """What the next step's key calls the state after a step: the key, which holds what the step stands on, unless it does not matter to
    it: it does to the next."""
    return digest_of(f"{parent.identity} {key}".encode()) if step.independent else key


def ground(parent: RootState, step: Step) -> str:
    """What a step's record says of the layers that it was performed on."""
    return "" if step.independent else parent.chain()


def look_up(rooms: Rooms, step: Step, key: StepKey, parent: RootState, build: str) -> StepLayer | Absent:
    """What the index knows of the step, if its layer is really there and it was performed on the very bytes of this parent: one that
    is not deterministic, and was performed again, must not get a child that saw another outcome. Without a cache only what this
    build performed itself counts, so that equal steps of it are one. No secret that this build was given may be in it, unless that is
    allowed now."""
    store = rooms.store
    row = store.index.step(key)
    if row is None:
        return Absent("record")
    if step.no_cache and row.build != build:
        return Absent("cache")
    ledger = json.loads(row.usage)
    if ledger.get("parent") != ground(parent, step):
        return Absent("parent")
    if rooms.leaks is not None and rooms.leaks.forbids(ledger.get("leaks", ())):
        return Absent("leak")
    ledger.setdefault("build", row.build)
    if row.empty or row.diff_id is None:
        return StepLayer(None, ledger)
    asked = str(rooms.compression)
    known = sorted(store.index.layers_of(row.diff_id), key=lambda layer: not layer.compression.startswith(asked))
    present = (layer for layer in known if store.blobs.has(layer.blob.digest, layer.blob.size))
    layer = next(present, None)
    return Absent("layer") if layer is None else StepLayer(Layer(layer.blob, row.diff_id), ledger)


@dataclass(frozen=True, slots=True)
class SolvedStage:
    """A stage's outcome: what each of its steps left, and all layers up to its end, lowest first."""

    steps: tuple[StepLayer, ...]
    layers: tuple[Layer, ...]
    state: RootState


@dataclass(frozen=True, slots=True)
class Solution:
    """What became of each stage, and how many steps were found and performed."""

    stages: dict[int, SolvedStage]
    cached: int
    performed: int
