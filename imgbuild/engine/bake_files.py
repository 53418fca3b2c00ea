"""Which build files a bake reads: those that were named, else those with the usual names in the current directory."""

from __future__ import annotations

import sys

from imgbuild.bake.dotenv import read_dotenv
from imgbuild.bake.keys import Base
from imgbuild.bake.nodes import Node, Table
from imgbuild.bake.project import BuildFile, Project, read_project
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import BuildfileError, NotFoundError, UnsupportedError, UsageError
from imgbuild.hints import Callable, Sequence
from imgbuild.light.pathlib import Path

NAMES = (
    ("imgbuild.yaml", "imgbuild.yml"),
    ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"),
    ("docker-bake.json",),
    ("docker-bake.hcl",),
)
"""The first of them that there is; of compose files, and what is beside them, an override too."""

_MOST_BYTES = 1 << 20


def find_files(names: Sequence[str]) -> tuple[str, ...]:
    """The build files that are meant, as paths; "-" is stdin."""
    if names:
        return tuple(names)
    for kind in NAMES:
        for name in kind:
            if Path(name).is_file():
                stem, dot, suffix = name.partition(".")
                override = f"{stem}.override{dot}{suffix}"
                return (name, override) if Path(override).is_file() and stem != "imgbuild" else (name,)
    usual = ", ".join(name for kind in NAMES[:3] for name in kind)
    raise NotFoundError("there is no build file here", hint=f"its name is one of {usual}, or is given with -f")


def load_project(invocation: Invocation, names: Sequence[str], variables: Sequence[str], notice: Callable[[str], None]) -> Project:
    """What the build files declare. `variables` are NAME=VALUE, as ``--var`` gives them."""
    files = [_load(invocation, name) for name in find_files(names)]
    given: dict[str, str] = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--var {text!r} is not understood", hint="write NAME=VALUE")
        given[name] = value
    return read_project(files, invocation.environ, given, notice)


def _load(invocation: Invocation, name: str) -> BuildFile:
    from imgbuild.settings.tree import decode_tree, load_tree

    if name.lower().endswith(".hcl"):
        raise UnsupportedError(f"{name} is HCL, which is not read here", hint="write it as imgbuild.yaml, or as docker-bake.json")
    if name == "-":
        return BuildFile(decode_tree(sys.stdin.buffer.read(_MOST_BYTES + 1), "stdin"), Base())
    path = Path(name)
    root = load_tree(path)
    directory = "" if _is_json_form(root) or path.parent == Path() else str(path.parent)
    return BuildFile(root, Base(directory), _dotenv(invocation, path.parent / ".env"))


def _is_json_form(root: Node) -> bool:
    """docker's JSON has its paths start at the current directory, wherever it stands."""
    return isinstance(root, Table) and any(entry.key in ("target", "group") for entry in root.entries)


def _dotenv(invocation: Invocation, path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    from imgbuild.settings.text import read_text

    return read_dotenv(read_text(path, "the file", BuildfileError), str(path), invocation.environ)
