"""YAML files as text: read with a bound, decoded, and their nodes composed, with errors that point into them."""

from __future__ import annotations

import yaml

from imgbuild.errors import ImgbuildError, Source, Span
from imgbuild.light.pathlib import Path

LARGEST = 1 << 20


def read_text(path: Path, what: str, kind: type[ImgbuildError], missing: str | None = None) -> str:
    """The text of a file; an error of the `kind` where it can't be read, with the hint `missing` where there is none."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        hint = missing if isinstance(error, FileNotFoundError) else None
        raise kind(f"can't read {what} {path}: {error.strerror}", hint=hint) from None
    return decoded(data, str(path), what, kind)


def decoded(data: bytes, name: str, what: str, kind: type[ImgbuildError]) -> str:
    """The text that the bytes are."""
    if len(data) > LARGEST:
        raise kind(f"{what} {name} is larger than {LARGEST >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        source = Source(name, tuple(data.decode("utf-8", "replace").splitlines()))
        line = data.count(b"\n", 0, error.start) + 1
        raise kind(f"{what} is not UTF-8", at=Span(source, line, line)) from None


def compose(text: str, source: Source, what: str, kind: type[ImgbuildError]) -> yaml.Node | None:
    """The text's one document as nodes; no object is ever made of a tag."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        message = " ".join(filter(None, (error.context, error.problem)))
        raise kind(f"{what} not YAML: {message}", at=_span(source, error.problem_mark)) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise kind(f"{what} not YAML", at=Span(source, 1, 1), detail=str(error)) from None
    return node


def node_span(source: Source, node: yaml.Node) -> Span:
    """Where a node stands; of one that spans lines, its first."""
    start, end = node.start_mark, node.end_mark
    last = end.column if end.line == start.line else len(source.lines[start.line]) if start.line < len(source.lines) else 0
    return Span(source, start.line + 1, start.line + 1, start.column + 1, max(last, start.column + 1) + 1)


def _span(source: Source, mark: yaml.Mark | None) -> Span | None:
    if mark is None:
        return None
    column = mark.column + 1
    if mark.line >= len(source.lines):  # the end of the text, below its last line
        column = len(source.lines[-1]) + 1 if source.lines else 1
    line = min(mark.line, max(len(source.lines) - 1, 0)) + 1
    return Span(source, line, line, column, column + 1)
