"""Work on items that come one by one, beside whoever brings them; the only one needs no thread."""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING, Callable, Generic, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

    from imgbuild.layer.stages import Stage

T = TypeVar("T")


class Later(Generic[T]):
    """Does `work` with each item, in order, in a thread from the second one on. All is done once the context is left without an error."""

    def __init__(self, name: str, work: Callable[[T], object], waiting: int) -> None:
        self._name = name
        self._work = work
        self._waiting = waiting
        self._first: list[T] = []
        self._stage: Stage[T] | None = None

    def __enter__(self) -> Later[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._stage is not None:
                self._stage.abandon()

    def put(self, item: T) -> None:
        """Take the next item; waits while too many are under way, and raises what the work on one before raised."""
        if self._stage is None and not self._first:
            self._first.append(item)
            return
        if self._stage is None:
            from imgbuild.layer.stages import Stage

            self._stage = Stage(self._name, self._work, self._waiting)
            self._stage.put(self._first[0])
        self._stage.put(item)

    def _finish(self) -> None:
        if self._stage is not None:
            self._stage.finish()
        elif self._first:
            self._work(self._first[0])
