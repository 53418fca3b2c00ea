"""The bundle is used where it is right, made where it is not, and never in the way."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imgbuild.cli.bundling import _compiled
from imgbuild.cli.start import FORM, Bundle

PACKAGE = Path(__file__).parents[2] / "imgbuild"
EARLY = {"imgbuild", "imgbuild.cli", "imgbuild.cli.start"}
"""What is there before the bundle is."""

PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from imgbuild.cli.start import install
bundle = install()
from imgbuild.cli.main import main
try:
    main(["--root", sys.argv[1], "ps"], at_end=bundle.keep)
finally:
    ours = [name for name in sys.modules if name.startswith("imgbuild")]
    bundled = [name for name, module in sys.modules.items() if type(getattr(module, "__loader__", None)).__name__ == "_Loader"]
    print({"ours": ours, "bundled": bundled, "all": list(sys.modules)})
"""


@dataclass
class Run:
    ours: set[str]
    bundled: set[str]
    all: set[str]
    words: list[str]


class Copy:
    """A package of its own, as it is when it was just installed, and its command line as a process without any site."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.package = directory / "imgbuild"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    def __call__(self, *, program: str = PROGRAM, optimize: bool = False, **environ: str) -> Run:
        flags = [*(["-I"] if not environ else []), "-S", *(["-O"] if optimize else [])]  # -I does not read the environment
        command = [sys.executable, *flags, "-c", program, str(self.directory), str(self.directory / "store")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **environ}, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        *words, last = done.stdout.splitlines()
        return Run(**{key: set(value) for key, value in ast.literal_eval(last).items()}, words=words)

    @property
    def file(self) -> Path:
        return self.package / "cli" / "__pycache__" / f"bundled.{sys.implementation.cache_tag}.pyc"

    def is_used(self) -> bool:
        run = self()
        return run.ours - EARLY == run.bundled & run.ours


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "here")


ZYGOTE = PROGRAM.replace("from imgbuild.cli.main import main", "from imgbuild.cli.main import main; import imgbuild.sandbox.zygote")


def test_what_the_zygote_loads_by_itself_is_in_it(copy: Copy) -> None:
    assert "imgbuild.sandbox.spawner" not in copy(program=ZYGOTE).bundled
    from_it = copy(program=ZYGOTE.replace("import imgbuild.sandbox.zygote", "import imgbuild.sandbox.spawner")).bundled
    assert {"imgbuild.sandbox.spawner", "imgbuild.sandbox.child"} <= from_it


def test_the_first_run_makes_it_and_the_second_has_all_from_it(copy: Copy) -> None:
    first = copy()
    assert first.bundled == set()
    assert [path.name for path in copy.file.parent.glob("bundled*")] == [copy.file.name]
    made = copy.file.stat().st_ino
    second = copy()
    assert second.ours - EARLY == second.bundled & second.ours
    names = ("cli.bundling", "linux.writing", "store.connections", "store.index", "store.notes", "store.rows")
    once = {f"imgbuild.{name}" for name in names}
    assert second.ours == first.ours - once  # the store is made once
    assert second.all & {"re", "enum", "pathlib", "json", "contextlib", "functools", "collections"} == set()
    assert copy.file.stat().st_ino == made
    assert second.words[0].startswith("CONTAINER ID")
    assert second.words == first.words


def test_an_edit_is_seen_and_kept(copy: Copy) -> None:
    copy()
    source = copy.package / "cli" / "quick.py"
    status = source.stat()
    source.write_text(source.read_text() + 'print("edited", flush=True)\n')
    run = copy()
    assert run.words[0] == "edited"
    assert "imgbuild.cli.quick" not in run.bundled
    assert "imgbuild.cli.main" in run.bundled
    assert "imgbuild.cli.quick" in copy().bundled
    assert copy().words[0] == "edited"
    source.write_text(source.read_text().replace("edited", "EDITED"))  # of the same size
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 10**13))  # Python's own byte code only tells seconds apart
    assert copy().words[0] == "EDITED"
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert copy().words[0] == "EDITED"


def test_what_was_removed_is_gone(copy: Copy) -> None:
    source = copy.package / "cli" / "main.py"
    source.write_text(source.read_text() + "\nfrom imgbuild.cli import extra\n")
    (copy.package / "cli" / "extra.py").write_text("")
    assert "imgbuild.cli.extra" in copy().ours
    (copy.package / "cli" / "extra.py").unlink()
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(copy.directory), str(copy.directory / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "import name 'extra'" in done.stderr


@pytest.mark.parametrize("place", [0, 20, 0.3, 0.6, 0.9, -1, -len(FORM) - 3, -len(FORM) - 12])
def test_damage_is_found_and_mended(copy: Copy, place: float) -> None:
    copy()
    data = bytearray(copy.file.read_bytes())
    position = int(place * len(data)) if isinstance(place, float) else int(place)
    data[position] ^= 0x55
    copy.file.write_bytes(data)
    copy()
    assert copy.is_used()


@pytest.mark.parametrize("size", [0, 10, 1000, 100_000, -1])
def test_a_file_that_is_cut_or_of_another_kind_is_made_anew(copy: Copy, size: int) -> None:
    copy()
    copy.file.write_bytes(copy.file.read_bytes()[:size])
    assert copy().bundled == set()
    assert copy.is_used()


def test_another_place_is_another_bundle(copy: Copy, tmp_path: Path) -> None:
    copy()
    other = Copy(tmp_path / "there")
    shutil.copytree(copy.package, other.package, dirs_exist_ok=True)
    assert other.file.exists()
    assert other().bundled == set()
    assert other.is_used()
    assert copy.is_used()


def test_nothing_is_kept_where_nothing_shall_be(copy: Copy) -> None:
    assert copy(PYTHONDONTWRITEBYTECODE="1").bundled == set()
    assert not copy.file.exists()
    assert copy(PYTHONPYCACHEPREFIX=str(copy.directory / "elsewhere")).bundled == set()
    assert not copy.file.exists()
    assert copy(PYTHONPYCACHEPREFIX=str(copy.directory / "elsewhere")).bundled
    copy()
    assert copy(PYTHONDONTWRITEBYTECODE="1").bundled


def test_nothing_is_kept_where_nothing_can_be(copy: Copy) -> None:
    (copy.package / "cli" / "__pycache__").write_text("in the way")
    for _ in range(2):
        assert copy().bundled == set()


def test_who_may_not_write_makes_none(copy: Copy) -> None:
    directory = copy.package / "cli" / "__pycache__"
    directory.mkdir()
    refused = f"import os; os.access = lambda path, mode: path != {str(directory)!r}\n"  # as root may write everywhere
    run = copy(program=refused + PROGRAM)
    assert "imgbuild.cli.bundling" not in run.ours
    assert not copy.file.exists()
    assert "imgbuild.cli.bundling" in copy().ours


def test_optimized_code_has_its_own(copy: Copy) -> None:
    copy()
    assert copy(optimize=True).bundled == set()
    assert copy(optimize=True).bundled
    assert copy.is_used()


def test_many_may_make_it_at_once(copy: Copy) -> None:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(copy.directory), str(copy.directory / "store")]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert [path.name for path in copy.file.parent.glob("bundled*")] == [copy.file.name]
    assert copy.is_used()


def test_python_takes_the_file_for_what_it_would_have_made(copy: Copy) -> None:
    copy()
    before = copy.file.read_bytes()
    code = "import sys; sys.path.insert(0, sys.argv[1]); import imgbuild.cli.bundled as it; print(it.__cached__, it.__doc__[:7])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(copy.directory)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(copy.file), "Nothing"]
    assert copy.file.read_bytes() == before


def test_tracebacks_have_their_lines(copy: Copy) -> None:
    program = PROGRAM.replace("finally:", """finally:
    import traceback
    from imgbuild.cli import quick
    try:
        quick.read(None, [])
    except AttributeError:
        print("line:", *traceback.format_exc().splitlines()[-3:])""")  # fmt: skip
    copy(program=program)
    run = copy(program=program)
    assert "imgbuild.cli.quick" in run.bundled
    assert any("command.rewrite(list(words))" in word for word in run.words), run.words


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "here")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{copy.directory}:{os.pathsep.join(sys.path)}"}
    for disabled, made in (("erofs,bundle", False), ("", True)):
        command = [sys.executable, "-m", "imgbuild", "--root", str(tmp_path / "store"), "ps"]
        done = subprocess.run(command, env={**environ, "IMGBUILD_DISABLE": disabled}, capture_output=True, text=True, check=False, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        assert copy.file.exists() is made


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("a", 0), (r"(?P<one>\w+)-(\d)?", re.ASCII), (b"[\x80-\xff]+", 0), (r"é|[^\W\d]", re.IGNORECASE),
        ("(?x) a b", re.MULTILINE | re.DOTALL), ("[𝔸-𝔹]{3,}?(?=x)", 0),
    ],
)  # fmt: skip
def test_patterns_are_those_that_were_compiled(text: Any, flags: int) -> None:
    bundle = Bundle(None)
    known = _compiled(text, int(flags))
    assert known is not None
    bundle.patterns = {(text, int(flags)): known}
    made = bundle.compiled(text, int(flags))
    expected = re.compile(text, flags)
    assert made == expected
    assert (made.groups, dict(made.groupindex)) == (expected.groups, dict(expected.groupindex))
    assert (made.flags, made.pattern) == (expected.flags, text)
    assert bundle.compiled(text, int(flags)) is made
    assert bundle.uncompiled == []
    assert bundle.compiled("other", 0).match("other")
    assert bundle.uncompiled == [("other", 0)]
