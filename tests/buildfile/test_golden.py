"""The golden Buildfiles: the parse agrees with BuildKit 0.12's own parser, and printing keeps the meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.parser import parse
from imgbuild.buildfile.print import print_buildfile
from imgbuild.buildfile.words import json_words, split_command

from .meaning import meaning

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())


def _arguments(i: ast.Instruction) -> tuple[bool, list[str]]:
    """Whether the JSON form was used, and the arguments as BuildKit's parser lists them."""
    match i:
        case ast.From():
            return False, [i.image.text] + (["AS", i.alias_word.text] if i.alias_word else [])
        case ast.Run() | ast.Cmd() | ast.Entrypoint():
            return _command(i.command)
        case ast.Healthcheck():
            json, words = (False, []) if i.command is None else _command(i.command)
            return json, ["NONE" if i.command is None else "CMD", *words]
        case ast.Shell():
            return True, list(i.words)
        case ast.Env() | ast.Label():
            return False, [word.text for pair in i.pairs for word in pair]
        case ast.Arg():
            return False, [name.text if value is None else f"{name.text}={value.text}" for name, value in i.pairs]
        case ast.Copy():
            sources = [heredoc.word for heredoc in i.heredocs] + [source.text for source in i.sources]
            return json_words(split_command(i.text).rest.text) is not None, [*sorted(sources), i.destination.text]
        case ast.Volume():
            return json_words(split_command(i.text).rest.text) is not None, [path.text for path in i.paths]
        case ast.Expose():
            return False, [port.text for port in i.ports]
        case ast.User(user=word) | ast.Workdir(path=word) | ast.Stopsignal(signal=word) | ast.Maintainer(name=word):
            return False, [word.text]
    raise AssertionError(i)


def _command(command: ast.Command) -> tuple[bool, list[str]]:
    if command.words is None:
        return False, [command.line] if command.line else []
    return True, list(command.words)


def _ours(i: ast.Instruction) -> dict[str, Any]:
    inner = i.trigger if isinstance(i, ast.Onbuild) else i
    json, words = _arguments(inner)
    found = getattr(inner, "heredocs", ()) or getattr(getattr(inner, "command", None), "heredocs", ())
    heredocs = found if inner is i else ()  # the binding does not show those of a trigger
    return {
        "name": type(i).__name__.upper(),
        "trigger": type(inner).__name__.upper() if inner is not i else None,
        "json": json,
        "flags": [f"--{flag.name}" + (f"={flag.value}" if flag.value is not None else "") for flag in i.flags],
        "words": words,
        "lines": (i.span.line, i.span.end_line),
        "heredocs": sorted((h.name, h.fd or 0, h.content if not h.strip_tabs else h.raw.removesuffix(h.name)) for h in heredocs),
    }


def _theirs(c: Any) -> dict[str, Any]:
    words = list(c.value)
    name, trigger = c.cmd.upper(), c.sub_cmd and c.sub_cmd.upper()
    kind = trigger or name
    if kind in ("COPY", "ADD"):
        words = [*sorted(words[:-1]), words[-1]]
    if kind in ("FROM", "HEALTHCHECK"):
        at = 1 if kind == "FROM" else 0
        words[at : at + 1] = [word.upper() for word in words[at : at + 1]]
    return {
        "name": name,
        "trigger": trigger,
        "json": c.json,
        "flags": list(c.flags),
        "words": words,
        "lines": (c.start_line, c.end_line),
        "heredocs": sorted((h.name, h.file_descriptor, h.content) for h in c.heredocs),
    }


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_agrees_with_buildkit(path: Path) -> None:
    dockerfile = pytest.importorskip("dockerfile", reason="BuildKit's parser is only built for x86_64")
    text = path.read_bytes()
    buildfile = parse(text, path.name)
    ours = [_ours(i) for i in buildfile.global_args]
    for stage in buildfile.stages:
        ours += [_ours(i) for i in (stage.origin, *stage.instructions)]
    assert ours == [_theirs(c) for c in dockerfile.parse_string(text.decode())]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_print_keeps_the_meaning(path: Path) -> None:
    buildfile = parse(path.read_bytes(), path.name)
    assert meaning(parse(print_buildfile(buildfile), "printed")) == meaning(buildfile)
