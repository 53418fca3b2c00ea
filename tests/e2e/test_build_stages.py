"""FROM in all its forms, what stages are built, and the platform."""

from __future__ import annotations

import json

import pytest

from .harness import Bench


def test_stages_by_name_number_and_image(bench: Bench) -> None:
    digest = bench.inspect("busybox")["Digest"]
    done = bench.build(f"""
FROM busybox AS First
RUN echo one > /one
FROM busybox@{digest} AS second
RUN echo two > /two
FROM busybox
RUN false # nothing needs this stage
FROM FIRST
COPY --from=SECOND /two /
COPY --from=1 /two /again
COPY --from=busybox:latest /etc/group /group
RUN --mount=from=busybox,target=/mnt cp /mnt/etc/passwd /passwd
""")
    files = bench.files()
    assert files["one"].data == b"one\n"
    assert files["two"].data == files["again"].data == b"two\n"
    assert files["group"].data == files["etc/group"].data
    assert files["passwd"].data == files["etc/passwd"].data
    assert not any("nothing needs" in name for name in done.steps)


def test_a_target_by_name_or_number_and_only_what_it_needs(bench: Bench) -> None:
    text = "FROM busybox AS a\nRUN echo a > /a\nFROM nowhere.invalid/none AS Middle\nFROM a AS c\nRUN echo c > /c\n"
    done = bench.build(text, "--target", "A")
    assert list(done.steps) == ["RUN echo a > /a"]
    done = bench.build(text, "--target", "2")
    assert done.steps == {"RUN echo a > /a": "CACHED", "RUN echo c > /c": "DONE"}
    done = bench.build(text, "--offline")
    assert set(done.steps.values()) == {"CACHED"}
    said = bench.refused(text, "--target", "midle", code=13)
    assert "middle" in said


def test_a_name_used_twice_means_the_stage_before(bench: Bench) -> None:
    bench.build("FROM busybox AS busybox\nRUN echo 1 > /f\nFROM busybox AS two\nRUN echo 2 >> /f\n")
    assert bench.files()["f"].data == b"1\n2\n"


def test_a_stage_from_another_image_keeps_its_config_history_and_layers(bench: Bench) -> None:
    bench.build('FROM busybox\nENV A=1\nRUN echo > /f\nCMD ["a"]\nUSER ann\n', "-t", "base")
    bench.build("FROM base\nRUN id -un > /tmp/who\n")
    assert bench.manifest()["layers"][:2] == bench.manifest("base:latest")["layers"]
    assert bench.history()[:5] == bench.history("base:latest")
    assert bench.config()["Cmd"] == ["a"]
    assert bench.files()["tmp/who"].data == b"ann\n"
    bench.build("FROM base\n")
    assert bench.manifest()["layers"] == bench.manifest("base:latest")["layers"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("FROM\n", 10, "Buildfile:1"),
        ("FROM a b\n", 10, "AS"),
        ("FROM busybox AS 1\n", 10, "name of a stage"),
        ("FROM busybox:UPPER:x\n", 10, "Buildfile:1"),
        ("FROM Busybox\n", 10, "Buildfile:1"),
        ("RUN true\n", 10, "FROM"),
        ("", 10, "FROM"),
        ("# only a comment\n", 10, "FROM"),
        ("FROM busybox AS a\nCOPY --from=a /x /\n", 10, "cycle"),
        ("FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\nFROM b\n", 10, "cycle"),
        ("FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nFROM a\n", 10, "after it is used"),
        ("FROM busybox\nCOPY --from=7 /x /\n", 10, "no stage 7"),
        ("FROM busybox\nCOPY --from=$X /x /\n", 10, "variables"),
        ("FROM busybox\nCOPY --from=scratch /x /\n", 12, "/x"),
        ("FROM no-such-image\n", 13, "no-such-image"),
        ("FROM busybox\nCOPY --from=no-such-image /x /\n", 13, "no-such-image"),
    ],
)
def test_froms_that_are_refused(shared: Bench, text: str, code: int, words: str) -> None:
    said = shared.refused(text, "--offline", code=code)
    assert words in said
    if text.strip() and not text.startswith("#"):
        assert "Buildfile:" in said


def test_index_entries_are_one_per_name_and_the_old_image_stays_untagged(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo 1 > /f\n")
    first = bench.inspect()["Digest"]
    bench.build("FROM busybox\nRUN echo 2 > /f\n", "-t", "y:1.0", "-t", "example.org/team/y")
    index = json.loads((bench.root / "index.json").read_text())["manifests"]
    names = sorted(entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "-") for entry in index)
    assert names == ["-", "busybox:latest", "example.org/team/y:latest", "x:latest", "y:1.0"]
    assert [entry["digest"] for entry in index if not entry.get("annotations")] == [first]
