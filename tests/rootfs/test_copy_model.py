"""Random COPYs, one after another, against a plain model that works on a real directory with the calls of os."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.errors import BuildfileError
from imgbuild.snapshot.union import UnionView

from .copying import World

Listing = list[tuple[str, str]]


class Refused(Exception):
    """The model says that this COPY can't be."""


class Model:
    """A root file system as a directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def copy(self, source: str, destination: str) -> None:
        place = self.resolve(destination)
        if os.path.isdir(source):
            if self.is_other(place):
                raise Refused
            self.make(place)
            self.put(source, place)
            return
        if destination.endswith("/"):
            self.make(place)
            place = self.resolve(destination)
        if os.path.isdir(self.root + place):
            place = os.path.join(place, os.path.basename(source))
        else:
            self.make(os.path.dirname(place))
        self.put(source, place)

    def resolve(self, path: str) -> str:
        pending, real, links = path.split("/"), "", 0
        while pending:
            name = pending.pop(0)
            if name == "..":
                real = os.path.dirname(real) if real else ""
            elif name not in ("", "."):
                here = f"{'' if real == '/' else real}/{name}"
                if not os.path.islink(self.root + here):
                    real = here
                    continue
                links += 1
                if links > 40:
                    raise Refused
                target = os.readlink(self.root + here)
                real = "" if target.startswith("/") else real
                pending = target.split("/") + pending
        return real or "/"

    def is_other(self, path: str) -> bool:
        here = self.root + path
        return os.path.lexists(here) and (os.path.islink(here) or not os.path.isdir(here))

    def make(self, path: str) -> None:
        if path == "/" or (os.path.isdir(self.root + path) and not self.is_other(path)):
            return
        if self.is_other(path):
            raise Refused
        self.make(os.path.dirname(path))
        os.mkdir(self.root + path)

    def put(self, source: str, path: str) -> None:
        target = self.root + path
        if os.path.isdir(source) and not os.path.islink(source):
            if self.is_other(path):
                raise Refused
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(source):
                self.put(os.path.join(source, name), os.path.join(path, name))
            return
        if os.path.lexists(target):
            if not self.is_other(path):
                raise Refused
            os.unlink(target)
        shutil.copy(source, target, follow_symlinks=False)

    def listing(self) -> Listing:
        found = []
        for directory, names, files in os.walk(self.root):
            for name in names + files:
                path = os.path.join(directory, name)
                text = os.readlink(path) if os.path.islink(path) else "directory" if os.path.isdir(path) else Path(path).read_text()
                found.append(("/" + os.path.relpath(path, self.root), text))
        return sorted(found)


def union_listing(world: World) -> Listing:
    with UnionView(world.lowers) as view:
        found = []
        for path, node in view.walk():
            if stat.S_ISLNK(node.mode):
                found.append((path, view.readlink(path)))
            elif path != "/":
                found.append((path, "directory" if stat.S_ISDIR(node.mode) else (view.read(path) or b"").decode()))
    return sorted(found)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
WHAT = st.sampled_from(["=1", "=2", "=3", "/", "->/a", "->../b", "->c", "->/b/c", "->/", "->.."])
ENTRIES = st.dictionaries(PATHS, WHAT, max_size=6)
DESTINATIONS = st.lists(NAMES, max_size=3).map(lambda names: "/" + "/".join(names))
COPIES = st.lists(st.tuples(st.integers(0, 99), DESTINATIONS, st.booleans()), max_size=4)


def words(entries: dict[str, str]) -> str:
    """The entries in the words of `tree`, without those that would be below what is no directory."""
    kept = [path for path in entries if not any(path != other and path.startswith(f"{other}/") for other in entries)]
    return " ".join(path + entries[path] for path in kept)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(ENTRIES, ENTRIES, COPIES)
def test_random_copies_agree_with_the_model(
    tmp_path: Path, image: dict[str, str], context: dict[str, str], copies: list[tuple[int, str, bool]]
) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    world = World(root, image=words(image), context=words(context))
    sources = sorted(path for path in (root / "context").rglob("*") if not path.is_symlink())
    shutil.copytree(root / "image0", root / "model0", symlinks=True)
    for number, (choice, destination, slash) in enumerate(copies if sources else []):
        source = sources[choice % len(sources)]
        destination += "/" if slash and destination != "/" else ""
        # a COPY that is refused leaves what was there: so the model works on a copy of it
        shutil.copytree(root / f"model{number}", root / f"model{number + 1}", symlinks=True)
        model = Model(str(root / f"model{number + 1}"))
        try:
            model.copy(str(source), destination)
        except Refused:
            model_refused = True
        else:
            model_refused = False
        try:
            world.copy(str(source.relative_to(root / "context")), destination)
        except BuildfileError:
            assert model_refused
            return
        assert not model_refused
        assert union_listing(world) == model.listing()
    shutil.rmtree(root)
