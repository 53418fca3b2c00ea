"""The rules of the layout, each a function from a source tree to what breaks it. `test_architecture` applies them, and breaks each once."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "imgbuild"

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"values", "hints", "patterns"}),
    frozenset({"light"}),
    frozenset({"errors"}),
    frozenset({"buildfile", "oci", "linux"}),
    frozenset({"graph", "context", "store", "layer", "snapshot", "sandbox", "registry", "bake"}),
    frozenset({"rootfs", "transfer", "fetch"}),
    frozenset({"solve", "runtime", "insight", "settings"}),
    frozenset({"report"}),
    frozenset({"engine"}),
    frozenset({"cli"}),
)
"""Rooms from the ground up. A room imports what is below it."""

PURE = frozenset({"values", "hints", "patterns", "errors", "oci", "buildfile", "graph", "bake", "report"})
PURE_IMPORTS = frozenset(
    {"__future__", "bisect", "collections", "collections.abc", "contextlib", "dataclasses", "datetime", "enum", "fnmatch", "functools"}
    | {"_collections", "_collections_abc", "_operator"}
    | {"_sha2", "_sha256", "hashlib", "inspect", "itertools", "json", "operator", "posixpath", "re", "string", "types", "typing"}
    | {"binascii", "heapq", "math"}
)
"""What a pure room may import of the standard library: nothing that reaches a file, a clock, a process or the environment."""

DOORS = {
    "click": "cli",
    "rich": "cli/render.py",
    "yaml": "settings",
    "requests": "registry",
    "urllib3": "registry",
    "zstandard": "layer/compress.py",
    "isal": "layer/compress.py",
    "ctypes": "linux",
    "sqlite3": "store",
    "_sqlite3": "store",
    "watchfiles": "engine/watching.py",
}
"""The one room, or module, that may import each."""

LINES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"lowerdir=", ("snapshot/overlay.py",)),
    (r"\.wh\.", ("layer/",)),
    (r"application/vnd\.oci", ("oci/image.py",)),
    (r"(?<!Proxy-)\bAuthorization\b", ("registry/auth.py",)),
    (r"/sys/fs/cgroup", ("sandbox/cgroup.py",)),
    (r"overlay\.opaque", ("layer/", "snapshot/")),
)
"""What only these may have in a string. Docstrings may speak of it."""

NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("os.environ", ("cli/", "engine/")),
    ("os.getenv", ("cli/", "engine/")),
    ("sys.argv", ("cli/", "engine/")),
    ("sys.exit", ("cli/", "engine/")),
    ("print", ("cli/", "engine/")),
    ("tarfile.extract", ()),
    ("tarfile.extractall", ()),
)
"""What only these may use."""

HEAVY = frozenset({"re", "json", "pathlib", "contextlib", "functools", "enum", "signal", "threading", "collections"})
"""Modules of the standard library that `light` stands for: each brings in others, which a build in which all is cached, a run and an exec
have no time for. What is imported only for types is not; `collections.abc` is there before any program begins."""

HEAVY_ALLOWED = ("light/", "hints.py", "patterns.py", "cli/start.py", "cli/bundling.py")
"""Who may: what stands for them, and what compiles patterns in advance."""

BANNED_MODULES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})
MOST_LINES = 400


@dataclass(frozen=True)
class Module:
    """One source file; `path` is relative to the package."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        first, slash, _ = self.path.partition("/")
        return first if slash else first.removesuffix(".py")

    @property
    def is_root(self) -> bool:
        """``__init__`` and ``__main__`` of the package itself, which are in no room."""
        return self.path in ("__init__.py", "__main__.py")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything that is imported, wherever it stands; of ``from a import b``, "a.b"."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    package = f"{PACKAGE}/{self.path}".split("/")[: -node.level]
                    base = ".".join([*package, *([base] if base else [])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def imports_when_run(self) -> Iterator[tuple[int, str]]:
        """As `imports`, without what only type checkers read."""
        unread: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                for statement in node.body:
                    unread.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
        yield from ((line, name) for line, name in self.imports() if line not in unread)

    def strings(self) -> Iterator[tuple[int, str]]:
        """Line and text of all literals, bytes too, but docstrings."""
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        spoken: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                spoken.add(id(node.value))
            if isinstance(node, documented) and ast.get_docstring(node) is not None:
                assert isinstance(node.body[0], ast.Expr)
                spoken.add(id(node.body[0].value))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and id(node) not in spoken:
                if isinstance(node.value, str):
                    yield node.lineno, node.value
                elif isinstance(node.value, bytes):
                    yield node.lineno, node.value.decode("latin-1")

    def uses(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of each name that is read."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name):
                yield node.lineno, node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield node.lineno, f"{node.value.id}.{node.attr}"


Modules = tuple[Module, ...]
Rule = Callable[[Modules], list[str]]


def read(package: Path) -> Modules:
    """All modules below a package directory."""
    return tuple(Module(str(path.relative_to(package)), path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py")))


def _floor(room: str) -> int | None:
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


def floors(modules: Modules) -> list[str]:
    """Every room has a floor, and imports only rooms below it."""
    found = []
    for module in modules:
        if module.is_root:
            continue
        own = _floor(module.room)
        if own is None:
            found.append(f"{module.path}: the room {module.room} has no floor")
            continue
        for line, name in module.imports():
            parts = name.split(".")
            if parts[0] != PACKAGE or len(parts) < 2 or parts[1] in (module.room, "__version__"):
                continue
            other = _floor(parts[1])
            if other is None or other >= own:
                found.append(f"{module.path}:{line}: {module.room} imports {name}, which is not below it")
    return found


def purity(modules: Modules) -> list[str]:
    """Pure rooms import nothing that has effects, and open nothing."""
    found = []
    for module in modules:
        if module.room not in PURE or module.is_root:
            continue
        for line, name in module.imports():
            name = name.removeprefix(f"{PACKAGE}.light.")  # the module that it stands for
            if name.split(".")[0] != PACKAGE and not {name, name.rpartition(".")[0]} & PURE_IMPORTS:
                found.append(f"{module.path}:{line}: {module.room} is pure, and imports {name}")
        effects = [(line, name) for line, name in module.uses() if name in ("open", "input")]
        found += [f"{module.path}:{line}: {module.room} is pure, and uses {name}" for line, name in effects]
    return found


def doors(modules: Modules) -> list[str]:
    """Each dependency is imported through its one door."""
    return [
        f"{module.path}:{line}: {name} is imported beside its door, {door}"
        for module in modules
        for line, name in module.imports()
        if (door := DOORS.get(name.split(".")[0])) is not None and not _within(module, (door if "/" in door else f"{door}/",))
    ]


def lightness(modules: Modules) -> list[str]:
    """What `light` stands for is taken from there."""
    return [
        f"{module.path}:{line}: {name} brings in what a build, run or exec has no time for: take it from {PACKAGE}.light.{top}"
        for module in modules
        for line, name in module.imports_when_run()
        if (top := name.partition(".")[0]) in HEAVY and not name.startswith("collections.abc") and not _within(module, HEAVY_ALLOWED)
    ]


def lines(modules: Modules) -> list[str]:
    """Some words stand in one place only."""
    return [
        f"{module.path}:{line}: {pattern} belongs to {' '.join(places)}"
        for module in modules
        for line, text in module.strings()
        for pattern, places in LINES
        if re.search(pattern, text) and not _within(module, places)
    ]


def names(modules: Modules) -> list[str]:
    """The world enters at the top, and only the top speaks."""
    return [
        f"{module.path}:{line}: {name} belongs to {' '.join(places) or 'nobody'}"
        for module in modules
        for line, name in module.uses()
        for word, places in NAMES
        if name == word and not _within(module, places)
    ]


def _within(module: Module, places: Iterable[str]) -> bool:
    return any(module.path.startswith(place) for place in places)


def sizes(modules: Modules) -> list[str]:
    """Modules can be read at one sitting."""
    counts = ((module, len(module.text.splitlines())) for module in modules)
    return [f"{module.path} has {count} lines" for module, count in counts if count > MOST_LINES]


def charters(modules: Modules) -> list[str]:
    """Every package and every module says what it is for."""
    return [f"{module.path} has no docstring" for module in modules if not ast.get_docstring(module.tree)]


def vague_names(modules: Modules) -> list[str]:
    """A module has a subject."""
    named = ((module, set(module.path.removesuffix(".py").split("/"))) for module in modules)
    return [f"{module.path} is named after nothing" for module, words in named if words & BANNED_MODULES]


def frozen_values(modules: Modules) -> list[str]:
    """No state in modules: what is assigned at their top is not a list, dict or set that could change."""
    found = []
    for module in modules:
        for node in module.tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
            empty = isinstance(value := getattr(node, "value", None), ast.List | ast.Dict) and not ast.unparse(value).strip("[]{}")
            if isinstance(target, ast.Name) and empty:
                found.append(f"{module.path}:{node.lineno}: {target.id} is empty, so it is there to be changed")
    return found


RULES: tuple[Rule, ...] = (floors, purity, doors, lightness, lines, names, sizes, charters, vague_names, frozen_values)
