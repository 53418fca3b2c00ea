"""Faults on request: which requests they hit, how often, and what they do. Values and counting; `exchange` acts.

A fault is a JSON object, or on the command line the same as `key=value` words:

    do       what happens, see KINDS
    method   a method, or several with commas; without it all methods
    path     a regular expression that is searched for in `path?query`; without it all paths
    count    how many times it strikes, then it passes; 1 without it, null or 0 for always
    skip     how many matching requests pass first
    status, retry_after, headers       for `status`
    after    bytes before the cut, for `cut` and `cut-upload`
    rate     bytes per second, for `slow` and `slow-upload`
    at       which byte is flipped, for `corrupt`; the middle one without it
    delta    what is added to Content-Length, for `length`
    reset    for what closes the connection: true for RST in place of FIN; bytes not yet delivered may then be lost

The first fault that matches and is not used up strikes; it counts once for the request.
"""

import json
import re
import shlex
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "status": "answer with `status` (and Retry-After), without doing anything",
        "drop": "close the connection without reading the body, doing or answering anything",
        "lose": "do what was asked, then close the connection without an answer",
        "cut": "send `after` bytes of the body, then close the connection",
        "cut-upload": "read (and keep) `after` bytes of the request's body, then close the connection",
        "slow": "send the body at `rate` bytes per second",
        "slow-upload": "read the request's body at `rate` bytes per second",
        "corrupt": "flip one byte of the body",
        "length": "add `delta` to Content-Length, then close the connection after the body",
    }
)
_LIMIT = 1000


class FaultError(ValueError):
    """A fault that is not written as above."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `count` is what is left, None for always."""

    do: str
    method: str = ""
    path: str = ""
    count: int | None = 1
    skip: int = 0
    status: int = 503
    retry_after: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    rate: float = 65536.0
    at: int | None = None
    delta: int = 1
    reset: bool = False

    def matches(self, method: str, target: str) -> bool:
        """Whether a request is one that this fault is for, used up or not."""
        methods = self.method.upper().replace(",", " ").split()
        return (not methods or method in methods) and re.search(self.path, target) is not None

    def as_json(self) -> dict[str, object]:
        """The fault as it could be given again."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Faults:
    """The faults that are set, in the order in which they were."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.add(faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Set more faults."""
        with self._lock:
            together = [*self._faults, *faults]
            if len(together) > _LIMIT:
                raise FaultError(f"more than {_LIMIT} faults")
            self._faults = together

    def clear(self) -> None:
        """Drop all faults."""
        with self._lock:
            self._faults = []

    def as_json(self) -> list[dict[str, object]]:
        """The faults that are not used up, with what is left of them."""
        with self._lock:
            return [fault.as_json() for fault in self._faults]

    def strike(self, method: str, target: str) -> Fault | None:
        """The fault that hits this request, if one does; counts it."""
        with self._lock:
            for number, fault in enumerate(self._faults):
                if not fault.matches(method, target):
                    continue
                if fault.skip:
                    self._faults[number] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.count is not None:
                    left = replace(fault, count=fault.count - 1)
                    self._faults[number : number + 1] = [left] if left.count else []
                return fault
        return None


def from_text(text: str) -> list[Fault]:
    """Faults from a command line word: JSON, or `do=status status=503 path=/blobs/`."""
    try:
        if text.lstrip().startswith(("{", "[")):
            return from_json(json.loads(text))
        pairs = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise FaultError(f"fault {text!r}: {error}") from error
    if bad := [key for key, equals, _ in pairs if not equals]:
        raise FaultError(f"fault {text!r}: {bad[0]!r} is not key=value")
    return from_json({key: _value(key, value) for key, _, value in pairs})


def from_json(document: object) -> list[Fault]:
    """Faults from one object or a list of them."""
    entries = document if isinstance(document, list) else [document]
    return [_fault(entry) for entry in entries]


def _value(key: str, value: str) -> object:
    if key in {"do", "method", "path", "retry_after"}:
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise FaultError(f"{key}={value}: not a number, true, false or null") from None


def _fault(entry: object) -> Fault:
    if not isinstance(entry, dict):
        raise FaultError("a fault is an object")
    if unknown := set(entry) - {item.name for item in fields(Fault)}:
        raise FaultError(f"unknown key {sorted(unknown)[0]!r}")
    if entry.get("do") not in KINDS:
        raise FaultError(f"do is one of {', '.join(KINDS)}")
    values = dict(entry)
    if isinstance(values.get("method"), list):
        values["method"] = ",".join(str(method) for method in values["method"])
    if values.get("retry_after") is not None:
        values["retry_after"] = str(values["retry_after"])
    if not values.get("count", 1):
        values["count"] = None
    fault = Fault(**values)
    _check(fault)
    return fault


def _check(fault: Fault) -> None:
    whole = {"status": fault.status, "after": fault.after, "delta": fault.delta, "skip": fault.skip}
    whole |= {key: value for key, value in (("count", fault.count), ("at", fault.at)) if value is not None}
    for key, value in whole.items():
        if not isinstance(value, int) or isinstance(value, bool) or (value < 0 and key != "delta"):
            raise FaultError(f"{key} is not a whole number")
    if not 200 <= fault.status <= 599:
        raise FaultError("status is not between 200 and 599")
    if not isinstance(fault.rate, int | float) or isinstance(fault.rate, bool) or fault.rate <= 0:
        raise FaultError("rate is not a positive number")
    if not isinstance(fault.headers, dict) or not isinstance(fault.reset, bool):
        raise FaultError("headers is not an object, or reset is not true or false")
    if not isinstance(fault.path, str) or not isinstance(fault.method, str):
        raise FaultError("path or method is not a string")
    try:
        re.compile(fault.path)
    except re.error as error:
        raise FaultError(f"path {fault.path!r}: {error}") from error
