"""What a record of a build must be, at the least, to be taken into the index or to be handed on: here, as it may come from a journal that
anybody could write to, or from an index that is damaged.

What a record says beyond that is for `insight.builds` to know, which takes of each field what it can use.
"""

from __future__ import annotations

import zlib

from imgbuild.errors import CorruptError
from imgbuild.hints import Any
from imgbuild.light import json
from imgbuild.light.contextlib import suppress

Record = dict[str, Any]

LATEST = 1e11
"""Seconds since 1970 that no build began after: more than a calendar holds would end whoever shows it."""
_DEEPEST = 40
_LONGEST_ID = 64
_WORDS = ("buildfile", "target", "status")


def admitted(value: object) -> Record | None:
    """The record that a JSON value is, as `sound`, and nested no deeper than whoever writes it out can go."""
    return sound(value) if _is_flat(value) else None


def sound(value: object) -> Record | None:
    """The record that a JSON value is, None where it is none. Steps that are none are left out."""
    if not isinstance(value, dict) or not is_id(value.get("id")):
        return None
    started: Any = value.get("started")
    ended: Any = value.get("ended")
    if not is_time(started) or not is_time(ended) or started > ended:
        return None
    words = {name: value.get(name) if isinstance(value.get(name), str) else "" for name in _WORDS}
    steps = value.get("steps")
    return {**value, **words, "steps": [step for step in steps if is_step(step)] if isinstance(steps, list) else []}


def is_id(value: object) -> bool:
    """Whether this can be the id of a build, which is also the name of a directory."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isascii() and value.isalnum()


def is_step(value: object) -> bool:
    """Whether this says something of a step."""
    return isinstance(value, dict) and type(number := value.get("number")) is int and 0 <= number < 1 << 31


def is_time(value: Any) -> bool:
    """Whether this is a time since 1970; what is no number is not, and neither is NaN."""
    return type(value) in (int, float) and 0 <= value < LATEST


def summary_of(record: Record) -> Record:
    """A record without its steps, of which there are "count"."""
    return {**record, "steps": [], "count": len(record["steps"])}


def packed(record: Record) -> bytes:
    """A record as the index has it."""
    return zlib.compress(json.dumps(record, separators=(",", ":")).encode())


def unpacked(build: str, data: object) -> Record:
    """The record of a build that the index has; CorruptError where it is damaged."""
    with suppress(zlib.error, ValueError, RecursionError):
        record = sound(json.loads(zlib.decompress(data))) if isinstance(data, bytes) else None
        if record is not None and record["id"] == build:
            return record
    raise CorruptError(f"the record of the build {build} is damaged", hint=f"forget it: imgbuild builds rm {build}")


def parse_summary(build: str, text: object) -> Record | None:
    """A summary of the index, None where there is none or it is damaged."""
    with suppress(ValueError, RecursionError):
        read: Any = json.loads(text) if isinstance(text, str) else None
        if sound(read) is not None and read["id"] == build and type(read.get("count")) is int:
            return {**read, "steps": []}
    return None


def column(value: object) -> str:
    """What the index calls a value of a record: names of files may hold bytes that are no text."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _is_flat(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        held = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in held for item in items]
        if not level:
            return True
    return False
