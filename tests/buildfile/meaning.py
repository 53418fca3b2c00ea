"""A parsed Buildfile without its places and layout: what must survive printing."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from imgbuild.buildfile import instructions as ast

_LAYOUT = {"span", "source", "text", "blank_inside", "trigger_text", "word", "escape"}


def meaning(value: Any) -> Any:
    if isinstance(value, ast.Word):
        return value.text
    if isinstance(value, tuple):
        return tuple(meaning(item) for item in value)
    if is_dataclass(value):
        kept = {f.name: meaning(getattr(value, f.name)) for f in fields(value) if f.name not in _LAYOUT}
        return {"": type(value).__name__, **kept}
    return value
