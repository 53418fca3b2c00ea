"""--link, --parents, --exclude, --optional, --chmod, --chown and --unpack through the command line, and what is refused of them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from .harness import EPOCH, Bench
from .peers import differences, podman, tree
from .test_build_copy import archive

SOURCES = {
    "x/a.txt": "a", "x/a.md": "am", "x/y/b.txt": "b", "x/y/z/c.txt": "c", "x/y/z/c.md": "cm", "x/.hidden": "h", "other/d.txt": "d",
    "top.txt": "t", "top.md": "tm", "link": "-> x", "!odd": "odd",
}  # fmt: skip


def below(bench: Bench, top: str, name: str = "x:latest") -> list[str]:
    """What is below a directory, directories with a slash."""
    files = bench.files(name)
    found = (path + "/" * entry.info.isdir() for path, entry in files.items() if path.startswith(f"{top}/"))
    return sorted(path.removeprefix(f"{top}/") for path in found)


# --link


def test_link_does_not_follow_what_is_below(bench: Bench) -> None:
    bench.write({"f": "f", "d/g": "g"})
    bench.build("""
FROM busybox
RUN mkdir -p /real /usr/bin && ln -s real /alias && echo old > /real/kept && chmod 700 /real && echo x > /taken
COPY --link f /alias/
COPY --link d /real
COPY --link --chown=7:8 f /new/dir/f
COPY --link f /taken/
RUN cat /alias/f /real/kept /real/g /new/dir/f /taken/f > /seen && test ! -L /alias && test ! -e /real/f
""")
    files = bench.files()
    assert files["alias"].info.isdir()
    assert files["alias/f"].data == b"f"
    assert files["seen"].data == b"fold\ngff"
    assert files["real"].info.mode == 0o755
    assert (files["new/dir"].info.uid, files["new/dir/f"].info.gid) == (7, 8)
    assert files["taken"].info.isdir()
    bench.assert_whole()


def test_link_is_found_again_on_another_base_and_what_follows_is_not(bench: Bench) -> None:
    bench.write({"f": "f"})
    text = "FROM busybox\nRUN echo {} > /base\nCOPY --link f /dir/f\nRUN cat /base > /result\n"
    first = bench.build(text.format("one"))
    layer = bench.manifest()["layers"][-2]
    second = bench.build(text.format("two"))
    assert first.steps["COPY --link f /dir/f"] == "DONE"
    assert second.steps["COPY --link f /dir/f"] == "CACHED"
    assert second.steps["RUN cat /base > /result"] == "DONE"
    assert bench.manifest()["layers"][-2] == layer
    assert bench.files()["result"].data == b"two\n"
    assert bench.build(text.format("one")).steps["RUN cat /base > /result"] == "CACHED"
    scratch = bench.build("FROM scratch\nCOPY --link f /dir/f\n")
    assert scratch.steps["COPY --link f /dir/f"] == "CACHED"
    assert bench.manifest()["layers"] == [layer]


def test_link_is_as_from_scratch_and_the_same_wherever_it_is_performed(bench: Bench) -> None:
    bench.write({"f": "f", "d/a": "a"})
    bench.build("FROM scratch\nCOPY f /etc/f\nCOPY d /etc/\n")
    plain = bench.layers()
    bench.build("FROM busybox\nRUN mkdir -p /etc && echo f > /etc/f\nCOPY --link f /etc/f\nCOPY --link d /etc/\n", "--no-cache")
    linked = bench.layers()[-2:]
    assert [name for layer in linked for name in layer] == ["etc", "etc/f", "etc", "etc/a"]
    assert {(entry.info.mtime, entry.info.mode) for entry in linked[0].values()} == {(0, 0o755), (0, 0o644)}
    assert linked[0]["etc/f"].data == plain[0]["etc/f"].data
    bench.build("FROM busybox\nCOPY --link f /etc/f\n", "--no-cache", environ={"SOURCE_DATE_EPOCH": "77"})
    assert bench.top()["etc/f"].info.mtime == 77
    # the same without: it is not linked, and so not of an age of its own
    bench.build("FROM busybox\nCOPY --link=false f /etc/f\n")
    assert bench.top()["etc/f"].info.mtime == EPOCH


def test_link_in_two_stages_is_performed_once_and_keeps_them_apart(bench: Bench) -> None:
    bench.write({"f": "f"})
    stage = "FROM busybox AS {0}\nRUN echo {0} > /x\nCOPY --link f /f\nRUN cat /x > /r\n"
    text = stage.format("a") + stage.format("b") + "FROM scratch\nCOPY --from=a /r /f /a/\nCOPY --from=b /r /f /b/\n"
    for arguments in ([], ["--no-cache"], []):
        done = bench.build(text, *arguments)
        files = bench.files()
        assert (files["a/r"].data, files["b/r"].data) == (b"a\n", b"b\n")
        assert files["a/f"].data == files["b/f"].data == b"f"
        linked = [line for line in done.err.splitlines() if "COPY --link f /f" in line and line.startswith("#")]
        assert len(linked) == 2
    bench.assert_whole()


def test_link_from_a_stage(bench: Bench) -> None:
    text = "FROM busybox AS made\nRUN echo made > /out && chown 5:6 /out\n"
    text += "FROM busybox\nRUN echo {} > /n\nCOPY --link --from=made /out /bin/out\n"
    bench.build(text.format(1))
    again = bench.build(text.format(2))
    assert again.steps["COPY --link --from=made /out /bin/out"] == "CACHED"
    assert bench.files()["bin/out"].data == b"made\n"
    assert bench.files()["bin/out"].info.gid == 6
    assert bench.files()["bin/busybox"].info.isreg()


def test_link_on_a_root_with_a_mode_of_its_own(bench: Bench) -> None:
    bench.write({"f": "f"})
    bench.build("FROM busybox\nRUN chmod 711 / && chown 3:4 /\nCOPY --link f /f\nRUN stat -c '%a %u:%g' / > /root-is\n")
    assert bench.files()["root-is"].data == b"711 3:4\n"
    bench.build("FROM busybox\nRUN chmod 711 / && chown 3:4 /\nCOPY --link f /f\nRUN stat -c '%a %u:%g' / > /other\n")
    assert bench.files()["other"].data == b"711 3:4\n"


def test_link_gives_way_to_chmod(bench: Bench) -> None:
    """BuildKit's way: then names can be looked up and symlinks are followed."""
    bench.write({"f": "f"})
    bench.build("FROM busybox\nRUN mkdir /real && ln -s real /alias\nCOPY --link --chmod=600 --chown=ann f /alias/\n")
    info = bench.files()["real/f"].info
    assert (info.uid, info.gid, info.mode) == (1000, 1001, 0o600)


def test_others_see_what_was_linked_as_we_do(bench: Bench, tmp_path: Path) -> None:
    bench.write({"f": "f", "d/g": "g"})
    bench.build("""
FROM busybox
RUN mkdir -p /real/kept /dir/sub && ln -s real /alias && ln -s /real/kept /far && echo x > /taken && chmod 711 / && chmod 700 /dir
COPY --link f /alias/
COPY --link d /dir
COPY --link f /taken/f
COPY --link f /dir/sub
COPY --link --chown=3:4 d/g /far/deep/
""")
    bench.run("unpack", "x", tmp_path / "ours")
    bench.run("save", "--format", "docker", "-o", tmp_path / "x.tar", "x")
    with podman(tmp_path / "peer") as peer:
        peer("load", "-q", "-i", tmp_path / "x.tar")
        with peer.mounted("x") as root:
            theirs = tree(root)
    ours = tree(tmp_path / "ours")
    assert differences(ours, theirs, ".") == []
    assert {ours[name][0] for name in ("alias", "taken", "far", "dir")} == {"0o40755"}
    assert theirs["."][0] == "0o40711"
    assert ours["dir/sub"][0] == "0o100644"


def test_a_copy_of_nothing_is_an_empty_layer(bench: Bench) -> None:
    for flag in ("", "--link ", "--parents "):
        bench.build(f"FROM busybox\nCOPY {flag}nothing* /x/\nRUN test ! -e /x/nothing\n")
        assert "x/nothing" not in bench.files()
    bench.assert_whole()


def test_flags_in_a_trigger(bench: Bench) -> None:
    bench.write({"x/a.txt": "a", "x/b.md": "b"})
    done = bench.build(
        """
FROM busybox AS base
ONBUILD COPY --link --parents --exclude=**/*.md x /to/
ONBUILD ADD --unpack=false --optional=false x/a.txt /a
FROM base
""",
        code=10,
    )
    assert "--optional" in done.err
    bench.build("FROM busybox AS base\nONBUILD COPY --link --parents --exclude=**/*.md x /to/\nFROM base\n")
    assert below(bench, "to") == ["x/", "x/a.txt"]


def test_add_links_and_unpacks(bench: Bench) -> None:
    bench.write({"t.tar": archive({"in/a": b"A"})})
    bench.build("FROM busybox\nRUN mkdir /real && ln -s real /alias\nADD --link t.tar /alias\n")
    assert bench.files()["alias/in/a"].data == b"A"


# --parents


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("./x/a.txt ./other/d.txt", ["other/", "other/d.txt", "x/", "x/a.txt"]),
        ("x/y", ["x/", "x/y/", "x/y/b.txt", "x/y/z/", "x/y/z/c.md", "x/y/z/c.txt"]),
        ("/x/y/../a.md", ["x/", "x/a.md"]),
        ("./x/./y/*.txt", ["y/", "y/b.txt"]),
        ("x/./y/./b.txt", ["y/", "y/b.txt"]),
        ("./x/**/*.txt", ["x/", "x/a.txt", "x/y/", "x/y/b.txt", "x/y/z/", "x/y/z/c.txt"]),
        ("x/./**/*.md", ["a.md", "y/", "y/z/", "y/z/c.md"]),
        ("**/c.*", ["x/", "x/y/", "x/y/z/", "x/y/z/c.md", "x/y/z/c.txt"]),
        ("*.txt", ["top.txt"]),
        ("[xo]*/./*.txt", ["a.txt", "d.txt"]),
        ("x/*", ["x/", "x/.hidden", "x/a.md", "x/a.txt", "x/y/", "x/y/b.txt", "x/y/z/", "x/y/z/c.md", "x/y/z/c.txt"]),
        ("nothing*", []),
        ("link", ["link"]),
        ("link/./y/b.txt", ["y/", "y/b.txt"]),
        ("x/y/z/.", ["x/", "x/y/", "x/y/z/", "x/y/z/c.md", "x/y/z/c.txt"]),
        ("--exclude=**/*.md x/y", ["x/", "x/y/", "x/y/b.txt", "x/y/z/", "x/y/z/c.txt"]),
        ("--exclude=x/y/z x/**/c.* top.md", ["top.md"]),
        ("--exclude=x/y --exclude=!x/y/b.txt x", ["x/", "x/.hidden", "x/a.md", "x/a.txt", "x/y/", "x/y/b.txt"]),
    ],
)
def test_parents(shared: Bench, words: str, expected: list[str]) -> None:
    if not (shared.context / "x").exists():
        shared.write(SOURCES)
        os.chmod(shared.context / "x", 0o750)
    shared.build(f"FROM busybox\nCOPY --parents {words} /to/\n")
    assert below(shared, "to") == expected


def test_parents_keep_the_modes_and_owners_of_directories(bench: Bench) -> None:
    bench.write({"x/y/f": "f", "x/g": "g"})
    os.chmod(bench.context / "x", 0o750)
    bench.build("""
FROM busybox AS made
RUN mkdir -p /s/x/y && echo f > /s/x/y/f && chown -R ann:staff /s/x && chmod 2770 /s/x
FROM busybox
RUN mkdir -p /have/x && chown 9:9 /have/x
COPY --parents x/y/f /new/
COPY --parents x/y/f /have/
COPY --parents --from=made /s/./x/y/f /kept/
COPY --parents --chmod=700 --chown=1:2 x/y/f /changed/
""")
    files = bench.files()

    def seen(name: str) -> tuple[int, int, int]:
        info = files[name].info
        return (info.mode, info.uid, info.gid)

    assert seen("new/x") == (0o750, 0, 0)
    assert seen("have/x") == (0o750, 9, 9)
    assert seen("kept/x") == (0o2770, 1000, 50)
    assert seen("kept/x/y/f") == (0o644, 1000, 50)
    assert seen("changed/x") == seen("changed/x/y/f") == (0o700, 1, 2)


def test_parents_key_holds_what_leads_there(bench: Bench) -> None:
    bench.write({"x/f": "f", "x/unread": "u"})
    text = "FROM busybox\nCOPY --parents x/f /to/\n"
    step = "COPY --parents x/f /to/"
    bench.build(text)
    bench.write({"x/unread": "changed", "x/more": "m"})
    assert bench.build(text).steps[step] == "CACHED"
    os.chmod(bench.context / "x", 0o700)
    assert bench.build(text).steps[step] == "DONE"
    assert bench.files()["to/x"].info.mode == 0o700
    assert bench.build("FROM busybox\nCOPY --parents=false x/f /to/\n").steps["COPY --parents=false x/f /to/"] == "DONE"
    assert below(bench, "to") == ["f"]


# --exclude


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--exclude=*.md x", [".hidden", "a.txt", "y/", "y/b.txt", "y/z/", "y/z/c.md", "y/z/c.txt"]),
        ("--exclude=**/*.md x", [".hidden", "a.txt", "y/", "y/b.txt", "y/z/", "y/z/c.txt"]),
        ("--exclude=*.txt top*", ["top.md"]),
        ("--exclude=*.txt --exclude=*.md top*", []),
        ("--exclude=y --exclude=*.md x", [".hidden", "a.txt"]),
        ("--exclude=* --exclude=!y/z/*.txt x", ["y/", "y/z/", "y/z/c.txt"]),
        ("--exclude=* x", []),
        ("--exclude=/a.txt --exclude=#x x/y", ["b.txt", "z/", "z/c.md", "z/c.txt"]),
        ("--exclude=$NOT --exclude=z x/y", ["b.txt"]),
        ("--exclude=*/z [x]/", [".hidden", "a.md", "a.txt", "y/", "y/b.txt"]),
    ],
)
def test_exclude(shared: Bench, words: str, expected: list[str]) -> None:
    if not (shared.context / "x").exists():
        shared.write(SOURCES)
    for instruction in ("COPY", "ADD"):
        shared.build(f"FROM busybox\nENV NOT=b.txt\n{instruction} {words} /to/\n")
        assert below(shared, "to") == expected


def test_what_is_excluded_is_not_in_the_key(bench: Bench) -> None:
    bench.write({"d/a": "a", "d/b.md": "b"})
    text = "FROM busybox\nCOPY --exclude=*.md d /to/\n"
    bench.build(text)
    bench.write({"d/b.md": "changed"})
    assert bench.build(text).steps["COPY --exclude=*.md d /to/"] == "CACHED"
    assert bench.build(text.replace("*.md", "*.m*")).steps["COPY --exclude=*.m* d /to/"] == "DONE"


def test_exclude_and_optional_from_a_stage(bench: Bench) -> None:
    text = "FROM busybox AS s\nRUN mkdir /d && touch /d/a /d/b\nFROM scratch\nCOPY --from=s {} /to/\n"
    bench.build(text.format("--exclude=a /d"))
    assert below(bench, "to") == ["b"]
    bench.build(text.format("--exclude=b /d"))
    assert below(bench, "to") == ["a"]
    bench.build(text.format("--parents /d"))
    assert below(bench, "to") == ["d/", "d/a", "d/b"]
    bench.build(text.format("/d"))
    assert below(bench, "to") == ["a", "b"]
    bench.build(text.format("--optional /missing /d/a"))
    assert below(bench, "to") == ["a"]
    bench.refused(text.format("/missing /d/a"), code=12)


# --optional


def test_optional(bench: Bench) -> None:
    bench.write({"there": "t", "hidden": "h", "dangling": "-> nowhere", ".dockerignore": "hidden\n"})
    bench.build("""
FROM busybox
COPY --optional missing /a/
COPY --optional missing there hidden dangling sub/deep* /b/
COPY --optional --parents missing/deep there /c/
COPY --optional=true there /d/
""")
    assert below(bench, "b") == ["there"]
    assert below(bench, "c") == ["there"]
    assert below(bench, "d") == ["there"]
    assert "a" not in bench.files()
    bench.write({"missing": "m"})
    bench.build("FROM busybox\nCOPY --optional missing /a/\n")
    assert below(bench, "a") == ["missing"]


# --chmod, --chown, --unpack


def test_chmod_with_variables_and_of_the_directories_that_are_made(bench: Bench) -> None:
    bench.write({"f": "f", "d/run": "r", "d/sub/x": "x"})
    os.chmod(bench.context / "d/run", 0o755)
    bench.build("""
FROM busybox
ARG MODE=750
ENV WHO=ann:staff
COPY --chmod=$MODE --chown=${WHO} f /octal/made/
COPY --chmod=${NONE:-u=rwX,go=} d /symbolic
COPY --chmod=g=u,o-r f /from-user
COPY --chmod=a+x,u+s f /bits
COPY --chmod=4711 <<E /heredoc
x
E
ADD --chmod=600 --chown=:staff <<E /added/heredoc
x
E
COPY --chmod=${EMPTY} f /plain
""")
    files = bench.files()

    def seen(name: str) -> tuple[int, int, int]:
        info = files[name].info
        return (info.mode, info.uid, info.gid)

    assert seen("octal") == seen("octal/made") == seen("octal/made/f") == (0o750, 1000, 50)
    assert seen("symbolic")[0] == 0o755
    assert seen("symbolic/sub")[0] == seen("symbolic/run")[0] == 0o700
    assert seen("symbolic/sub/x")[0] == 0o600
    assert seen("from-user")[0] == 0o660
    assert seen("bits")[0] == 0o4755
    assert seen("heredoc")[0] == 0o4711
    assert seen("added/heredoc") == (0o600, 0, 50)
    assert seen("plain")[0] == 0o644


def test_unpack(bench: Bench) -> None:
    plain = archive({"a": b"A"})
    bench.write({"t.tar": plain, "t.tgz": archive({"b": b"B"}, "w:gz"), "no.tar": "no archive", "d/t.tar": plain})
    bench.build("""
FROM busybox
ADD --unpack=false t.tar /as-is/
ADD --unpack=true t.tgz no.tar /out/
ADD --unpack d /dir/
ADD t.tar /out/
""")
    files = bench.files()
    assert files["as-is/t.tar"].data == plain
    assert (files["out/a"].data, files["out/b"].data, files["out/no.tar"].data) == (b"A", b"B", b"no archive")
    assert files["dir/t.tar"].data == plain


def test_zstd_and_sparse_names_in_archives(bench: Bench) -> None:
    import zstandard

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("n" * 120, "d/" * 60 + "x"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"z"))
    bench.write({"t.tar.zst": zstandard.ZstdCompressor().compress(buffer.getvalue())})
    bench.build("FROM busybox\nADD t.tar.zst /out/\n")
    assert bench.files()["out/" + "n" * 120].data == b"z"
    assert bench.files()["out/" + "d/" * 60 + "x"].data == b"z"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("COPY --link --chown=ann file /", 10, "--link"),
        ("COPY --link --chown=1:staff file /", 10, "numbers"),
        ("COPY --link=yes file /", 10, "true or false"),
        ("ADD --parents file /", 10, "--parents"),
        ("ADD --optional file /", 10, "--optional"),
        ("COPY --unpack file /", 10, "--unpack"),
        ("COPY --parents missing /", 12, "'/missing' not found"),
        ("COPY --parents dir/./missing /", 12, "missing"),
        ("COPY --parents way/a /x/", 12, "leads through a symlink"),
        ("COPY --parents ./dir/../way/a /x/", 12, "leads through a symlink"),
        ("FROM busybox AS s\nRUN ln -s /etc /way\nFROM busybox\nCOPY --parents --from=s /way/passwd /x/", 12, "leads through a symlink"),
        ("COPY --parents file dir /x", 10, "directory"),
        ("COPY --exclude file /", 10, "--exclude"),
        ("COPY --exclude=[ file /x/", 10, "--exclude"),
        ("COPY --exclude=! file /x/", 10, "--exclude"),
        ("COPY --parents [x /x/", 12, "pattern"),
        ("COPY --optional [x /x/", 12, "pattern"),
        ("COPY --optional --from=busybox loop-not-there /x\nCOPY --optional loop /x", 12, "loop"),
        ("RUN false\nCOPY --chmod=rwx file /", 10, "rwx"),
        ("ARG M=9\nCOPY --chmod=$M file /", 10, "9"),
        ("COPY --optionl file /", 10, "--optional"),
        ("ARG S=busybox\nCOPY --from=$S /etc/passwd /", 10, "--from"),
    ],
)
def test_refused(shared: Bench, text: str, code: int, words: str) -> None:
    if not (shared.context / "file").exists():
        shared.write({"file": "f", "dir/a": "a", "loop": "-> loop", "way": "-> dir"})
    said = shared.refused(f"FROM busybox\n{text}\n", code=code)
    assert words in said
    assert "Buildfile:" in said
