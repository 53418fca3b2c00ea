"""What `with` statements of this program are made of: as in the standard module of this name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
    from typing import Any
else:
    from imgbuild.hints import AbstractContextManager

    class suppress:
        """As `contextlib.suppress`."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds: type[BaseException]) -> None:
            self._kinds = kinds

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
            return kind is not None and issubclass(kind, self._kinds)

    class nullcontext:
        """As `contextlib.nullcontext`."""

        __slots__ = ("enter_result",)

        def __init__(self, enter_result: Any = None) -> None:
            self.enter_result = enter_result

        def __enter__(self) -> Any:
            return self.enter_result

        def __exit__(self, *details: object) -> None:
            pass

    class closing:
        """As `contextlib.closing`."""

        __slots__ = ("thing",)

        def __init__(self, thing: Any) -> None:
            self.thing = thing

        def __enter__(self) -> Any:
            return self.thing

        def __exit__(self, *details: object) -> None:
            self.thing.close()

    class _Managed:
        """A generator that yields once, as a ``with``."""

        __slots__ = ("_steps",)

        def __init__(self, steps: Any) -> None:
            self._steps = steps

        def __enter__(self) -> Any:
            try:
                return next(self._steps)
            except StopIteration:
                raise RuntimeError("generator didn't yield") from None

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
            if kind is None:
                try:
                    next(self._steps)
                except StopIteration:
                    return False
                raise RuntimeError("generator didn't stop")
            if error is None:
                error = kind()
            try:
                self._steps.throw(error)
            except StopIteration as ended:
                return ended is not error
            except BaseException as raised:
                # A generator turns a StopIteration that comes out of it into a RuntimeError.
                passed = raised.__cause__ if isinstance(raised, RuntimeError) and isinstance(error, StopIteration) else raised
                if passed is not error:
                    raise
                error.__traceback__ = trace
                return False
            raise RuntimeError("generator didn't stop after throw()")

    def contextmanager(function: Callable[..., Any]) -> Callable[..., _Managed]:
        """As `contextlib.contextmanager`; what comes out is no decorator."""

        def managed(*args: Any, **given: Any) -> _Managed:
            return _Managed(function(*args, **given))

        managed.__name__, managed.__qualname__, managed.__module__ = function.__name__, function.__qualname__, function.__module__
        managed.__doc__, managed.__wrapped__ = function.__doc__, function
        return managed

    class ExitStack:
        """As `contextlib.ExitStack`."""

        __slots__ = ("_leaving",)

        def __init__(self) -> None:
            self._leaving: list[Callable[..., Any]] = []

        def enter_context(self, manager: Any) -> Any:
            """Enter it; it is left with the others."""
            leave = type(manager).__exit__
            entered = type(manager).__enter__(manager)
            self._leaving.append(lambda *details: leave(manager, *details))
            return entered

        def push(self, leave: Any) -> Any:
            """Leave it, too, which somebody has entered; or call what is like an ``__exit__``."""
            manager = getattr(type(leave), "__exit__", None)
            self._leaving.append(leave if manager is None else lambda *details: manager(leave, *details))
            return leave

        def callback(self, function: Callable[..., Any], /, *args: Any, **given: Any) -> Callable[..., Any]:
            """Call it when the others are left."""

            def leave(*details: object) -> None:
                function(*args, **given)

            self._leaving.append(leave)
            return function

        def pop_all(self) -> ExitStack:
            """Everything moves to another stack."""
            other = type(self)()
            other._leaving, self._leaving = self._leaving, []
            return other

        def close(self) -> None:
            """Leave everything now."""
            self.__exit__(None, None, None)

        def __enter__(self) -> ExitStack:
            return self

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            on_its_way = error
            while self._leaving:
                on_its_way = _left(self._leaving.pop(), on_its_way)
            if on_its_way is None or on_its_way is error:
                return on_its_way is not error
            context = on_its_way.__context__
            try:
                raise on_its_way
            finally:
                on_its_way.__context__ = context  # which raising it here has made that of our caller

    def _left(leave: Callable[..., Any], error: BaseException | None) -> BaseException | None:
        """The exception that is on its way after this one was left."""
        try:
            if error is None:
                leave(None, None, None)
                return None
            trace = error.__traceback__
            try:
                raise error  # so that it is the context of what is raised now
            except BaseException:
                error.__traceback__ = trace
                return None if leave(type(error), error, trace) else error
        except BaseException as raised:
            return raised


__all__ = ["AbstractContextManager", "ExitStack", "closing", "contextmanager", "nullcontext", "suppress"]
