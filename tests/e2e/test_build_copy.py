"""COPY and ADD through the command line: sources, destinations, owners, modes, archives, heredocs, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from .harness import EPOCH, Bench


def archive(names: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.mode = len(data), EPOCH + 5, 7, 0o600
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_destinations(bench: Bench) -> None:
    bench.write({"file": "f", "other": "o", "dir/a": "a", "dir/sub/b": "b", "dir/empty/": "", "x y": "blank", "*star": "star"})
    bench.build(r"""
FROM busybox
WORKDIR /w
COPY file .
COPY file renamed
COPY file new/dir/
COPY file /abs
COPY file other many/
COPY dir indir
COPY dir/ .
COPY dir/* globbed/
COPY d?r/[a-b] class/
COPY nothing* file some/
COPY ["x y", "spaces/"]
COPY [*]star literal/
COPY \*star escaped/
COPY . all
ADD file /added
COPY file ../up
COPY ./dir/../file /dotted
COPY ../../file /above
COPY /file /slashed
WORKDIR /w/unnamed
COPY file "$nothing"
COPY dir other $nothing
""")
    files = bench.files()
    expected = {
        "w/file", "w/renamed", "w/new/dir/file", "abs", "w/many/file", "w/many/other", "w/indir/a", "w/indir/sub/b", "w/indir/empty",
        "w/a", "w/sub/b", "w/empty", "w/globbed/a", "w/globbed/b", "w/class/a", "w/some/file", "w/spaces/x y", "w/literal/*star",
        "w/escaped/*star", "w/all/dir/sub/b", "w/all/Buildfile", "added", "up", "above", "dotted", "slashed",
        "w/unnamed/file", "w/unnamed/a", "w/unnamed/other",
    }  # fmt: skip
    assert expected <= set(files), expected - set(files)
    assert "w/globbed/empty" not in files
    assert "w/indir/dir" not in files
    assert {files[name].info.mtime for name in expected} == {EPOCH}


def test_owners_and_modes(bench: Bench) -> None:
    bench.write({"file": "f", "dir/a": "a", "dir/run.sh": "#!"})
    os.chmod(bench.context / "dir/run.sh", 0o755)
    os.chown(bench.context / "file", 1234, 1234)
    os.chmod(bench.context / "file", 0o4711)
    bench.build("""
FROM busybox
RUN echo passwd > /owned && chown bob:staff /owned && chmod 604 /owned
FROM busybox
USER ann
COPY file /plain
COPY --chown=ann file /ann
COPY --chown=bob:staff --chmod=640 dir /bob
COPY --chown=4711 file /number
COPY --chown=1:2 --chmod=u=rwx,g=rX,o= dir /symbolic
COPY --from=0 /owned /kept
COPY --from=0 --chown=0 --chmod=0777 /owned /changed
COPY --chown=ann <<E /heredoc
x
E
ADD --chown=ann:ann --chmod=700 file /made/by/add
""")
    files = bench.files()

    def owner(name: str) -> tuple[int, int, int]:
        info = files[name].info
        return (info.uid, info.gid, info.mode)

    assert owner("plain") == (0, 0, 0o4711)
    assert owner("ann") == (1000, 1001, 0o4711)
    assert owner("bob")[:2] == (1002, 50)
    assert owner("bob/a") == owner("bob/run.sh") == (1002, 50, 0o640)
    assert owner("number") == (4711, 4711, 0o4711)
    assert owner("symbolic/run.sh") == (1, 2, 0o750)
    assert owner("symbolic/a") == (1, 2, 0o750)
    assert owner("kept") == (1002, 50, 0o604)
    assert owner("changed") == (0, 0, 0o777)
    assert owner("heredoc") == (1000, 1001, 0o644)
    assert owner("made/by/add") == (1000, 1001, 0o700)
    assert owner("made/by")[:2] == (1000, 1001)


def test_symlinks(bench: Bench) -> None:
    bench.write({"real": "r", "link": "-> real", "broken": "-> nowhere", "dir/f": "f", "dirlink": "-> dir", "dir/in": "-> ../real"})
    bench.build("""
FROM busybox
RUN mkdir /target && ln -s target /alias && ln -s /target /absolute && ln -s ../../../../target /climbs
COPY link /followed
COPY dir /dir
COPY dirlink /dirlink
COPY real /alias/
COPY real /absolute/two
COPY real /climbs/three
COPY . /all
RUN ln -s /etc/passwd /evil
COPY real /evil
""")
    files = bench.files()
    assert files["followed"].info.isreg()
    assert files["dir/in"].info.linkname == "../real"
    assert files["dirlink/f"].data == b"f"
    assert {"target/real", "target/two", "target/three"} <= set(files)
    assert files["all/broken"].info.linkname == "nowhere"
    assert files["all/dirlink"].info.issym()
    assert files["alias"].info.issym()
    assert files["etc/passwd"].data == b"r"


def test_archives_are_unpacked_by_add_alone(bench: Bench) -> None:
    plain = archive({"a": b"A", "d/b": b"B"})
    bench.write({"t.tar": plain, "t.tgz": archive({"gz": b"G"}, "w:gz"), "t.txz": archive({"xz": b"X"}, "w:xz"), "fake.tar": "no tar"})
    bench.write({"t.bz": archive({"bz": b"Z"}, "w:bz2")})
    bench.build("""
FROM busybox
ADD t.tar t.tgz t.txz t.bz fake.tar /into/
COPY t.tar /copied
ADD t.tar /asdir
ADD --chown=ann t.tar /owned/
""")
    files = bench.files()
    assert (files["into/a"].data, files["into/d/b"].data) == (b"A", b"B")
    assert (files["into/gz"].data, files["into/xz"].data, files["into/bz"].data) == (b"G", b"X", b"Z")
    assert files["into/fake.tar"].data == b"no tar"
    assert files["copied"].data == plain
    assert files["asdir/a"].data == b"A"
    assert (files["into/a"].info.uid, files["into/a"].info.mode, files["into/a"].info.mtime) == (7, 0o600, EPOCH)
    assert files["owned/a"].info.uid == 1000


def test_heredocs(bench: Bench) -> None:
    bench.build(r"""
FROM busybox
ARG WHO=world
COPY <<one.txt <<-"two.txt" /texts/
hello $WHO
one.txt
	not $WHO
	two.txt
COPY <<EOF /single
a \$b "c"
EOF
COPY --chmod=755 <<'EOF' /bin/script
#!/bin/sh
echo "$1"
EOF
RUN script ran > /out
""")
    files = bench.files()
    assert files["texts/one.txt"].data == b"hello world\n"
    assert files["texts/two.txt"].data == b"not $WHO\n"
    assert files["single"].data == b'a $b "c"\n'
    assert files["out"].data == b"ran\n"


def test_files_and_directories_do_not_change_into_each_other(bench: Bench) -> None:
    bench.write({"f": "f", "d/x": "x"})
    for text, words in (
        ("RUN mkdir /etc/f\nCOPY d/x /etc/f\nRUN rm -r /etc/f; echo > /etc/f\nCOPY d /etc/f", "etc/f"),
        ("COPY d/x /etc/passwd/", "passwd"),
        ("COPY d /etc/passwd", "passwd"),
    ):
        said = bench.refused(f"FROM busybox\n{text}\n", code=10)
        assert words in said
        assert "Buildfile:" in said
    bench.build("FROM busybox\nCOPY f /etc\nCOPY d /etc\n")
    assert {"etc/f", "etc/x"} <= set(bench.files())
    bench.assert_whole()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("COPY missing /", 12, "missing"),
        ("COPY fil /", 12, "file"),
        ("COPY ../x /", 12, "outside"),
        ("COPY dir/../../x /", 12, "outside"),
        ("COPY escape /", 12, "escape"),
        ("COPY escape/passwd /", 12, "escape"),
        ("COPY file", 10, "destination"),
        ("COPY file dir /x", 10, "directory"),
        ("COPY --chown=nobody-here file /", 10, "nobody-here"),
        ("COPY --chmod=9 file /", 10, "9"),
        ("COPY --from=busybox /missing /", 12, "missing"),
        ("COPY --checksum=x file /", 10, "checksum"),
        ("COPY file/x /", 12, "directory"),
        ("COPY [a- /", 12, "pattern"),
        ("COPY <<EOF\nx\nEOF", 10, "destination"),
        ('COPY ["file" "/"]', 12, "JSON"),
        ('COPY ["file", "other" /x/', 12, "JSON"),
    ],
)
def test_copies_that_are_refused(shared: Bench, text: str, code: int, words: str) -> None:
    if not (shared.context / "file").exists():
        shared.write({"file": "f", "dir/a": "a", "escape": "-> ../../../../../../../../etc"})
    said = shared.refused(f"FROM busybox\n{text}\n", code=code)
    assert words in said
    assert "Buildfile:2" in said


def test_a_loop_of_symlinks_is_said(bench: Bench) -> None:
    bench.write({"loop": "-> loop"})
    said = bench.refused("FROM busybox\nCOPY loop /\n", code=12)
    assert "loop" in said


def test_the_ignore_file(bench: Bench) -> None:
    files = {"keep": "", "drop": "", "d/a.log": "", "d/b.txt": "", "d/e/c.log": "", "!bang": "", "secret/key": "", "secret/public": ""}
    bench.write({**files, ".dockerignore": "# comment\ndrop\n**/*.log\n!d/e/c.log\n/secret/*\n!secret/public\n.dockerignore\n"})
    bench.build("FROM busybox\nCOPY . /all/\nCOPY secret /s\n")
    seen = {name[4:] for name in bench.files() if name.startswith("all/")}
    assert {"keep", "d", "d/b.txt", "d/e", "d/e/c.log", "!bang", "secret", "secret/public", "Buildfile"} == seen
    assert "s/public" in bench.files()
    said = bench.refused("FROM busybox\nCOPY secret/key /\n", code=12)
    assert "line 5 of .dockerignore" in said
    # one beside the Buildfile takes its place
    (bench.context / "Buildfile.dockerignore").write_text("*\n!keep\n")
    bench.build("FROM busybox\nCOPY . /all/\n")
    assert {name[4:] for name in bench.files() if name.startswith("all/")} == {"keep"}
