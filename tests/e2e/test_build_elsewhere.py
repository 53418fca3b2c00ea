"""Build contexts that are no directory here: stdin, tars, URLs, repositories; and hostile ones of each."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from .harness import Bench, ended, wait_for_line
from .servers import Files, serving_files, serving_git

BUILDFILE = "FROM scratch\nCOPY . /all/\n"


@pytest.fixture
def web() -> Iterator[Files]:
    with serving_files() as files:
        yield files


def _tar(files: dict[str, str | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mtime = len(content), 1234, 1234, 1_000_000
            tar.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _built(bench: Bench) -> dict[str, bytes]:
    return {name: entry.data for name, entry in bench.files().items() if entry.info.isreg()}


def _build(bench: Bench, context: str, *arguments: str, stdin: bytes = b"", code: int = 0) -> str:
    done = bench.run("build", "--progress=plain", "-t", "x", *arguments, context, stdin=stdin, code=code)
    assert [name for name in os.listdir(bench.root / "tmp") if name.startswith("context")] == []
    return done.err


def test_a_buildfile_on_stdin_has_nothing_beside_it(bench: Bench) -> None:
    bench.write({"here": "x"})
    _build(bench, "-", stdin=b"FROM busybox\nRUN echo hi > /hi\n")
    assert _built(bench)["hi"] == b"hi\n"
    assert "'here' not found in the build context" in _build(bench, "-", stdin=b"FROM scratch\nCOPY here /\n", code=12)
    assert "stdin:1" in _build(bench, "-", stdin=b"FORM x\n", code=10)
    assert "-f other names another" in _build(bench, "-", "-f", "other", stdin=b"FROM scratch\n", code=2)
    assert "can't be both" in _build(bench, "-", "-f", "-", stdin=b"FROM scratch\n", code=2)
    assert "stdin has no instructions" in _build(bench, "-", stdin=b"", code=10)


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["tar", "gz", "bz2", "xz", "zst"],
)
def test_a_tar_on_stdin(bench: Bench, compress: object) -> None:
    assert callable(compress)
    data = compress(_tar({"./Dockerfile": BUILDFILE, "a/b": "data", ".dockerignore": "Dockerfile\n"}))
    said = _build(bench, "-", stdin=data)
    assert "DONE" in said
    assert _built(bench) == {"all/a/b": b"data", "all/.dockerignore": b"Dockerfile\n"}
    info = bench.files()["all/a/b"].info
    assert (info.uid, info.mtime) == (0, 0)
    assert "CACHED" in _build(bench, "-", stdin=data)


def test_another_buildfile_and_its_ignore_file_are_meant_inside(bench: Bench) -> None:
    files = {"Buildfile": "FROM nothing", "ci/B": BUILDFILE, "ci/B.dockerignore": "ci\n*.log", ".dockerignore": "*", "x.log": "", "y": "y"}
    (bench.place / "context.tar").write_bytes(_tar(dict(files)))
    _build(bench, str(bench.place / "context.tar"), "-f", "ci/B")
    assert set(_built(bench)) == {"all/Buildfile", "all/.dockerignore", "all/y"}
    assert "gone does not exist in it" in _build(bench, str(bench.place / "context.tar"), "-f", "gone", code=10)


def test_a_buildfile_on_stdin_for_a_tar(bench: Bench) -> None:
    (bench.place / "context.tar").write_bytes(_tar({"y": "y"}))
    _build(bench, str(bench.place / "context.tar"), "-f", "-", stdin=BUILDFILE.encode())
    assert _built(bench) == {"all/y": b"y"}
    assert "there is no Buildfile in it" in _build(bench, str(bench.place / "context.tar"), code=10)


def test_includes_are_inside(bench: Bench) -> None:
    data = _tar({"Buildfile": "FROM scratch\nINCLUDE more\n", "more": "COPY y /\n", "y": "y"})
    _build(bench, "-", stdin=data)
    assert _built(bench) == {"y": b"y"}
    outside = bench.place / "secret"
    outside.write_text("COPY y /\n")
    data = _tar({"Buildfile": "FROM scratch\nINCLUDE more\n", "more": _link("more", str(outside)), "y": "y"})
    assert "can't read more" in _build(bench, "-", stdin=data, code=10)


def test_a_file_that_is_no_tar(bench: Bench) -> None:
    bench.write({"file": "text"})
    said = _build(bench, "file", code=12)
    assert "the build context 'file' can't be used: it is neither a directory nor a tar" in said
    assert "does not exist" in _build(bench, "gone", code=12)
    assert "'depth' is not known" in _build(bench, "https://example.com/x.git?depth=1", code=2)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../up": "x"}, "outside of the directory"),
        ({"a/../../up": "x"}, "outside of the directory"),
        ({"out": _link("out", "../../../../../etc"), "out/x": "x"}, ""),
        ({"/abs": "x"}, ""),
        ({"hard": _link("hard", "/etc/passwd", tarfile.LNKTYPE)}, "which is not there"),
        ({"null": _link("null", "", tarfile.CHRTYPE)}, ""),
    ],
)
def test_hostile_tars_stay_inside(bench: Bench, files: dict[str, str | tarfile.TarInfo], words: str) -> None:
    data = _tar({"Buildfile": BUILDFILE, **files})
    before = {path: path.stat().st_mtime_ns for path in (Path("/etc"), bench.place, bench.root.parent)}
    said = _build(bench, "-", stdin=data, code=12 if words else 0)
    assert words in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not any("passwd" in name for name in (bench.files() if not words else {}))


def test_links_lead_nowhere_out_of_a_tar(bench: Bench) -> None:
    secret = bench.place / "secret"
    secret.write_text("FROM busybox\nRUN echo leaked\n")
    data = _tar({"Buildfile": _link("Buildfile", str(secret))})
    assert "there is no Buildfile in it" in _build(bench, "-", stdin=data, code=10)
    data = _tar({"Buildfile": "FROM scratch\nCOPY s /s\n", "s": _link("s", str(secret))})
    assert "leaked" not in _build(bench, "-", stdin=data, code=12)
    data = _tar({"Buildfile": BUILDFILE, ".dockerignore": _link(".dockerignore", str(secret))})
    _build(bench, "-", stdin=data)


def test_a_url_of_a_tar_or_of_a_buildfile(bench: Bench, web: Files) -> None:
    url = web.put("/context.tar.gz", gzip.compress(_tar({"Dockerfile": BUILDFILE, "a": "data"})), ETag='"1"')
    _build(bench, url)
    assert _built(bench)["all/a"] == b"data"
    _build(bench, url, "--offline")
    assert len(web.paths()) == 1
    url = web.put("/Buildfile", b"FROM scratch\nCOPY context /c\n")
    _build(bench, url)
    assert _built(bench) == {"c": b"FROM scratch\nCOPY context /c\n"}
    url = web.put("/bad", b"FROM scratch\nNOPE\n")
    assert f"{url}:2" in _build(bench, url, code=10)
    said = _build(bench, f"{web.url}/gone", code=12)
    assert f"the build context '{web.url}/gone' can't be used" in said
    assert "the server answered 404" in said


def test_a_password_in_the_url_is_shown_to_nobody(bench: Bench, web: Files) -> None:
    url = web.url.replace("http://", "http://me:let-me-in@")
    web.put("/file", b"FROM scratch\nCOPY gone /\n")
    web.put("/bad", b"FROM scratch\nCOPY\n")
    for name, code in (("gone.tar", 12), ("gone.git", 12), ("file", 12), ("bad", 10)):
        said = _build(bench, f"{url}/{name}", code=code)
        assert "let-me-in" not in said
        assert f"{web.url}/{name}" in said


def test_a_repository_with_ref_and_directory(bench: Bench, tmp_path: Path) -> None:
    with serving_git(tmp_path / "git") as host:
        url = host.make("app")
        files = {"Dockerfile": BUILDFILE, "a": "1", "sub/Dockerfile": "FROM scratch\nCOPY b /\n", "sub/b": "2"}
        commit = host.commit("app", files, tag="v1")
        host.commit("app", {"a": "3", "evil": "-> /etc"})
        _build(bench, url)
        assert _built(bench)["all/a"] == b"3"
        assert not any(".git" in name for name in _built(bench))
        _build(bench, f"{url}#v1:sub")
        assert _built(bench) == {"b": b"2"}
        assert bench.image()["created"].startswith("2020-09-13")
        _build(bench, f"{url}#{commit}")
        assert _built(bench)["all/a"] == b"1"
        _build(bench, f"{url}?tag=v1", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
        assert "all/.git/HEAD" in _built(bench)
        assert "has no ref 'nope'" in _build(bench, f"{url}#nope", code=12)
        assert "has no directory 'none'" in _build(bench, f"{url}#main:none", code=12)
        (host.place / "app.git").rename(host.place / "away.git")
        _build(bench, f"{url}#{commit}")
        assert "can't read the refs" in _build(bench, url, code=12)


def test_named_contexts_from_elsewhere(bench: Bench, web: Files, tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY --from=repo a /a\nCOPY --from=file context /f\n"
    with serving_git(tmp_path / "git") as host:
        url = host.make("app")
        host.commit("app", {"a": "1", ".dockerignore": "a"}, tag="v1")
        arguments = ("--build-context", f"repo={url}#v1", "--build-context", f"file={web.put('/x', b'data')}")
        bench.build(text, *arguments)
        assert _built(bench) == {"a": b"1", "f": b"data"}
        assert set(bench.build(text, *arguments).steps.values()) == {"CACHED"}
        bench.build("FROM repo\nCOPY --from=file . /d/\n", *arguments)
        assert _built(bench) == {"a": b"1", ".dockerignore": b"a", "d/context": b"data"}
        said = bench.refused(text, "--build-context", f"repo={url}#gone", "--build-context", "file=.", code=12)
        assert "the build context 'repo' can't be used" in said


def test_a_killed_build_leaves_no_context(bench: Bench) -> None:
    (bench.place / "context.tar").write_bytes(_tar({"Buildfile": "FROM busybox\nRUN echo started && sleep 1000\n", "y": "y"}))
    with bench.started("build", "--progress=plain", bench.place / "context.tar") as process:
        wait_for_line(process, b"| started")
        ended(process, signal.SIGKILL)
    assert any(name.startswith("context") for name in os.listdir(bench.root / "tmp"))
    bench.run("images")
    bench.assert_whole()


def test_questions_about_a_buildfile_from_elsewhere(bench: Bench, web: Files) -> None:
    text = "ARG V=1\nFROM scratch AS one\nFROM scratch AS two\nCOPY y /\n"
    for context, stdin in (("-", _tar({"Buildfile": text, "y": ""})), (web.put("/B", text.encode()), b"")):
        assert "two" in bench.run("build", "--call=targets", context, stdin=stdin).out
        assert "TARGET: two" in bench.run("build", "--call=outline", context, stdin=stdin).out
        assert "FROM scratch AS one" in bench.run("build", "--call=dockerfile", context, stdin=stdin).out
        bench.run("build", "--check", context, stdin=stdin)
    assert "NOPE" in bench.run("build", "--check", "-", stdin=b"FROM scratch\nNOPE x\n", code=None).err


def test_a_bake_of_contexts_from_elsewhere(bench: Bench, tmp_path: Path) -> None:
    with serving_git(tmp_path / "git") as host:
        url = host.make("app")
        host.commit("app", {"ci/B": "FROM base\nCOPY a /a\nCOPY --from=repo a /b\n", "a": "1"})
        project = f"""targets:
  one: {{context: "{url}", dockerfile: ci/B, contexts: {{base: "target:two", repo: "{url}#main"}}, tags: [x]}}
  two: {{context: context.tar}}
"""
        bench.write({"imgbuild.yaml": project, "context.tar": _tar({"Dockerfile": "FROM scratch\nCOPY y /\n", "y": "y"})})
        bench.run("bake", "one")
        assert _built(bench) == {"a": b"1", "b": b"1", "y": b"y"}
        bench.write({"imgbuild.yaml": f'targets:\n  one: {{context: "{url}#gone"}}\n'})
        said = bench.run("bake", "one", code=12).err
        assert "target one: the build context" in said
        assert "imgbuild.yaml:2" in said
