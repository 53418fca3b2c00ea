"""Named contexts: what stands in the place of an image, of a stage, and of a ``from``; and what can't."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .harness import Bench


def _directory(bench: Bench, name: str, files: dict[str, str]) -> Path:
    directory = bench.place / name
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(content)
    return directory


def _data(bench: Bench, path: str) -> bytes:
    return bench.files()[path].data


def test_copy_from_a_directory_context_reads_it_in_place(bench: Bench) -> None:
    lib = _directory(bench, "lib", {"a.txt": "one", "sub/b.txt": "two"})
    text = "FROM scratch\nCOPY --from=lib a.txt sub /out/\n"
    bench.build(text, "--build-context", f"lib={lib}")
    assert (_data(bench, "out/a.txt"), _data(bench, "out/b.txt")) == (b"one", b"two")
    info = bench.files()["out/a.txt"].info
    assert (info.uid, info.gid, info.mtime) == (0, 0, 0)
    assert bench.build(text, "--build-context", f"lib={lib}").steps == {"COPY --from=lib a.txt sub /out/": "CACHED"}
    os.utime(lib / "a.txt", (1, 1))
    assert bench.build(text, "--build-context", f"lib={lib}").steps == {"COPY --from=lib a.txt sub /out/": "CACHED"}
    (lib / "a.txt").write_text("changed")
    assert bench.build(text, "--build-context", f"lib={lib}").steps == {"COPY --from=lib a.txt sub /out/": "DONE"}
    assert _data(bench, "out/a.txt") == b"changed"


def test_a_directory_context_has_its_own_ignore_file(bench: Bench) -> None:
    lib = _directory(bench, "lib", {"a.txt": "one", "b.log": "two", ".dockerignore": "*.log\n"})
    bench.write({".dockerignore": "*.txt\n"})
    bench.build("FROM scratch\nCOPY --from=lib . /out/\n", "--build-context", f"lib={lib}")
    assert set(bench.files()) - {"."} == {"out", "out/a.txt", "out/.dockerignore"}
    said = bench.refused("FROM scratch\nCOPY --from=lib b.log /\n", "--build-context", f"lib={lib}", code=12)
    assert "'b.log' not found in the build context 'lib'" in said
    assert "line 1 of .dockerignore excludes it" in said


def test_a_relative_directory_is_meant_from_here(bench: Bench) -> None:
    _directory(bench, "context/inner", {"a": "x"})
    bench.build("FROM scratch\nCOPY --from=inner a /\n", "--build-context", "inner=inner")
    assert _data(bench, "a") == b"x"


def test_mounts_read_named_contexts(bench: Bench) -> None:
    lib = _directory(bench, "lib", {"a.txt": "one", "seed/s": "seeded"})
    text = """FROM busybox
RUN --mount=type=bind,from=lib,source=a.txt,target=/in cat /in > /copy
RUN --mount=type=cache,from=lib,source=seed,target=/cache cat /cache/s > /seed
"""
    bench.build(text, "--build-context", f"lib={lib}")
    assert (_data(bench, "copy"), _data(bench, "seed")) == (b"one", b"seeded")
    (lib / "a.txt").write_text("two")
    bench.build(text, "--build-context", f"lib={lib}")
    assert _data(bench, "copy") == b"two"


def test_from_a_directory_context_starts_with_its_files(bench: Bench) -> None:
    root = _directory(bench, "root", {"etc/name": "it"})
    bench.build("FROM base AS one\nENV A=b\nFROM one\nCOPY x /\n".replace("COPY x /", "LABEL a=b"), "--build-context", f"base={root}")
    assert _data(bench, "etc/name") == b"it"
    assert bench.history()[0] == "FROM base"
    assert bench.build(None, "--build-context", f"base={root}").steps == {"FROM base": "CACHED"}


def test_a_context_replaces_a_stage_of_its_name(bench: Bench) -> None:
    built = _directory(bench, "built", {"app": "ready made"})
    text = "FROM busybox AS build\nRUN exit 1\nFROM scratch\nCOPY --from=build app /\n"
    assert bench.build(text, "--build-context", f"build={built}").steps == {"COPY --from=build app /": "DONE"}
    assert _data(bench, "app") == b"ready made"


@pytest.mark.parametrize("written", ["alpine", "alpine:latest", "docker.io/library/alpine", "ALPINE_STAGE"])
def test_an_image_stands_for_a_base_in_every_form_of_its_name(bench: Bench, written: str) -> None:
    name = "alpine_stage" if written == "ALPINE_STAGE" else "alpine"
    text = f"FROM nowhere.invalid/x AS {written}\nFROM {written}\n" if written == "ALPINE_STAGE" else f"FROM {written}\n"
    bench.build(text + "RUN cp /etc/passwd /here\n", "--build-context", f"{name}=docker-image://busybox")
    assert _data(bench, "here").startswith(b"root:")


def test_an_image_context_can_be_copied_from_and_mounted(bench: Bench) -> None:
    text = """FROM busybox
COPY --from=tools /etc/group /group
RUN --mount=from=tools,target=/t cp /t/etc/passwd /passwd
"""
    bench.build(text, "--build-context", "tools=docker-image://docker.io/library/busybox:latest")
    assert _data(bench, "group").startswith(b"root:")
    assert _data(bench, "passwd").startswith(b"root:")
    assert set(bench.build(text, "--build-context", "tools=docker-image://busybox").steps.values()) == {"CACHED"}


def test_the_empty_image_is_a_context(bench: Bench) -> None:
    bench.write({"a": "x"})
    bench.build("FROM busybox\nCOPY a /\n", "--build-context", "busybox=docker-image://scratch")
    assert set(bench.files()) - {"."} == {"a"}


def test_an_oci_layout_is_a_context(bench: Bench) -> None:
    bench.build("FROM scratch\nCOPY Buildfile /one\nENV FROM_LAYOUT=yes\n", "--output", f"type=oci,tar=false,dest={bench.place}/layout")
    bench.run("rmi", "x")
    bench.run("prune", "--all")
    entry = json.loads((bench.place / "layout/index.json").read_text())["manifests"][0]
    text = "FROM base\nCOPY Buildfile /two\n"
    for place in ("layout", "layout:latest", f"layout@{entry['digest']}", f"layout:latest@{entry['digest']}"):
        bench.build(text, "--build-context", f"base=oci-layout://{bench.place}/{place}")
        assert {"one", "two"} <= set(bench.files())
        assert "FROM_LAYOUT=yes" in bench.config()["Env"]
    said = bench.refused(text, "--build-context", f"base=oci-layout://{bench.place}/layout:other", code=13)
    assert "the build context 'base' can't be used" in said
    assert "it has: x:latest" in said
    assert "has no index.json" in bench.refused(text, "--build-context", f"base=oci-layout://{bench.place}/gone", code=13)


def test_the_last_context_of_a_name_counts_and_unused_ones_are_left_alone(bench: Bench) -> None:
    one, two = _directory(bench, "one", {"a": "1"}), _directory(bench, "two", {"a": "2"})
    arguments = ("--build-context", f"lib={one}", "--build-context", f"lib={two}", "--build-context", "far=docker-image://nowhere.invalid/x")
    bench.build("FROM scratch\nCOPY --from=lib a /\n", *arguments)
    assert _data(bench, "a") == b"2"


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("lib", 2, "is not understood"),
        ("=x", 2, "is not understood"),
        ("Lib x=.", 2, "can't be the name of a context"),
        ("lib=docker-image://UPPER", 2, "must be lower-case"),
        ("lib=gone", 12, "'lib' can't be used: gone does not exist"),
        ("lib=Buildfile", 12, "Buildfile is not a directory"),
    ],
)
def test_refused(bench: Bench, value: str, code: int, words: str) -> None:
    assert words in bench.refused("FROM scratch\nCOPY --from=lib a /\n", "--build-context", value, code=code)


def test_what_a_context_lacks_is_said_with_its_name(bench: Bench) -> None:
    lib = _directory(bench, "lib", {"name.txt": ""})
    said = bench.refused("FROM scratch\nCOPY --from=lib nmae.txt /\n", "--build-context", f"lib={lib}", code=12)
    assert "'nmae.txt' not found in the build context 'lib'" in said
    assert "did you mean 'name.txt'?" in said
    assert "Buildfile:2" in said
