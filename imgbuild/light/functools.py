"""Functions that are filled in, or remember: by the C code of the standard module."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from functools import cache, cached_property, lru_cache, partial
    from typing import Any
else:
    from _functools import _lru_cache_wrapper, partial

    def cache(function: Callable[..., Any]) -> Callable[..., Any]:
        """As `functools.cache`, of a function whose arguments come by position."""
        known: dict[Any, Any] = {}

        def cached(*arguments: Any) -> Any:
            try:
                return known[arguments]
            except KeyError:
                return known.setdefault(arguments, function(*arguments))

        cached.__name__, cached.__doc__, cached.__wrapped__ = function.__name__, function.__doc__, function
        return cached

    def lru_cache(maxsize: int = 128, typed: bool = False) -> Callable[..., Any]:
        """As `functools.lru_cache`, always with its parentheses."""
        return lambda function: _lru_cache_wrapper(function, maxsize, typed, tuple)

    class cached_property:
        """As `functools.cached_property`."""

        def __init__(self, function: Callable[[Any], Any]) -> None:
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._function(instance)
            return value


__all__ = ["cache", "cached_property", "lru_cache", "partial"]
