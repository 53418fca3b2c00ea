"""``diff``: two root file systems of the store, compared where they may differ: configs, files, packages, texts."""

from __future__ import annotations

import os
import stat
from itertools import takewhile

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.subjects import Subject, find_subject, image_lowers
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import LayerError, NotFoundError, UsageError
from imgbuild.hints import Iterator
from imgbuild.insight import packages
from imgbuild.insight.compare import Change, Entry, Xattrs, compare, order
from imgbuild.insight.config_changes import ConfigChange, config_changes
from imgbuild.insight.packages import PackageChange
from imgbuild.insight.text_changes import MOST_BYTES, unified
from imgbuild.layer.failures import explained
from imgbuild.layer.xattrs import portable
from imgbuild.light.contextlib import ExitStack, contextmanager, suppress
from imgbuild.linux.node import KINDS, Node
from imgbuild.rootfs.lowers import find_lower
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.decided import decided
from imgbuild.snapshot.differing import differing
from imgbuild.snapshot.traces import opened_lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass, replace

_CHUNK = 1 << 20
_MOST_DATABASE = 64 << 20


@dataclass(frozen=True, slots=True)
class DiffRequest:
    """What to compare. `new` is None where `old` is to be compared with what it was made on; `paths` restrict the files, and leave out the
    rest; with `times` a time alone is a change."""

    old: str
    new: str | None = None
    platform: str | None = None
    paths: tuple[str, ...] = ()
    times: bool = False


class Difference:
    """Two root file systems, open. What is asked for is found when it is asked for; nothing is kept."""

    def __init__(self, old: Subject, new: Subject, views: tuple[UnionView, UnionView], request: DiffRequest) -> None:
        self.old = old
        self.new = new
        self._views = views
        self._request = request
        self._python = packages.PythonPackages()

    def config(self) -> tuple[ConfigChange, ...]:
        """What changed in the configs, where both have one."""
        if self.old.config is None or self.new.config is None or self._request.paths:
            return ()
        return config_changes(self.old.config, self.new.config)

    def files(self) -> Iterator[Change]:
        """What changed in the root file systems, in order."""
        old, new = self._views
        with explained(f"comparing {self.old.name} and {self.new.name}"):
            for top in self._tops():
                found = compare(entries(old, new, top), entries(new, old, top), Contents(old, new), times=self._request.times)
                for change in found:
                    self._python.look(change)
                    yield change

    def packages(self) -> Iterator[PackageChange]:
        """Which packages changed; those of Python are known when all of `files` has been seen."""
        if self._request.paths:
            return
        with explained("reading the databases of packages"):
            yield from packages.package_changes("dpkg", *map(_dpkg, self._asked(packages.DPKG_STATUS, packages.DPKG_DIRECTORY)))
            yield from packages.package_changes("apk", *map(_apk, self._asked(*packages.APK_INSTALLED)))
        yield from self._python.changes()

    def text(self, change: Change) -> Iterator[str] | str:
        """The lines of a changed text; or, in words, why there are none; "" where the content is the same, or shown by another name of the
        file already."""
        sides = [entry if entry is not None and entry.kind == "file" and not entry.first else None for entry in (change.old, change.new)]
        if sides == [None, None] or (change.verb == "changed" and not {"content", "type"} & set(change.aspects)):
            return ""
        with explained(change.path):
            data = [b"" if entry is None else _read(view, entry.path) for entry, view in zip(sides, self._views, strict=True)]
        names = ["/dev/null" if entry is None else f"{side}{change.path}" for side, entry in zip("ab", sides, strict=True)]
        return unified(data[0], data[1], names[0], names[1])

    def _tops(self) -> list[str]:
        """The real paths that the request's mean, without those that are below others."""
        if not self._request.paths:
            return ["/"]
        tops: list[str] = []
        for path in sorted({self._real(path) for path in self._request.paths}, key=order):
            if not any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops):
                tops.append(path)
        return tops

    def _real(self, path: str) -> str:
        for view in reversed(self._views):
            with explained(path):
                real = view.resolve("/" + path, follow_last=False)
                if view.lstat(real) is not None:
                    return real
        raise NotFoundError(f"neither {self.old.name} nor {self.new.name} has {path}")

    def _asked(self, *paths: str) -> tuple[UnionView, UnionView] | tuple[None, None]:
        """The views, where what is at these paths may differ."""
        old, new = self._views
        reals = [(old.resolve(path), new.resolve(path)) for path in paths]
        if all(one == other and old.made_of(one) == new.made_of(other) for one, other in reals):
            return None, None
        return old, new


class Contents:
    """Contents and attributes of what both have."""

    def __init__(self, old: UnionView, new: UnionView) -> None:
        self._views = old, new

    def differ(self, path: str) -> bool:
        with ExitStack() as stack:
            files = [stack.enter_context(open(view.open(path), "rb", buffering=0)) for view in self._views]  # noqa: SIM115
            while True:
                one, other = (file.read(_CHUNK) for file in files)
                if one != other:
                    return True
                if not one:
                    return False

    def xattrs(self, path: str) -> tuple[Xattrs, Xattrs]:
        old, new = self._views
        return portable(old.xattrs(path)), portable(new.xattrs(path))


@contextmanager
def opened_difference(invocation: Invocation, request: DiffRequest) -> Iterator[Difference]:
    """The two that a request names. NotFoundError where one is not in the store."""
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation))
        stack.enter_context(place.store.lease())
        if request.new is None:
            new = find_subject(place, stack, request.old, request.platform, late=True)
            if new.below is None:
                hint = "name two; a step or a container alone is compared with what it was made on"
                raise UsageError(f"{new.name} is to be compared with what?", hint=hint)
            old = replace(new, name=f"what {new.name} was made on", lowers=new.below)
        else:
            old, new = (find_subject(place, stack, word, request.platform, late=True) for word in (request.old, request.new))
        rootless = place.features.rootless
        views = tuple(stack.enter_context(UnionView(lowers, userxattr=rootless)) for lowers in _lowers(place, old, new, request))
        yield Difference(old, new, (views[0], views[1]), request)


def _lowers(place: Workplace, old: Subject, new: Subject, request: DiffRequest) -> tuple[Lowers, Lowers]:
    """The lowers to compare: all of both, or, where a base that both have was never made ready, only what is above it, if that says all."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0].diff_id == pair[1].diff_id, zip(old.layers, new.layers, strict=False)))
    if not request.paths and any(find_lower(place.store, layer.diff_id, place.features) is None for layer in old.layers[:shared]):
        with suppress(LayerError):  # a layer that can't be read without what is below it
            above = image_lowers(place, old.layers[shared:]), image_lowers(place, new.layers[shared:])
            rootless = place.features.rootless
            with opened_lowers(above[0], userxattr=rootless) as mine, opened_lowers(above[1], userxattr=rootless) as theirs:
                if decided(mine, theirs):
                    return above
    return old.lowers or image_lowers(place, old.layers), new.lowers or image_lowers(place, new.layers)


def entries(view: UnionView, other: UnionView, top: str = "/") -> Iterator[Entry]:
    """What of a view may be another in the other one, in order."""
    names: dict[tuple[int, int], str] = {}
    for path, node in differing(view, other, top):
        yield _entry(view, path, node, names)


def _entry(view: UnionView, path: str, node: Node, names: dict[tuple[int, int], str]) -> Entry:
    kind = KINDS[stat.S_IFMT(node.mode)]
    first = names.setdefault((node.dev, node.ino), path) if kind == "file" and node.nlink > 1 else path
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(node.mode),
        uid=node.uid,
        gid=node.gid,
        size=node.size if kind == "file" else 0,
        mtime_ns=node.mtime_ns,
        device=(os.major(node.rdev), os.minor(node.rdev)) if kind in ("char", "block") else (0, 0),
        link=view.readlink(path) if kind == "symlink" else "",
        first="" if first == path else first,
    )


def _read(view: UnionView, path: str) -> bytes:
    with open(view.open(path), "rb") as file:
        return file.read(MOST_BYTES + 1)


def _dpkg(view: UnionView | None) -> packages.Packages:
    if view is None:
        return {}
    found = packages.dpkg_packages(_text(view, packages.DPKG_STATUS))
    directory = view.resolve(packages.DPKG_DIRECTORY)
    node = view.lstat(directory)
    if node is not None and stat.S_ISDIR(node.mode):
        for name in view.listdir(directory):
            if not name.endswith(".md5sums"):
                found |= packages.dpkg_packages(_text(view, f"{directory}/{name}"))
    return found


def _apk(view: UnionView | None) -> packages.Packages:
    if view is None:
        return {}
    return packages.apk_packages(next((text for path in packages.APK_INSTALLED if (text := _text(view, path))), ""))


def _text(view: UnionView, path: str) -> str:
    return (view.read(path, _MOST_DATABASE) or b"").decode("utf-8", "replace")
