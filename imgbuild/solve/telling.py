"""What is told of a step beside that it runs: why it was not found, looked for when there is time for it; and what it once wrote."""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING, Any, Callable, Mapping, Protocol, TracebackType
from imgbuild.light import threading
from imgbuild.solve.events import OnEvent, StepOutput

if TYPE_CHECKING:
    from imgbuild.light.pathlib import Path
    from imgbuild.solve.nodes import Node
    from imgbuild.solve.state import Wanted


class Causes(Protocol):
    """What knows why steps are performed."""

    def prepare(self) -> None:
        """Get ready to look, as far as that is not done."""

    def look(self, number: int, node: Node, wanted: Wanted, why: str) -> Callable[[], object]:
        """Look for why the step was not found that is shown as `number`; returns what tells it."""


class Telling:
    """What `look` finds is told by what it returns: each once, when it is first asked for, at the end of the `with` at last, unless it was
    put off in there. `prepare` is a part of it that may be done before. Of several threads, one does it and the others wait."""

    __slots__ = ("_later", "_lock", "_look", "_prepare", "_tell")

    def __init__(self, look: Callable[[], Callable[[], object]], prepare: Callable[[], object]) -> None:
        self._look: Callable[[], Callable[[], object]] | None = look
        self._prepare: Callable[[], object] | None = prepare
        self._tell: list[Callable[[], object]] = []
        self._later = False
        self._lock = threading.Lock()

    def go_on(self) -> None:
        """Do the next part of looking for it, about a thousandth of a second, and tell nobody yet."""
        with self._lock:
            prepare, self._prepare = self._prepare, None
            if prepare is not None:
                prepare()
            else:
                self._find()

    def __call__(self) -> None:
        """Tell it, and what is to be told after it, be it found or not."""
        with self._lock:
            try:
                self._find()
            finally:
                while self._tell:
                    self._tell.pop(0)()

    def put_off(self) -> None:
        """Whoever has this tells it later."""
        self._later = True

    def then(self, tell: Callable[[], object]) -> None:
        """What is to be told after it."""
        self._tell.append(tell)

    def __enter__(self) -> Telling:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None or not self._later:
            self()

    def _find(self) -> None:
        if self._look is not None:
            tell = self._look()
            self._look = None  # not before: who was interrupted looks again
            self._tell.insert(0, tell)


def say_again(root: Path, on_event: OnEvent, shown: int, ledger: Mapping[str, Any]) -> None:
    """What a cached step once wrote, as far as it is still known."""
    if name := ledger.get("log"):
        from imgbuild.store.logs import read_log

        for _, stream, data in read_log(root, name):
            on_event(StepOutput(shown, stream, data))
