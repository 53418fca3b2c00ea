"""INCLUDE and the syntax directive, from the command line."""

from __future__ import annotations

import io
import tarfile

from .harness import Bench


def test_files_are_included(bench: Bench) -> None:
    bench.write(
        {
            "Buildfile": "INCLUDE inc/args\nFROM $BASE AS one\nINCLUDE inc/steps\nFROM one\nLABEL last=$LAST\n",
            "inc/args": "ARG BASE=busybox\n",
            "inc/steps": "# escape=`\nENV PATH_=c:\\x`$y\nRUN echo a `\n > /a\nINCLUDE more/copies\n",
            "inc/more/copies": "COPY <<E data /d/\n$PATH_\nE\n",
            "data": "data",
            ".dockerignore": "inc\n",
        }
    )
    first = bench.build(None)
    files = bench.files()
    assert files["a"].data == b"a\n"
    assert files["d/data"].data == b"data"
    assert files["d/E"].data == b"c:\\x$y\n"
    digest = bench.inspect()["Digest"]
    again = bench.build(None)
    assert set(again.steps.values()) == {"CACHED"}
    assert bench.inspect()["Digest"] == digest
    # Where the lines stand makes no difference to what they make.
    bench.build("FROM busybox AS one\nENV PATH_='c:\\x$y'\nRUN echo a  > /a\nCOPY <<E data /d/\n$PATH_\nE\nFROM one\nLABEL last=\n")
    assert {name: entry.data for name, entry in bench.files().items()} == {name: entry.data for name, entry in files.items()}
    assert first.code == 0


def test_relative_to_the_buildfile_wherever_it_is(bench: Bench) -> None:
    bench.write({"docker/app/Buildfile": "FROM busybox\nINCLUDE ../common\n", "docker/common": "LABEL who=common\n"})
    bench.build(None, "-f", "docker/app/Buildfile")
    assert bench.config()["Labels"] == {"who": "common"}
    bench.build(None, "-f", "-", stdin=b"FROM busybox\nINCLUDE docker/common\nLABEL main=stdin\n")
    assert bench.config()["Labels"] == {"who": "common", "main": "stdin"}
    bench.write({"Buildfile": "FROM busybox\nLABEL who=file\n"})
    bench.build(None, "-f", "-", stdin=b"INCLUDE Buildfile\nLABEL main=stdin\n")
    assert bench.config()["Labels"] == {"who": "file", "main": "stdin"}
    outside = bench.place / "outside"
    outside.mkdir()
    (outside / "Buildfile").write_text("FROM busybox\nINCLUDE inc\n")
    (outside / "inc").write_text("LABEL who=outside\n")
    bench.build(None, "-f", outside / "Buildfile")
    assert bench.config()["Labels"] == {"who": "outside"}


def test_an_error_says_where_and_by_whom(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nINCLUDE sub/a\n", "sub/a": "RUN true\nINCLUDE b\n", "sub/b": "\n\nRUN echo no; exit 3\n"})
    done = bench.run("build", ".", code=1)
    (line,) = done.errors
    assert line.startswith("imgbuild: error: sub/b:3")
    assert "  included by sub/a:2\n  included by Buildfile:2\n" in done.err
    bench.write({"sub/b": "FRMO x\n"})
    done = bench.run("build", ".", code=10)
    assert done.errors == ["imgbuild: error: sub/b:1:1: unknown instruction FRMO"]
    assert "  included by sub/a:2\n  included by Buildfile:2\n" in done.err
    assert "hint: did you mean FROM?" in done.err


def test_nothing_outside_is_read(bench: Bench) -> None:
    (bench.place / "secret").write_text("RUN secret\n")
    bench.write({"link": "-> ../secret", "absolute": f"-> {bench.place}/secret", "here/": "", "inside": "-> here/real"})
    for path in ("link", "absolute", "../secret", "here", "none"):
        bench.write({"Buildfile": f"FROM busybox\nINCLUDE {path}\n"})
        done = bench.run("build", ".", code=10)
        assert done.errors[0].startswith("imgbuild: error: Buildfile:2:9: ")
        assert "RUN secret" not in done.err
    bench.write({"here/real": "LABEL real=1\n"})
    bench.build("FROM busybox\nINCLUDE inside\n")
    assert bench.config()["Labels"] == {"real": "1"}


def test_another_language_is_refused(bench: Bench) -> None:
    text = "# syntax=other/frontend:1\nFROM busybox\nLABEL a=1\n"
    bench.write({"Buildfile": text})
    done = bench.run("build", ".", code=11)
    assert done.errors == ["imgbuild: error: Buildfile:1:3: the language of other/frontend:1 is not known here"]
    bench.build(text, "--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1")
    assert bench.config()["Labels"] == {"a": "1"}
    bench.build("FROM busybox\n", "--build-arg", "BUILDKIT_SYNTAX=other/frontend", code=11)


def test_in_a_context_that_is_fetched(bench: Bench) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        files = {"d/Buildfile": "FROM busybox\nINCLUDE ../inc/a\n", "inc/a": "LABEL who=a\nINCLUDE b\n", "inc/b": "COPY inc/b /\n"}
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    bench.run("build", "-t", "x", "-f", "d/Buildfile", "-", stdin=archive.getvalue())
    assert bench.config()["Labels"] == {"who": "a"}
    assert bench.files()["b"].data == b"COPY inc/b /\n"
    done = bench.run("build", "-", stdin=b"FROM busybox\nINCLUDE Buildfile\n", code=10)
    assert len(done.errors) == 1
    done = bench.run("build", "-", stdin=b"FROM busybox\nINCLUDE other\n", code=10)
    assert "stdin:2:9" in done.errors[0]
