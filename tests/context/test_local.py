"""The build context: what is seen of it, what a source word finds, and what its digests depend on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.context.digest import TreeDigests, walk
from imgbuild.context.ignore import Ignore
from imgbuild.context.local import CAPABILITY, LocalContext
from imgbuild.context.rows import Rows
from imgbuild.context.tree import Found, Tree, match
from imgbuild.errors import ContextError
from imgbuild.linux.node import Node
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView

NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")


def write(root: Path, *names: str) -> Path:
    """Files that hold their own names; a name with a slash at its end is a directory, ``a -> b`` a symlink."""
    for name in names:
        name, _, target = name.partition(" -> ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_text(name)
    return root


def paths(tree: Tree) -> list[str]:
    return [path[1:] for path, _ in walk(tree, "/")][1:]


def digest(root: Path, ignore: str = "") -> str:
    with LocalContext(root, Ignore.parse(ignore)) as context:
        return TreeDigests(context, context.digests).contents("/")


class Memory:
    """A stat cache, and how often it was written."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, bytes]] = {}
        self.writes = 0

    @property
    def rows(self) -> list[str]:
        """The paths of all files that are remembered."""
        unpacked = [(directory, Rows.unpack(*packed)) for directory, packed in self.kept.items()]
        return sorted(directory + name for directory, rows in unpacked if rows is not None for name in rows.each())

    def stats(self, root: str) -> Mapping[str, tuple[bytes, bytes]]:
        return dict(self.kept)

    def record_stats(self, root: str, changes: Mapping[str, tuple[bytes, bytes] | None]) -> None:
        self.writes += 1
        for directory, packed in changes.items():
            if packed is None:
                self.kept.pop(directory, None)
            else:
                self.kept[directory] = packed


class TestWhatIsSeen:
    def test_in_order_without_sockets(self, tmp_path: Path) -> None:
        write(tmp_path, "b", "a/z", "a-b", "a/y/", "l -> nowhere")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "sock"))
            with LocalContext(tmp_path) as context:
                assert paths(context) == ["a", "a/y", "a/z", "a-b", "b", "l"]

    @pytest.mark.parametrize(
        ("ignore", "expected"),
        [
            ("", "a a/b a/b/t a/b/x a/c a/c/t d d/t t"),
            ("a", "d d/t t"),
            ("a\n!a/b/t", "a a/b a/b/t d d/t t"),
            ("*\n!**/t", "a a/b a/b/t a/c a/c/t d d/t t"),
            ("*\n!d", "d d/t"),
            ("**/t", "a a/b a/b/x a/c d"),
            ("a\n!a/nothing", "d d/t t"),
            ("a/*\n!a/b", "a a/b a/b/t a/b/x d d/t t"),
            ("*", ""),
        ],
    )
    def test_ignored(self, tmp_path: Path, ignore: str, expected: str) -> None:
        write(tmp_path, "a/b/t", "a/b/x", "a/c/t", "d/t", "t")
        with LocalContext(tmp_path, Ignore.parse(ignore)) as context:
            assert " ".join(paths(context)) == expected
            for name in ("a/b/t", "a/c", "d/t", "t"):
                assert (context.lstat(f"/{name}") is not None) is (name in expected.split())

    def test_ignored_directories_are_not_read(self, tmp_path: Path) -> None:
        write(tmp_path, "a/x", "node_modules/deep/x")
        with LocalContext(tmp_path, Ignore.parse("**/node_modules\n!a/y")) as context:
            (tmp_path / "node_modules").rename(tmp_path / "elsewhere")
            assert paths(context)[0] == "a"

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.sampled_from(["*", "!a", "a/*", "!a/b/**", "**/c", "!**/c", "a/b", "!a/b/c", "b/**/a", "!b"]), max_size=5))
    def test_a_walk_sees_what_single_paths_say(self, tmp_path: Path, lines: list[str]) -> None:
        every = [f"{x}/{y}/{z}" for x in "abc" for y in "abc" for z in "abc"]
        write(tmp_path, *every)
        ignore = Ignore.parse("\n".join(lines))
        with LocalContext(tmp_path, ignore) as context:
            assert [path for path in paths(context) if path.count("/") == 2] == [path for path in every if not ignore.ignores(path)]


class TestMatch:
    @pytest.fixture
    def context(self, tmp_path: Path) -> Iterator[LocalContext]:
        write(tmp_path, "src/a.py", "src/b.py", "src/sub/c.py", "README", "[x]", "out -> /src/a.py", "up -> ../../src", "dir -> src/sub")
        write(tmp_path, "lost -> /etc/hostname-of-this-machine", "loop -> loop", "secret/key")
        with LocalContext(tmp_path, Ignore.parse("# keys\nsecret\n*.tmp\n!keep.tmp")) as context:
            yield context

    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("README", "README"),
            ("/README", "README"),
            ("./src/../README", "README"),
            ("README/", "README"),
            (".", ""),
            ("/", ""),
            ("src/*.py", "src/a.py src/b.py"),
            ("s*/*", "src/a.py src/b.py src/sub"),
            ("*/*/*.py", "src/sub/c.py"),
            ("src/[ab].py", "src/a.py src/b.py"),
            ("[[]x]", "[x]"),
            ("nothing*", ""),
            ("src/*.nothing", ""),
            ("README/*", ""),
            ("dir/*", "dir/c.py=src/sub/c.py"),
            ("d?r/*", ""),
            ("out", "out=src/a.py"),
            ("o?t", "out=src/a.py"),
            ("up", "up=src"),
            ("up/a.py", "up/a.py=src/a.py"),
            ("dir", "dir=src/sub"),
        ],
    )
    def test_found(self, context: LocalContext, source: str, found: str) -> None:
        expected = [Found(name, "/" + (real or name)) for name, _, real in (item.partition("=") for item in found.split(" "))]
        nothing = not found and source not in (".", "/")
        assert context.match(source) == (() if nothing else tuple(expected))

    @pytest.mark.parametrize(
        ("source", "message", "hint"),
        [
            ("REDME", "'REDME' not found in the build context", "did you mean 'README'?"),
            ("src/aa.py", "not found", "'src/a.py'"),
            ("README/x", "not found", "'README' is not a directory"),
            ("completely-different", "not found", None),
            ("../x", "not found", "outside of the build context"),
            ("src/../../x", "not found", "outside of the build context"),
            ("secret/key", "not found", "line 2 of .dockerignore excludes it: secret"),
            ("lost", "a symlink leads to '/etc/hostname-of-this-machine'", None),
            ("lo?t", "a symlink leads to", None),
            ("loop", "Too many levels of symbolic links", None),
            ("none/*", "not found", None),
            ("a[", "bad pattern", None),
        ],
    )
    def test_not_found(self, context: LocalContext, source: str, message: str, hint: str | None) -> None:
        with pytest.raises(ContextError) as caught:
            context.match(source)
        assert message in caught.value.message
        if hint is None:
            assert caught.value.hint is None
        else:
            assert caught.value.hint is not None and hint in caught.value.hint

    def test_in_a_stage_dots_stop_at_the_root(self, tmp_path: Path) -> None:
        write(tmp_path / "lower", "etc/passwd")
        with UnionView((DirectoryLower(tmp_path / "lower"),)) as view:
            assert match(view, "../../etc/pass*", where="stage 'build'") == (Found("etc/passwd", "/etc/passwd"),)
            with pytest.raises(ContextError, match="not found in stage 'build'"):
                match(view, "/etc/group", where="stage 'build'")


class TestDigest:
    def changes(self, root: Path, change: str) -> None:
        """One of the changes that a digest may or may not depend on."""
        file = root / "d/file"
        if change == "content":
            file.write_text("other")
        elif change == "mode":
            file.chmod(0o755)
        elif change == "name":
            file.rename(root / "d/other")
        elif change == "mtime":
            os.utime(file, (1, 1))
        elif change == "owner":
            os.chown(file, 5, 5)
        elif change == "user-xattr":
            os.setxattr(file, "user.note", b"x")
        elif change == "capability":
            os.setxattr(file, CAPABILITY, NET_RAW)
        elif change == "target":
            (root / "link").unlink()
            (root / "link").symlink_to("e")
        elif change == "empty-directory":
            (root / "new").mkdir()
        elif change == "directory-mode":
            (root / "d").chmod(0o700)
        elif change == "root-mode":
            root.chmod(0o700)
        elif change == "hard-link":
            (root / "twin").unlink()
            os.link(file, root / "twin")

    @pytest.mark.parametrize(
        ("change", "local", "stage"),
        [
            ("content", True, True),
            ("mode", True, True),
            ("name", True, True),
            ("mtime", False, True),
            ("owner", False, True),
            ("user-xattr", False, True),
            ("capability", True, True),
            ("target", True, True),
            ("empty-directory", True, True),
            ("directory-mode", True, True),
            ("root-mode", False, False),
            ("hard-link", False, True),
        ],
    )
    def test_what_it_depends_on(self, tmp_path: Path, change: str, local: bool, stage: bool) -> None:
        write(tmp_path, "d/file", "e", "link -> d/file")
        (tmp_path / "twin").write_text("d/file")

        def stage_digest() -> str:
            with UnionView((DirectoryLower(tmp_path),)) as view:
                return TreeDigests(view).contents("/")

        before = digest(tmp_path), stage_digest()
        self.changes(tmp_path, change)
        after = digest(tmp_path), stage_digest()
        assert (before[0] != after[0], before[1] != after[1]) == (local, stage)

    def test_they_stay_what_they_were(self, tmp_path: Path) -> None:
        """A step's key holds them: others would have everybody build anew."""
        write(tmp_path, "a", "d/b", "d/e/f", "d/e.x", "d/\u00e9", "z", "n/only", "n/files", "l -> d/e", "\U0001f600", "\ue000")
        (tmp_path / os.fsdecode(b"\xff\xfe")).write_text("x")
        os.mkfifo(tmp_path / "d/fifo")
        (tmp_path / "empty").mkdir()
        for name, other in (("a", "d/a2"), ("z", "d/e/z2"), ("z", "b")):
            os.link(tmp_path / name, tmp_path / other)
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.utime(path, (1, 1), follow_symlinks=False)
        (tmp_path / "a").chmod(0o4755)
        (tmp_path / "d").chmod(0o700)
        assert digest(tmp_path) == "sha256:0b83997b22ed9fef350e3bd06bab2fc9cb0d1416097c51f576b6cb0c246c6d17"
        with UnionView((DirectoryLower(tmp_path),)) as view:
            assert TreeDigests(view).contents("/") == "sha256:959932657d86a32f15b9c821cc4dc3a954a8afcf4f0befadc43773bb46bb8d24"

    def test_names_and_bodies_can_not_be_mistaken_for_each_other(self, tmp_path: Path) -> None:
        write(tmp_path / "1", "a -> b", "c -> d")
        write(tmp_path / "2", "a -> b\nsymlink 777", "c -> d")
        assert digest(tmp_path / "1") != digest(tmp_path / "2")

    def test_what_is_ignored_does_not_count(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b.tmp")
        before = digest(tmp_path, "*.tmp")
        write(tmp_path, "c.tmp")
        assert digest(tmp_path, "*.tmp") == before

    def test_names_that_are_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"\xff\xfe")).write_text("x")
        (tmp_path / "link").symlink_to(os.fsdecode(b"\xfd"))
        assert digest(tmp_path).startswith("sha256:")

    def test_a_listing_names_what_differs(self, tmp_path: Path) -> None:
        write(tmp_path, "d/a", "d/b")
        with LocalContext(tmp_path) as context:
            before = dict(TreeDigests(context).listing("/d"))
        (tmp_path / "d/b").write_text("other")
        with LocalContext(tmp_path) as context:
            after = dict(TreeDigests(context).listing("/d"))
        assert [name for name in before if before[name] != after[name]] == ["", "b"]

    def test_large_files_in_parallel(self, tmp_path: Path) -> None:
        for number in range(8):
            (tmp_path / f"{number}").write_bytes(bytes([number]) * 300_000)
        assert digest(tmp_path) == digest(tmp_path)

    def test_an_unreadable_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ContextError, match="can't open the build context"):
            LocalContext(tmp_path / "none")

    def test_an_unreadable_file_is_named(self, tmp_path: Path) -> None:
        write(tmp_path, "d/secret", "locked/x")
        (tmp_path / "d/secret").chmod(0)
        (tmp_path / "locked").chmod(0)
        tmp_path.chmod(0o755)
        message = r"can't read '(d/secret|locked)' in the build context: Permission denied"
        for name in ("/d", "/locked"):
            with LocalContext(tmp_path) as context:
                os.seteuid(65534)
                try:
                    with pytest.raises(ContextError, match=message) as caught:
                        TreeDigests(context).entry(name)
                finally:
                    os.seteuid(0)
            assert caught.value.hint is not None and "ignore file" in caught.value.hint

    def test_a_file_that_changes_is_noticed(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        with LocalContext(tmp_path) as context:
            paths(context)
            (tmp_path / "a").write_text("other and longer")
            with pytest.raises(ContextError, match="'a' changed while it was read"):
                TreeDigests(context).entry("/a")

    def test_a_file_that_has_more_than_its_size_says_is_refused(self) -> None:
        with LocalContext(Path("/proc/sys/kernel/random")) as context:
            assert context.lstat("/boot_id") is not None
            with pytest.raises(ContextError, match="'boot_id' changed while it was read"):
                TreeDigests(context).entry("/boot_id")

    def test_a_file_that_becomes_a_symlink_is_not_followed(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "d/x")
        write(tmp_path / "outside", "x")
        with LocalContext(tmp_path) as context:
            paths(context)
            (tmp_path / "a").unlink()
            (tmp_path / "a").symlink_to("/etc/passwd")
            with pytest.raises(ContextError, match="changed"):
                context.open("/a")
        with LocalContext(tmp_path) as context:
            assert context.lstat("/d") is not None
            list(context.entries("/"))
            (tmp_path / "d").rename(tmp_path / "gone")
            (tmp_path / "d").symlink_to("outside")
            with pytest.raises(ContextError, match="changed"):
                list(context.entries("/d"))


class TestThreads:
    def test_two_threads_see_one_context(self, tmp_path: Path) -> None:
        write(tmp_path, *(f"d{number}/f" for number in range(50)))
        with LocalContext(tmp_path) as context, ThreadPoolExecutor(4) as pool:
            digests = list(pool.map(lambda _: TreeDigests(context, context.digests).contents("/"), range(8)))
            assert len(set(digests)) == 1


class TestStatCache:
    YEAR = 365 * 86400 * 10**9

    def context(self, root: Path, memory: Memory, ahead: int = YEAR) -> LocalContext:
        return LocalContext(root, stats=memory, clock=lambda: max(path.stat().st_ctime_ns for path in root.iterdir()) + ahead)

    def test_unchanged_files_are_not_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path, "a", "b")
        memory = Memory()
        with self.context(tmp_path, memory) as context:
            first = TreeDigests(context, context.digests).contents("/")
        assert memory.rows == ["a", "b"] and memory.writes == 1
        with self.context(tmp_path, memory) as context:
            monkeypatch.setattr(context, "open", None)
            assert TreeDigests(context, context.digests).contents("/") == first
        assert memory.writes == 1

    def test_a_changed_file_is_read_and_the_others_stay(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        memory = Memory()
        with self.context(tmp_path, memory) as context:
            before = TreeDigests(context, context.digests).contents("/")
        (tmp_path / "a").write_text("c")
        with self.context(tmp_path, memory) as context:
            assert TreeDigests(context, context.digests).contents("/") != before
        assert memory.rows == ["a", "b"] and memory.writes == 2

    def test_a_file_as_young_as_the_scan_is_not_remembered(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        memory = Memory()
        with self.context(tmp_path, memory, ahead=10**9) as context:
            TreeDigests(context, context.digests).contents("/")
        assert memory.rows == []

    @pytest.mark.parametrize("ignore", ["", "z"])
    def test_what_changes_in_a_directory_is_all_that_is_read(self, tmp_path: Path, ignore: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The digests are those without a cache, whatever of a directory was remembered."""
        write(tmp_path, "d/a", "d/c", "d/e", "d/sub/x", "link -> d")
        memory = Memory()

        def digests() -> tuple[str, int]:
            read = 0
            plain = LocalContext(tmp_path, Ignore.parse(ignore))
            with plain, LocalContext(tmp_path, Ignore.parse(ignore), stats=memory, clock=lambda: 1 << 62) as context:
                take = context.digests._load

                def counted(directory: str, files: Sequence[tuple[str, Node]], data: memoryview) -> Iterator[tuple[memoryview, bytes]]:
                    nonlocal read
                    read += len(files)
                    assert take is not None
                    return take(directory, files, data)

                monkeypatch.setattr(context.digests, "_load", counted)
                found = TreeDigests(context, context.digests).contents("/")
                assert found == TreeDigests(plain).contents("/") == TreeDigests(context, context.digests).contents("/")
            return found, read

        seen = [digests()[0]]
        assert digests() == (seen[0], 0)
        for change in ("new", "content", "gone", "first", "last", "mode"):
            if change == "new":
                (tmp_path / "d/b").write_text("new")
            elif change == "content":
                (tmp_path / "d/c").write_text("other")
            elif change == "gone":
                (tmp_path / "d/e").unlink()
            elif change == "first":
                (tmp_path / "d/A").write_text("first")
            elif change == "last":
                (tmp_path / os.fsdecode(b"d/\xffz")).write_text("last")
            else:
                (tmp_path / "d/c").chmod(0o755)
            found, read = digests()
            assert found not in seen and read == (0 if change == "gone" else 1), change
            assert digests() == (found, 0)
            seen.append(found)
        assert memory.rows == sorted(["d/a", "d/b", "d/c", "d/A", os.fsdecode(b"d/\xffz"), "d/sub/x"])

    def test_rows_of_another_form_are_none(self, tmp_path: Path) -> None:
        write(tmp_path, "a")
        memory = Memory()
        memory.kept[""] = (b"a", bytes(72))
        with self.context(tmp_path, memory) as context:
            found = TreeDigests(context, context.digests).contents("/")
        assert found == digest(tmp_path) and memory.rows == ["a"]

    def test_what_was_remembered_of_other_files_is_kept(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b")
        memory = Memory()
        for name in ("/a", "/b"):
            with self.context(tmp_path, memory) as context:
                TreeDigests(context, context.digests).entry(name)
        assert memory.rows == ["a", "b"]
