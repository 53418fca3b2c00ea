"""All build files of one command together: their variables, groups and targets, as they are declared."""

from __future__ import annotations

from imgbuild.bake import compose
from imgbuild.bake.keys import KEYS, OTHER_NAMES, Base, Value, canonical, read
from imgbuild.bake.matrix import combinations
from imgbuild.bake.nodes import Entry, Node, Reader, Scalar, Table, entries, fail, is_null, unknown
from imgbuild.bake.target import Group, Target, Word, check_name
from imgbuild.bake.variables import Scope
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Callable, Mapping, Sequence
from imgbuild.values import dataclass, replace

_OWN = ("variables", "groups", "targets")
_JSON = ("variable", "group", "target")
_SETTINGS = frozenset({"registries", "network", "compression", "compression-level", "parallelism", "limits", "build-timeout", "cache"})
_STRUCTURE = ("inherits", "matrix", "name")
_COMPOSE = "services"


@dataclass(frozen=True, slots=True)
class BuildFile:
    """A build file: its tree, and where its relative paths start. `dotenv` is what a `.env` beside it says."""

    root: Node
    base: Base
    dotenv: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a build file declares, its default, and what it means now; None: nothing."""

    name: str
    default: str | None
    value: str | None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """What the build files declare, in their order."""

    targets: Mapping[str, Target]
    groups: Mapping[str, Group]
    variables: tuple[Variable, ...] = ()


@dataclass(frozen=True, slots=True)
class _Form:
    """What a form of build files calls its parts."""

    variables: str
    groups: str
    targets: str
    templates: bool


_FORMS = {"targets": _Form(*_OWN, templates=False), "target": _Form(*_JSON, templates=True)}


def read_project(
    files: Sequence[BuildFile], environ: Mapping[str, str], given: Mapping[str, str], notice: Callable[[str], None]
) -> Project:
    """Read build files; what a later one says joins what an earlier one said. `given` are variables from the command line."""
    forms = [_form(file.root) for file in files]
    declared: dict[str, tuple[Scalar, str]] = {}
    for file, form in zip(files, forms, strict=True):
        if form is not None:
            declared |= _declared(_part(file.root, form.variables), form.variables)
    scope = Scope(given, environ, _missing, {name: default for name, (default, _) in declared.items()})
    targets: dict[str, Target] = {}
    groups: dict[str, Group] = {}
    services = [file for file, form in zip(files, forms, strict=True) if form is None]
    if services:
        found, default = compose.read_services(
            [(file.root, file.base) for file in services],
            compose.scope(given, {**_dotenv(services), **environ}, notice),
            notice,
        )
        targets |= found
        groups[default.name] = default
    for file, form in zip(files, forms, strict=True):
        if form is not None:
            _Own(file, form, scope, targets, groups).read()
    variables = tuple(
        Variable(name, None if default.null else default.text, scope.value(name, default.span), description)
        for name, (default, description) in declared.items()
    )
    return Project(targets, groups, variables)


def _form(root: Node) -> _Form | None:
    """The form of a build file; None for a compose file."""
    table = entries(root, "a build file")
    keys = {entry.key for entry in table}
    if _COMPOSE in keys:
        mixed = next((entry for entry in table if entry.key in _OWN), None)
        if mixed is not None:
            fail(
                mixed.span,
                f"{mixed.key!r} beside 'services': a build file is a compose file or one of our own",
                "put one of them elsewhere",
            )
        return None
    own, json = (next((entry for entry in table if entry.key in names), None) for names in (_OWN, _JSON))
    if own is not None and json is not None:
        fail(json.span, f"{json.key!r} is the word of docker-bake.json, and {own.key!r} that of imgbuild.yaml")
    form = _FORMS["target" if own is None and json is not None else "targets"]
    for entry in table:
        if entry.key in (form.variables, form.groups, form.targets) or entry.key.startswith("x-"):
            continue
        if entry.key in _SETTINGS:
            fail(entry.span, f"{entry.key!r} belongs to the settings file, and this is a build file",
                 "settings are in ~/.config/imgbuild/imgbuild.yaml or named with --config")  # fmt: skip
        unknown(entry, "a build file", (form.variables, form.groups, form.targets, *([] if own or json else [_COMPOSE])))
    if not table or not keys & {form.targets, form.groups, form.variables}:
        fail(root.span, "the build file has no targets", "write targets: {NAME: {context: .}}")
    return form


def _part(root: Node, name: str) -> Node:
    found = next((entry.value for entry in entries(root, "a build file") if entry.key == name), None)
    return Table((), root.span) if found is None else found


def _declared(node: Node, what: str) -> dict[str, tuple[Scalar, str]]:
    found: dict[str, tuple[Scalar, str]] = {}
    for entry in entries(node, what):
        default, description = entry.value, ""
        if isinstance(default, Table):
            fields = {field.key: field for field in default.entries}
            for field in default.entries:
                if field.key not in ("default", "description", "type", "validation"):
                    unknown(field, f"the variable {entry.key}", ("default", "description"))
            if "description" in fields:
                description = Reader().text(fields["description"].value)
            default = fields["default"].value if "default" in fields else Scalar("", entry.span, null=True)
        if not isinstance(default, Scalar):
            fail(default.span, f"the default of the variable {entry.key} must be a word")
        found[entry.key] = (default, description)
    return found


def _dotenv(files: Sequence[BuildFile]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        found |= file.dotenv or {}
    return found


def _missing(name: str, at: Span) -> str:
    raise BuildfileError(
        f"the variable {name} is neither declared nor in the environment",
        at=at,
        hint=f"declare it in variables, set it, or write ${{{name}:-}} for nothing; $$ is a dollar sign",
    )


class _Own:
    """Reads one build file of our own form, or of JSON's, into what was read before."""

    def __init__(self, file: BuildFile, form: _Form, scope: Scope, targets: dict[str, Target], groups: dict[str, Group]) -> None:
        self._file = file
        self._form = form
        self._scope = scope
        self._targets = targets
        self._groups = groups

    def read(self) -> None:
        for entry in entries(_part(self._file.root, self._form.targets), self._form.targets):
            check_name(entry.key, entry.span, "target")
            self._read_target(entry)
        for entry in entries(_part(self._file.root, self._form.groups), self._form.groups):
            check_name(entry.key, entry.span, "group")
            self._groups[entry.key] = self._group(entry)

    def _reader(self, scope: Scope) -> Reader:
        return Reader(scope.expander(templates=self._form.templates))

    def _group(self, entry: Entry) -> Group:
        reader = self._reader(self._scope)
        node, description = entry.value, ""
        if isinstance(node, Table):
            for field in node.entries:
                if field.key not in ("targets", "description"):
                    unknown(field, f"the group {entry.key}", ("targets", "description"))
                if field.key == "description":
                    description = reader.text(field.value)
            node = next((field.value for field in node.entries if field.key == "targets"), node)
        return Group(entry.key, entry.span, _words(reader, node), description)

    def _read_target(self, entry: Entry) -> None:
        fields = {field.key: field for field in entries(entry.value, f"the target {entry.key}")}
        matrix, template = fields.get("matrix"), fields.get("name")
        if matrix is None:
            if template is not None:
                fail(template.span, "only a target with a matrix has a name of its own", "the target's key is its name")
            self._add(self._target(entry.key, entry, self._scope))
            return
        members: list[Word] = []
        for bound in combinations(self._reader(self._scope), matrix.value):
            scope = self._scope.bind(bound.values)
            name = self._reader(scope).text(template.value) if template is not None else f"{entry.key}-{bound.name}"
            span = template.value.span if template is not None else matrix.span
            check_name(name, span, "target")
            if any(word.name == name for word in members):
                fail(span, f"the matrix of {entry.key} has two targets with the name {name!r}", "write a name with every key of the matrix")
            self._add(self._target(name, entry, scope))
            members.append(Word(name, span))
        if [word.name for word in members] != [entry.key]:
            self._groups[entry.key] = Group(entry.key, entry.span, tuple(members))

    def _add(self, target: Target) -> None:
        before = self._targets.get(target.name)
        if before is not None:
            target = replace(before.joined(target), inherits=(*before.inherits, *target.inherits))
        self._targets[target.name] = target

    def _target(self, name: str, entry: Entry, scope: Scope) -> Target:
        reader = self._reader(scope)
        values: dict[str, Value] = {}
        spans: dict[str, Span] = {}
        inherits: tuple[Word, ...] = ()
        for field in entries(entry.value, f"the target {name}"):
            key = canonical(field.key)
            if field.key == "inherits":
                inherits = _words(reader, field.value)
            if field.key in _STRUCTURE or is_null(field.value) or field.key.startswith("x-"):
                continue
            if key not in KEYS:
                unknown(field, f"the target {entry.key}", (*_STRUCTURE, *_documented()))
            if key in values:
                fail(field.span, f"{field.key!r} says again what {key!r} said")
            # A Buildfile has variables of its own.
            chosen = Reader() if key == "dockerfile-inline" and not self._form.templates else reader
            values[key] = self._file.base.within(key, read(chosen, key, field.value))
            spans[key] = field.span
        if "dockerfile" in values and "dockerfile-inline" in values:
            fail(spans["dockerfile-inline"], f"the target {name} names a Buildfile and holds another one")
        return Target(name, entry.span, inherits, values, spans, self._file.base.directory or ".")


def _documented() -> tuple[str, ...]:
    other = {
        name: word for word, name in OTHER_NAMES.items() if word in ("buildfile", "buildfile-inline", "secrets", "outputs", "add-hosts")
    }
    return tuple(other.get(key, key) for key in KEYS)


def _words(reader: Reader, node: Node) -> tuple[Word, ...]:
    if isinstance(node, Scalar) and not node.null:
        return (Word(reader.text(node), node.span),)
    texts = reader.texts(node)
    return tuple(Word(text, item.span) for text, item in zip(texts, getattr(node, "items", ()), strict=True))
