"""Reading an error as a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imgbuild.buildfile.parser import parse
from imgbuild.errors import BuildfileError


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> BuildfileError:
    with pytest.raises(BuildfileError) as caught:
        call(*arguments, **named)
    return caught.value


def fault(text: str | bytes) -> BuildfileError:
    """The error that a Buildfile gives; it always has a place."""
    error = refused(parse, text, "Buildfile")
    assert error.at is not None
    assert 1 <= error.at.line <= max(1, len(error.at.source.lines))
    return error


def marked(error: BuildfileError) -> str:
    """What the caret is under."""
    at = error.at
    assert at is not None
    return at.source.lines[at.line - 1][at.column - 1 : at.end_column - 1] if at.column else ""


def only(text: str) -> Any:
    """The one instruction that follows FROM."""
    (stage,) = parse(f"FROM x\n{text}", "Buildfile").stages
    (instruction,) = stage.instructions
    return instruction
