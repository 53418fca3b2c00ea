"""The key of a step: a digest of its record, which is canonical JSON of all that the step's result depends on.

A record holds the op's class and every field that is not `UNKEYED`, the identity of what the step runs on (the parent
step's key, or the base's chainID), and the digests of its inputs. Two records can be compared field by field.
"""

from __future__ import annotations

from imgbuild.graph.ops import Op
from imgbuild.hints import Any, Mapping, NewType
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import canonical_json
from imgbuild.values import fields, is_dataclass

StepKey = NewType("StepKey", str)
"""The digest of a step's record."""

RECORD_VERSION = 3
"""Raised whenever the same record would come to mean another result: then every step misses once."""


SECRET_INPUT = "secret "
"""What the name of an input that is a secret begins with; its id follows."""
_ORIGINS = ("stage", "context")


def key_record(op: Op, parent: str, inputs: Mapping[str, str]) -> bytes:
    """The record of a step: `parent` is the identity of what it runs on, `inputs` maps each input's name to its digest."""
    return canonical_json({
        "version": RECORD_VERSION,
        "op": type(op).__name__,
        "fields": _keyed(op),
        "parent": parent,
        "inputs": dict(inputs),
    })


def step_key(record: bytes) -> StepKey:
    """The key that belongs to a record."""
    return StepKey(digest_of(record))


def _keyed(value: object) -> Any:
    """`value` as JSON, without fields that are UNKEYED. Of a stage's number, and of a named context's name, it matters only that there
    is one: what is read from it is among the inputs, and a stage may move within its file."""
    if is_dataclass(value) and not isinstance(value, type):
        keyed = [item.name for item in fields(value) if item.metadata.get("keyed", True)]
        return {name: getattr(value, name) not in (None, "") if name in _ORIGINS else _keyed(getattr(value, name)) for name in keyed}
    if isinstance(value, tuple):
        return [_keyed(item) for item in value]
    return value
