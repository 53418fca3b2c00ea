"""From declared targets to those that are meant: complete, with all that they read, in an order in which they can be built."""

from __future__ import annotations

from fnmatch import fnmatchcase

from imgbuild.bake.nodes import fail
from imgbuild.bake.overrides import Override, apply
from imgbuild.bake.project import Project
from imgbuild.bake.target import Group, Target, Word
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import UsageError
from imgbuild.hints import Iterable, Mapping, Sequence
from imgbuild.values import dataclass

DEFAULT = "default"
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Selection:
    """What one command builds. `targets` are complete, each after those that it reads; `asked` are those that were asked for, by name or
    by a group, and not only because another one reads them. `groups` are those that the words named, and `default`, where that is none
    of them: the words."""

    targets: Mapping[str, Target]
    asked: frozenset[str]
    groups: Mapping[str, tuple[str, ...]]


def select(project: Project, words: Sequence[str], overrides: Sequence[Override] = ()) -> Selection:
    """The targets that words mean: names of targets and groups, or patterns of them; without any word, `default`."""
    names = list(dict.fromkeys(name for word in words or (DEFAULT,) for name in _matching(project, word)))
    groups: dict[str, tuple[str, ...]] = {}
    meant: dict[str, tuple[str, ...]] = {}
    asked = dict.fromkeys(target for name in names for target in _members(project, name, meant, ()))
    for name in meant:
        groups[name] = tuple(dict.fromkeys(word.name for word in project.groups[name].members))
    resolver = _Resolver(project, overrides)
    targets: dict[str, Target] = {}
    for name in asked:
        _collect(resolver, name, targets, ())
    groups.setdefault(DEFAULT, tuple(names))
    return Selection(targets, frozenset(asked), groups)


def _matching(project: Project, word: str) -> Iterable[str]:
    names = dict.fromkeys((*project.groups, *project.targets))
    if word in names:
        return (word,)
    found = [name for name in names if fnmatchcase(name, word)] if set(word) & set("*?[") else [word.replace(".", "_")]
    if found and found[0] in names:
        return found
    if word == DEFAULT:
        raise UsageError(
            "no target was named, and there is none with the name default", hint=f"name one of {_listed(names)}, or add a group: default"
        )
    raise UsageError(f"there is no target or group {word!r}", hint=did_you_mean(word, names) or f"there are {_listed(names)}")


def _listed(names: Iterable[str]) -> str:
    most = 10
    found = list(names)
    return ", ".join([*found[:most], *(["..."] if len(found) > most else [])]) or "none"


def _members(project: Project, name: str, meant: dict[str, tuple[str, ...]], above: tuple[str, ...]) -> tuple[str, ...]:
    """The targets of a group, or the target itself; `meant` keeps those of each group."""
    group = project.groups.get(name)
    if group is None or name in above:
        return (name,)
    if name in meant:
        return meant[name]
    if len(above) > _DEEPEST:
        fail(group.span, f"groups stand deeper than {_DEEPEST} in each other")
    members: dict[str, None] = {}
    for word in group.members:
        _check_member(project, group, word, (*above, name))
        members |= dict.fromkeys(_members(project, word.name, meant, (*above, name)))
    meant[name] = tuple(members)
    return meant[name]


def _check_member(project: Project, group: Group, word: Word, above: tuple[str, ...]) -> None:
    if word.name in project.targets and (word.name not in project.groups or word.name in above):
        return
    if word.name in above:
        fail(word.span, f"the group {word.name} is in itself: {' -> '.join([*above[above.index(word.name) :], word.name])}")
    if word.name not in project.groups:
        names = (*project.groups, *project.targets)
        fail(word.span, f"the group {group.name} has no target {word.name!r} to name", did_you_mean(word.name, names))


def _collect(resolver: _Resolver, name: str, targets: dict[str, Target], above: tuple[str, ...]) -> None:
    """The target after all that it reads."""
    if name in targets:
        return
    target = resolver.target(name, ())
    if len(above) > _DEEPEST:
        fail(target.at("contexts"), f"targets read each other deeper than {_DEEPEST}")
    for other in target.linked():
        if other in (*above, name):
            path = [*above, name]
            fail(target.at("contexts"), f"targets read each other in a circle: {' -> '.join([*path[path.index(other) :], other])}")
        if other not in resolver.names:
            fail(target.at("contexts"), f"there is no target {other!r} to read", did_you_mean(other, resolver.names))
        _collect(resolver, other, targets, (*above, name))
    targets[name] = target


class _Resolver:
    """Joins targets with what they inherit, each once."""

    def __init__(self, project: Project, overrides: Sequence[Override]) -> None:
        self.names = project.targets
        self._overrides = overrides
        self._done: dict[str, Target] = {}

    def target(self, name: str, below: tuple[str, ...]) -> Target:
        """The target, complete but for its defaults; `below` are those that inherit it."""
        if name in self._done:
            return self._done[name]
        own = self.names[name]
        if len(below) > _DEEPEST:
            fail(own.span, f"targets inherit each other deeper than {_DEEPEST}")
        whole: Target | None = None
        for word in own.inherits:
            self._check(word, (*below, name))
            inherited = self.target(word.name, (*below, name))
            whole = inherited if whole is None else whole.joined(inherited)
        complete = own if whole is None else whole.joined(own)
        complete = self._done[name] = apply(self._overrides, complete)
        return complete

    def _check(self, word: Word, below: tuple[str, ...]) -> None:
        if word.name in below:
            fail(word.span, f"targets inherit each other in a circle: {' -> '.join([*below[below.index(word.name) :], word.name])}")
        if word.name not in self.names:
            fail(word.span, f"there is no target {word.name!r} to inherit", did_you_mean(word.name, self.names))
