"""COPY's rules, each with the result that it must have."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from imgbuild.context.local import LocalContext
from imgbuild.errors import BuildfileError, ContextError
from imgbuild.layer.diff import changes, clamp
from imgbuild.linux import syscalls
from imgbuild.rootfs.copy import CopyRequest, InlineSource, TreeSource, perform_copy
from imgbuild.rootfs.copy_perform import plan_copy
from imgbuild.rootfs.copy_plan import MakeDirectory, PutData
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView

from .copying import EPOCH, OLD, World, shown

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

CONTEXT = "f g@0600 x@4755 dir/a dir/sub/b dir/sub/c@0750 l->f dl->dir lost->nowhere one/p two/q"
IMAGE = "etc/conf d/keep d/sub/old file link->d abs->/d deep/link->../d toroot->/ broken->/missing/dir flink->/file"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # a file
        (("f", "/new"), "new=f"),
        (("f", "/new/"), "new/ new/f"),
        (("f", "/new/."), "new/ new/f"),
        (("f", "/a/b/new"), "a/ a/b/ a/b/new=f"),
        (("f", "/a/b/new/"), "a/ a/b/ a/b/new/ a/b/new/f=f"),
        (("f", "/d"), "d/f"),
        (("f", "/d/"), "d/f"),
        (("f", "/"), "f"),
        (("f", "/."), "f"),
        (("f", "/file"), "file=f"),
        (("f", "/d/keep"), "d/keep=f"),
        # symlinks at the destination are followed inside the root
        (("f", "/link"), "d/f"),
        (("f", "/link/"), "d/f"),
        (("f", "/link/x"), "d/x=f"),
        (("f", "/abs/x"), "d/x=f"),
        (("f", "/deep/link/x"), "d/x=f"),
        (("f", "/toroot/x"), "x=f"),
        (("f", "/toroot/../../../x"), "x=f"),
        (("f", "/broken"), "missing/ missing/dir=f"),
        (("f", "/broken/x"), "missing/ missing/dir/ missing/dir/x=f"),
        (("f", "/broken/"), "missing/ missing/dir/ missing/dir/f"),
        (("f", "/flink"), "file=f"),
        # a symlink as the source is followed, the name stays its own
        (("l", "/new"), "new=f"),
        (("l", "/d/"), "d/l=f"),
        (("dl", "/new/"), "new/ new/a=dir/a new/sub/ new/sub/b=dir/sub/b new/sub/c=dir/sub/c"),
        # a directory gives what is in it
        (("dir", "/new"), "new/ new/a=dir/a new/sub/ new/sub/b=dir/sub/b new/sub/c=dir/sub/c"),
        (("dir/", "/new"), "new/ new/a=dir/a new/sub/ new/sub/b=dir/sub/b new/sub/c=dir/sub/c"),
        (("dir", "/d"), "d/a=dir/a d/sub/b=dir/sub/b d/sub/c=dir/sub/c"),
        (("dir", "/link"), "d/a=dir/a d/sub/b=dir/sub/b d/sub/c=dir/sub/c"),
        (("dir/sub", "/"), "b=dir/sub/b c=dir/sub/c"),
        # several
        (("f", "g", "/new/"), "new/ new/f new/g"),
        (("f", "g", "/d"), "d/f d/g"),
        (("[fg]", "/new/"), "new/ new/f new/g"),
        (("one", "two", "/new/"), "new/ new/p=one/p new/q=two/q"),
        (("dir/*", "/new/"), "new/ new/a=dir/a new/b=dir/sub/b new/c=dir/sub/c"),
        (("f", "nothing*", "/new/"), "new/ new/f"),
        (("nothing*", "/new/"), ""),
        (("f", "<<EOF", "/new/"), "new/ new/EOF=text new/f"),
        (("<<EOF", "/new"), "new=text"),
        (("<<EOF", "/d"), "d/EOF=text"),
        (("f", "f", "/d/"), "d/f"),
    ],
)
def test_where_things_go(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    world = World(tmp_path, image=IMAGE, context=CONTEXT, heredocs={"EOF": "text"})
    before = set(world.names().split())
    world.copy(*words)
    after = world.names().split()
    assert [_short(word) for word in after if word not in before] == [_short(word) for word in expected.split()]
    assert before - set(after) <= {"file", "d/keep"}


def _short(word: str) -> str:
    """A file whose content is the last part of its own path, without it."""
    path, _, text = word.partition("=")
    return path if text == path.rpartition("/")[2] else word


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("f", "/file/"), "'/file'"),
        (("f", "/file/x"), "'/file'"),
        (("f", "/a/../file/x/y"), "'/file'"),
        (("dir", "/file"), "can't copy a directory to '/file'"),
        (("d2", "/d"), "can't copy a directory to '/d/keep'"),
        (("d3", "/d"), "can't copy a file to '/d/sub'"),
        (("d4", "/"), "can't copy a directory to '/link'"),
        (("sub", "/d/"), "can't copy a file to '/d/sub'"),
        (("f", "g", "/new"), "several sources can't be copied to '/new'"),
        (("[fg]", "/new"), "several sources"),
        (("f", "nothing*", "/new"), "several sources"),
        (("f", "g", "/file"), "several sources"),
        (("f", "<<EOF", "/new"), "several sources"),
        (("f", "/loop/x"), "Too many levels"),
    ],
)
def test_what_can_not_be(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    context = "f g sub dir/a d2/keep/x d3/sub d4/link/x"
    world = World(tmp_path, image=IMAGE + " loop->loop", context=context, heredocs={"EOF": "text"})
    with pytest.raises(BuildfileError) as caught:
        world.copy(*words)
    assert message in caught.value.message


class TestMetadata:
    def test_of_the_contexts_files(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="f@4711%5:6 d/@2770%5:6 d/e@0640%7:7 d/l->x%8:8")
        world.copy(".", "/new/")
        assert world.result() == "new/@0755%0:0 new/d/@2770%0:0 new/d/e=d/e@0640%0:0 new/d/l->x%0:0 new/f=f@4711%0:0"
        assert {world.mtime(path) for path in ("/new", "/new/d", "/new/d/e", "/new/d/l", "/new/f")} == {EPOCH}

    def test_of_a_stages_files(self, tmp_path: Path) -> None:
        world = World(tmp_path, stage="f@4711%5:6 d/@2770%5:6 d/e@0640%7:7~ d/l->x%8:8")
        os.setxattr(tmp_path / "stage0/f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        os.setxattr(tmp_path / "stage0/d", "user.note", b"x")
        os.setxattr(tmp_path / "stage0/d", "trusted.note", b"x")
        os.utime(tmp_path / "stage0/d", (OLD, OLD))
        world.copy("/", "/new/", stage=True)
        assert world.result() == "new/@0755%0:0 new/d/@2770%5:6 new/d/e=d/e@0640%7:7 new/d/l->x%8:8 new/f=f@4711%5:6"
        assert [world.mtime(path) for path in ("/new", "/new/d", "/new/d/e", "/new/d/l", "/new/f")] == [EPOCH, OLD, EPOCH, OLD, OLD]
        with UnionView(world.lowers) as view:
            assert list(view.xattrs("/new/f")) == ["security.capability"]
            assert view.xattrs("/new/d") == {"user.note": b"x"}

    def test_capabilities_come_from_the_context_too_and_nothing_else(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="f")
        os.setxattr(tmp_path / "context/f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        os.setxattr(tmp_path / "context/f", "user.note", b"x")
        world.copy("f", "/f")
        with UnionView(world.lowers) as view:
            assert list(view.xattrs("/f")) == ["security.capability"]

    def test_what_is_there_already_keeps_its_own_but_merged_directories_do_not(self, tmp_path: Path) -> None:
        world = World(tmp_path, image="a/@0711%1:1 a/b/@0711%1:1 a/b/old%1:1", context="top/@0700 top/b/@0700 top/b/new")
        world.copy("top", "/a", owner="9")
        assert world.result() == "a/@0711%1:1 a/b/@0700%9:9 a/b/new=top/b/new@0644%9:9 a/b/old=a/b/old@0644%1:1"

    def test_parents_in_the_new_lower_look_as_before(self, tmp_path: Path) -> None:
        world = World(tmp_path, image="a/@0711%1:2 a/b/@1777%3:4 a/b/c/@0500 | z", context="f")
        os.setxattr(tmp_path / "image0/a", "user.note", b"x")
        os.utime(tmp_path / "image0/a", (OLD, OLD))
        os.chmod(tmp_path / "image1", 0o1755)
        os.chown(tmp_path / "image1", 4, 4)
        world.copy("f", "/a/b/f")
        assert world.result("/a/b") == "a/b/@1777%3:4 a/b/c/@0500%0:0 a/b/f=f@0644%0:0"
        status = os.stat(world.upper)
        assert (stat.S_IMODE(status.st_mode), status.st_uid, int(status.st_mtime)) == (0o1755, 4, OLD)
        # only the directory that was written into is younger
        assert [world.mtime(path) for path in ("/a", "/a/b", "/a/b/c")] == [OLD, EPOCH, OLD]
        assert os.getxattr(world.upper / "a", "user.note") == b"x"
        assert sorted(os.listdir(world.upper / "a/b")) == ["f"]

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("640", "new/@0640 new/d/@0640 new/d/e@0640 new/s@0640"),
            ("4755", "new/@0755 new/d/@4755 new/d/e@4755 new/s@4755"),
            ("0", "new/@0000 new/d/@0000 new/d/e@0000 new/s@0000"),
            ("u=rwX,go=rX", "new/@0755 new/d/@0755 new/d/e@0644 new/s@0755"),
            ("a+x", "new/@0755 new/d/@0755 new/d/e@0755 new/s@4755"),
            ("go-rwx", "new/@0755 new/d/@0700 new/d/e@0600 new/s@4700"),
            ("g=u,o=", "new/@0755 new/d/@0770 new/d/e@0660 new/s@4770"),
            ("u-s,+t", "new/@0755 new/d/@1755 new/d/e@1644 new/s@1755"),
        ],
    )
    def test_chmod(self, tmp_path: Path, mode: str, expected: str) -> None:
        world = World(tmp_path, context="t/d/@0755 t/d/e@0644 t/s@4755")
        world.copy("t", "/new", mode=mode)
        with UnionView(world.lowers) as view:
            found = [(path[1:] + "/" * stat.S_ISDIR(node.mode), stat.S_IMODE(node.mode)) for path, node in view.walk() if path != "/"]
        assert " ".join(f"{path}@{bits:04o}" for path, bits in found) == expected

    @pytest.mark.parametrize("mode", ["8", "10000", "u=q", "rwx", "0o755", "-1", "u=rw,", "u"])
    def test_bad_chmod(self, tmp_path: Path, mode: str) -> None:
        world = World(tmp_path, context="f")
        with pytest.raises(BuildfileError, match="bad mode"):
            world.copy("f", "/f", mode=mode)

    @pytest.mark.parametrize(
        ("owner", "expected"),
        [("5", "5:5"), ("5:6", "5:6"), ("app", "1000:1001"), ("app:7", "1000:7"), ("app:web", "1000:33"), ("5:web", "5:33"), (":6", "0:6")],
    )
    def test_chown_is_for_all_that_is_made(self, tmp_path: Path, owner: str, expected: str) -> None:
        image = "etc/passwd=app:x:1000:1001::/home/app: etc/group=web:x:33: old/"
        world = World(tmp_path, image=image, context="t/d/f%9:9 t/l->x", stage="s%9:9")
        world.copy("t", "/old/a/b", owner=owner)
        world.copy("s", "/old/s", stage=True, owner=owner)
        owners = {word.rpartition("%")[2] for word in world.result("/old").split()[1:]}
        assert owners == {expected}
        assert world.result("/old").split()[0].endswith("%0:0")

    def test_chown_of_nobody(self, tmp_path: Path) -> None:
        with pytest.raises(BuildfileError, match="no such user: 'who'"):
            World(tmp_path, context="f").copy("f", "/f", owner="who")


class TestContents:
    def test_hard_links_of_a_stage_are_kept_and_those_of_a_context_are_not(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="a b&a", stage="a d/b&a other")
        world.copy("/", "/s/", stage=True)
        world.copy(".", "/c/")
        with UnionView(world.lowers) as view:
            first, second = view.lstat("/s/a"), view.lstat("/s/d/b")
            assert first is not None and second is not None and (first.ino, first.nlink) == (second.ino, 2)
            third = view.lstat("/c/a")
            assert third is not None and third.nlink == 1

    def test_sparse_files_stay_sparse(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="f")
        with open(tmp_path / "context/f", "wb") as file:
            file.truncate(64 << 20)
            file.seek(32 << 20)
            file.write(b"middle")
        world.copy("f", "/f")
        status = os.stat(world.upper / "f")
        assert status.st_size == 64 << 20 and status.st_blocks * 512 < 1 << 20
        with open(world.upper / "f", "rb") as file:
            file.seek(32 << 20)
            assert file.read(6) == b"middle"

    def test_big_files(self, tmp_path: Path) -> None:
        data = os.urandom(3 << 20)
        world = World(tmp_path, context="f")
        (tmp_path / "context/f").write_bytes(data)
        world.copy("f", "/f")
        assert (world.upper / "f").read_bytes() == data
        assert world.copied.size == len(data)

    def test_fifos_and_devices_of_a_stage(self, tmp_path: Path) -> None:
        world = World(tmp_path, stage="d/")
        os.mkfifo(tmp_path / "stage0/d/fifo", 0o620)
        os.mknod(tmp_path / "stage0/d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chmod(tmp_path / "stage0/d/null", 0o666)
        world.copy("/d", "/d", stage=True)
        assert stat.S_ISFIFO((world.upper / "d/fifo").lstat().st_mode)
        assert (world.upper / "d/null").lstat().st_rdev == os.makedev(1, 3)
        assert stat.S_IMODE((world.upper / "d/null").lstat().st_mode) == 0o666

    def test_names_that_are_not_utf8(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="d/")
        name = os.fsdecode(b"\xff\xfe")
        (tmp_path / "context/d" / name).write_text("x")
        world.copy("d", "/d")
        assert os.listdir(os.fsencode(world.upper / "d")) == [b"\xff\xfe"]

    def test_whiteouts_of_the_image_do_not_come_back(self, tmp_path: Path) -> None:
        world = World(tmp_path, image="d/x d/y | z", context="f")
        (tmp_path / "image1/d").mkdir()
        os.mknod(tmp_path / "image1/d/x", stat.S_IFCHR, 0)
        world.copy("f", "/d/f")
        assert world.names() == "d/ d/f=f d/y z"

    def test_symlinks_inside_of_a_directory_stay_symlinks(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="d/l->/etc/passwd d/up->../../../x", image="d/l")
        world.copy("d", "/d")
        assert world.names() == "d/ d/l->/etc/passwd d/up->../../../x"

    def test_a_copied_symlink_does_not_carry_what_follows_out_of_the_layer(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="one/l->/etc two/l/passwd")
        with pytest.raises(BuildfileError, match="can't copy a directory to '/d/l'"):
            world.copy("one", "two", "/d/")
        world.copy("one", "/e/")
        world.copy("two/l/passwd", "/e/l/")
        assert world.names() == "e/ e/l->/etc etc/ etc/passwd=two/l/passwd"

    def test_ignored_files_are_not_copied(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="a b.tmp d/c.tmp d/e", ignore="**/*.tmp")
        world.copy(".", "/x/")
        assert world.names() == "x/ x/a=a x/d/ x/d/e=d/e"

    def test_excluded_files_are_not_copied(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="t/a t/b.tmp t/d/c.tmp t/d/e f.tmp g")
        world.copy("t", "f.tmp", "g", "/x/", exclude=("**/*.tmp", "!d/c.tmp"))
        assert world.names() == "x/ x/a=t/a x/d/ x/d/c.tmp=t/d/c.tmp x/d/e=t/d/e x/g=g"

    def test_a_file_that_changes_while_it_is_copied(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="f")

        with LocalContext(tmp_path / "context") as context, UnionView(()) as parents:
            request = CopyRequest((TreeSource(context, context.match("f")),), "/f", EPOCH)
            (tmp_path / "context/f").write_text("longer than before")
            (tmp_path / "out").mkdir()
            with pytest.raises(ContextError, match="changed while it was read"):
                perform_copy(request, parents, tmp_path / "out")
        assert world.steps == 0


class TestKeyedInputs:
    def keys(self, world: World, *words: str, **options: object) -> tuple[tuple[str, str], ...]:
        world.copy(*words, **options)  # type: ignore[arg-type]
        return tuple((item.name, item.digest) for item in world.digests)

    def test_names_digests_and_their_number(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="a=1 b=1 d/x", heredocs={"EOF": "text"})
        keys = self.keys(world, "?", "d", "<<EOF", "/x/")
        assert [name for name, _ in keys] == ["a", "b", "", "", "EOF"]
        assert keys[0][1] == keys[1][1]
        (tmp_path / "context/b").rename(tmp_path / "context/c")
        assert self.keys(world, "?", "d", "<<EOF", "/x/") != keys

    def test_a_file_more_in_a_directory_counts_and_an_excluded_one_does_not(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="d/x f")
        keys = self.keys(world, "d", "f", "/x/", exclude=("*.tmp",))
        (tmp_path / "context/d/y.tmp").write_text("y")
        assert self.keys(world, "d", "f", "/x/", exclude=("*.tmp",)) == keys
        (tmp_path / "context/d/y").write_text("y")
        assert self.keys(world, "d", "f", "/x/", exclude=("*.tmp",)) != keys

    def test_what_a_symlink_leads_to_counts(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="l->f f")
        keys = self.keys(world, "l", "/x")
        (tmp_path / "context/f").write_text("other")
        assert self.keys(world, "l", "/x") != keys


class TestAsALayer:
    def test_nothing_is_left_to_be_clamped(self, tmp_path: Path) -> None:
        world = World(tmp_path, image="a/b/c~ d~", context="f t/x", stage="s/t/u~")
        world.copy("f", "t", "/a/b/")
        self.unclamped(world)
        world.copy("s", "/d2/", stage=True)
        self.unclamped(world)

    def unclamped(self, world: World) -> None:
        before = {path: path.lstat().st_mtime_ns for path in (world.upper, *world.upper.rglob("*"))}
        with UnionView(world.lowers[:-1]) as parents:
            clamp(world.upper, EPOCH, parents)
        after = {path: path.lstat().st_mtime_ns for path in (world.upper, *world.upper.rglob("*"))}
        assert before == after

    def test_its_changes_are_what_was_copied_and_the_directories_above(self, tmp_path: Path) -> None:
        world = World(tmp_path, image="a/b/c d", context="f")
        world.copy("f", "/a/b/f")
        with UnionView(world.lowers[:-1]) as parents:
            assert [(change.path, change.kind) for change in changes(world.upper, parents, EPOCH)][-3:] == [
                (b"a", "dir"),
                (b"a/b", "dir"),
                (b"a/b/f", "file"),
            ]

    def test_it_is_the_same_on_another_day(self, tmp_path: Path) -> None:
        results = []
        for day in (1, 2):
            world = World(tmp_path / str(day), image="a/b", context="f t/x t/y->z")
            for path in (tmp_path / str(day) / "context").rglob("*"):
                os.utime(path, (OLD * day, OLD * day), follow_symlinks=False)
            world.copy("f", "t", "/a/new/")
            with UnionView(world.lowers) as view:
                results.append([(shown(view, path), node.mtime_ns) for path, node in view.walk() if path != "/"])
        assert results[0] == results[1]


class TestRootless:
    """In a user namespace that has one id, as where there is no subuid range."""

    def inside(self, work: Callable[[], str]) -> str:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                syscalls.unshare(CLONE_NEWUSER)
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text("0 0 1")
                Path("/proc/self/gid_map").write_text("0 0 1")
                answer = work()
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writable, answer.encode())
            os._exit(0)
        os.close(writable)
        with os.fdopen(readable) as file:
            answer = file.read()
        os.waitpid(child, 0)
        return answer

    def test_what_one_id_allows(self, tmp_path: Path) -> None:
        world = World(tmp_path, image="etc/passwd d/x", context="f@4755 t/d/g")

        def work() -> str:
            world.copy("f", "t", "/d/")
            return world.result("/d")

        assert self.inside(work) == "d/@0755%0:0 d/d/@0755%0:0 d/d/g=t/d/g@0644%0:0 d/f=f@4755%0:0 d/x=d/x@0644%0:0"

    def test_what_it_does_not_is_said(self, tmp_path: Path) -> None:
        world = World(tmp_path, context="f")

        def work() -> str:
            world.copy("f", "/f", owner="5")
            return "copied"

        assert self.inside(work).startswith("StoreError: can't give a file to 5:5")


def test_the_kernel_sees_what_the_union_does(tmp_path: Path) -> None:
    world = World(tmp_path, image="a/b/old a/c->b | a/b/gone", context="f t/b/g t/l->x")
    world.copy("f", "/a/c/")
    world.copy("t", "/a")
    lowers = ":".join(str(lower.path) for lower in reversed(world.lowers) if isinstance(lower, DirectoryLower))
    merged = tmp_path / "merged"
    merged.mkdir()

    def work() -> list[str]:
        syscalls.unshare(CLONE_NEWNS)
        syscalls.mount(None, "/", None, MS_REC | MS_PRIVATE)
        syscalls.mount("overlay", merged, "overlay", 0, f"lowerdir={lowers}")
        return sorted(f"/{path.relative_to(merged)} {path.lstat().st_mode:o} {path.lstat().st_mtime_ns}" for path in merged.rglob("*"))

    with UnionView(world.lowers) as view:
        expected = sorted(f"{path} {node.mode:o} {node.mtime_ns}" for path, node in view.walk() if path != "/")
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, "\n".join(work()).encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        assert file.read().split("\n") == expected
    os.waitpid(child, 0)


def test_the_plan_is_values(tmp_path: Path) -> None:
    request = CopyRequest((InlineSource("EOF", b"text"),), "/a/b/", EPOCH)
    with UnionView(()) as parents:
        plan = plan_copy(request, parents)
    assert [(type(action), action.path) for action in plan] == [(MakeDirectory, "/a"), (MakeDirectory, "/a/b"), (PutData, "/a/b/EOF")]
