"""``imgbuild blame``: who wrote a path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Bench, copied
from .servers import serving_files

TEXT = """FROM busybox AS made
COPY src /src
RUN mkdir /out && cat /src/one > /out/one && cp /src/two /out/
FROM busybox
RUN mkdir /d && echo 1 > /d/file && echo 1 > /gone && echo 1 > /kept
COPY main.py other.py /app/
COPY src/two /app/renamed
COPY --from=made /out /out
COPY --from=made /src/one /copied
COPY <<EOF /here
text
EOF
RUN rm -r /d && mkdir /d && echo 2 > /d/file && rm /gone
RUN chmod 700 /app && echo more >> /app/other.py
ENV A=b
"""
FILES = {"src/one": "1", "src/two": "2", "main.py": "1", "other.py": "2"}


@pytest.fixture(scope="module")
def built(shared: Bench) -> Bench:
    """A store with "x"."""
    shared.write(FILES)
    shared.build(TEXT)
    return shared


def _json(bench: Bench, *arguments: str) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(bench.run("blame", "--format", "json", *arguments).out)
    return value


def _told(bench: Bench, *arguments: str) -> list[tuple[str, int, str, str]]:
    return [(each["did"], each["layer"], each["place"], each["source"]) for each in _json(bench, *arguments)]


@pytest.mark.parametrize(
    ("path", "layer", "line", "source"),
    [
        ("/d/file", 8, 13, ""),
        ("kept", 2, 5, ""),
        ("/app/main.py", 3, 6, "main.py"),
        ("/app/other.py", 9, 14, ""),
        ("/app/renamed", 4, 7, "src/two"),
        ("/out/two", 5, 8, "/out/two of --from=made"),
        ("/copied", 6, 9, "/src/one of --from=made"),
        ("/here", 7, 10, "the heredoc EOF"),
        ("/d", 8, 13, ""),
        ("/app", 9, 14, ""),
        ("/d/../kept", 2, 5, ""),
    ],
)
def test_the_line_and_the_input(built: Bench, path: str, layer: int, line: int, source: str) -> None:
    assert _told(built, "x", path) == [("wrote", layer, f"Buildfile:{line}", source)]


def test_through_stages(built: Bench) -> None:
    (two,) = _json(built, "x", "/out/two")
    assert two["via"]["instruction"].startswith("RUN mkdir /out &&")
    assert two["via"]["place"] == "Buildfile:3"
    (copied_,) = _json(built, "x", "/copied")
    assert (copied_["via"]["place"], copied_["via"]["source"]) == ("Buildfile:2", "src/one")
    line = built.run("blame", "x", "/copied").out.splitlines()[1]
    assert "/src/one of --from=made: COPY src /src, Buildfile:2 < src/one" in line


def test_all_that_was_done_to_it(built: Bench) -> None:
    assert _told(built, "--all", "x", "/d/file") == [
        ("wrote", 8, "Buildfile:13", ""), ("deleted", 8, "Buildfile:13", ""), ("wrote", 2, "Buildfile:5", ""),
    ]  # fmt: skip
    assert _told(built, "-a", "x", "/gone") == [("deleted", 8, "Buildfile:13", ""), ("wrote", 2, "Buildfile:5", "")]
    assert _told(built, "-a", "x", "/app") == [("wrote", 9, "Buildfile:14", ""), ("wrote", 3, "Buildfile:6", "")]
    lines = built.run("blame", "-a", "x", "/d/file").out.splitlines()
    assert [line.split()[1:3] for line in lines] == [["DID", "LAYER"], ["wrote", "8"], ["deleted", "/d"], ["wrote", "2"]]


def test_each_file_below(built: Bench) -> None:
    found = {each["path"]: each["layer"] for each in _json(built, "-r", "x", "/app")}
    assert found == {"/app/main.py": 3, "/app/other.py": 9, "/app/renamed": 4}
    assert len(_json(built, "-r", "x", "/")) > 250
    assert built.run("blame", "-r", "x", "/app").out.splitlines()[1].split()[:3] == ["/app/main.py", "wrote", "3"]


def test_by_build(built: Bench) -> None:
    assert _told(built, "build:last", "/kept") == _told(built, "x", "/kept")
    build = _json(built, "x", "/kept")[0]["build"]
    assert _told(built, f"build:{build}", "/kept") == _told(built, "x", "/kept")


def test_images_from_elsewhere(built: Bench, template: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    archive = built.place / "x.tar"
    built.run("save", "-o", archive, "x")
    other = copied(template, tmp_path_factory.mktemp("other") / "bench")
    other.run("load", archive)
    (found,) = _json(other, "x", "/app/main.py")
    assert (found["layer"], found["instruction"], found["place"], found["build"]) == (3, "COPY main.py other.py /app/", "", "")
    assert other.run("blame", "x", "/kept").out.splitlines() == [
        "PATH    DID     LAYER   INSTRUCTION",
        "/kept   wrote   2       RUN /bin/sh -c mkdir /d && echo 1 > /d/file && echo 1 > /...",
    ]
    base = json.loads(other.run("blame", "--format", "json", "busybox", "/bin/ls").out)
    assert [(each["layer"], each["did"]) for each in base] == [(1, "wrote")]


def test_a_base_that_was_built_here(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo 1 > /base\n", "-t", "base")
    first = json.loads(bench.run("blame", "--format", "json", "base", "/base").out)[0]
    bench.build("FROM base\nRUN echo 1 > /top\n")
    again = json.loads(bench.run("blame", "--format", "json", "x", "/base").out)[0]
    assert (again["build"], again["place"], again["layer"]) == (first["build"], "Buildfile:2", 2)


def test_urls(bench: Bench) -> None:
    with serving_files() as server:
        url = server.put("/dir/file.txt", b"hello")
        bench.build(f"FROM busybox\nADD {url} /d/\n")
    (found,) = json.loads(bench.run("blame", "--format", "json", "x", "/d/file.txt").out)
    assert found["source"] == url


def test_no_column_takes_all_the_room(bench: Bench) -> None:
    deep = "/".join(["directory-of-a-long-name"] * 5)
    bench.write({f"{deep}/file": "x"})
    bench.build(f"FROM busybox\nCOPY . /\nRUN true {'and-so-on ' * 20}\nRUN exit 3 {'and-so-on ' * 20}\n", code=1)
    bench.build(f"FROM busybox\nCOPY . /\nRUN echo {'and-so-on ' * 20} > /{deep}/other\n", "-t", "n" * 70)
    blamed = ("blame", "-r", "x", "/directory-of-a-long-name")
    for command in (blamed, ("debug", "--list"), ("builds", "ls"), ("builds", "show"), ("history", "x")):
        lines = bench.run(*command).out.splitlines()
        assert any("..." in line for line in lines), command
        assert max(len(line) for line in lines if "   " in line) < 400, command
    assert f"/{deep}/file" in bench.run(*blamed, "--no-trunc").out
    (found,) = json.loads(bench.run("blame", "--format", "json", "x", f"/{deep}/file").out)
    assert found["path"] == f"/{deep}/file"
    (failed,) = json.loads(bench.run("debug", "--list", "--format", "json").out)
    assert failed["step"].count("and-so-on") == 20



def test_refused(built: Bench) -> None:
    said = built.run("blame", "x", "/gone", code=13).err
    assert "it was deleted by RUN rm -r /d" in said
    assert "--all" in said
    assert "never had" in built.run("blame", "x", "/not/there", code=13).err
    assert "never had" in built.run("blame", "--all", "x", "/not/there", code=13).err
    assert "no directory" in built.run("blame", "-r", "x", "/kept", code=2).err
    assert len(built.run("blame", "nothing", "/", code=13).errors) == 1
    assert len(built.run("blame", "build:nothing", "/", code=13).errors) == 1
    built.run("blame", "x", code=2)
