"""``--print``: what would be built, in the form of docker buildx's JSON build files, so that it can be read again."""

from __future__ import annotations

from imgbuild.bake.keys import KEYS, Kind, Value
from imgbuild.bake.select import Selection
from imgbuild.bake.target import Target
from imgbuild.hints import Mapping

_ESCAPED = ("args", "labels", "annotations", "extra-hosts", "dockerfile-inline")
_SHORT = {"secret": "id", "output": "dest"}


def shown(selection: Selection) -> dict[str, object]:
    """Groups and targets as values that JSON has."""
    groups = {name: {"targets": list(members)} for name, members in sorted(selection.groups.items())}
    targets = {name: _target(target, asked=name in selection.asked) for name, target in sorted(selection.targets.items())}
    return {"group": groups, "target": targets}


def _target(target: Target, *, asked: bool) -> dict[str, object]:
    values: dict[str, Value] = {"context": target.home, **target.values}
    if not asked:
        values.pop("output", None)
    return {key: _value(key, values[key]) for key in KEYS if key in values and values[key] != ()}


def _value(key: str, value: Value) -> object:
    if key == "pull" and value in ("true", "false"):
        return value == "true"
    if isinstance(value, Mapping):
        return {name: _escaped(key, text) for name, text in value.items() if text is not None}
    if isinstance(value, tuple):
        if KEYS[key] in (Kind.RECORDS, Kind.LONGER_RECORDS):
            return [_record(key, text) for text in value]
        return [_escaped(key, text) for text in value]
    return _escaped(key, value) if isinstance(value, str) else value


def _record(key: str, text: str) -> dict[str, str]:
    if "=" not in text:
        return {"type": "local", "dest": text} if key == "output" else {_SHORT.get(key, "ref"): text}
    return {name: value for name, _, value in (part.partition("=") for part in text.split(","))}


def _escaped(key: str, text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{") if key in _ESCAPED else text
