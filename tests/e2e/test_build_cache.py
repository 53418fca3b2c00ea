"""What makes a step a hit and what makes it a miss."""

from __future__ import annotations

import os
import shutil

from .harness import Bench


def test_times_do_not_count_but_content_modes_and_names_do(bench: Bench) -> None:
    bench.write({"a": "1", "d/b": "2"})
    text = "FROM busybox\nCOPY a /\nCOPY d /d\nRUN true\n"
    bench.build(text)

    def outcome() -> str:
        return "".join(word[0] for word in bench.build(text).steps.values())

    os.utime(bench.context / "a", (5, 5))
    os.utime(bench.context / "d", (5, 5))
    os.chown(bench.context / "a", 77, 77)
    shutil.copytree(bench.context, bench.place / "copy")
    shutil.rmtree(bench.context)
    (bench.place / "copy").rename(bench.context)
    (bench.context / "unrelated").write_text("x")
    assert outcome() == "CCC"
    (bench.context / "d/b").write_text("3")
    assert outcome() == "CDD"
    os.chmod(bench.context / "d/b", 0o600)
    assert outcome() == "CDD"
    (bench.context / "d/c").touch()
    assert outcome() == "CDD"
    (bench.context / "d/c").unlink()
    assert outcome() == "CCC"
    (bench.context / "a").write_text("2")
    assert outcome() == "DDD"
    (bench.context / "a").write_text("1")
    assert outcome() == "CCC"
    (bench.context / "d/b").unlink()
    (bench.context / "d/b").symlink_to("../a")
    assert outcome() == "CDD"


def test_the_instruction_and_its_surroundings_count(bench: Bench) -> None:
    def outcome(text: str, *arguments: str) -> str:
        return "".join(word[0] for word in bench.build(f"FROM busybox\n{text}", *arguments).steps.values())

    assert outcome("RUN echo a\nRUN echo b\n") == "DD"
    assert outcome("# comment\n\nRUN  echo a\nLABEL x=1\nEXPOSE 1\nCMD y\nRUN echo b\n") == "CC"
    assert outcome("RUN echo A\nRUN echo b\n") == "DD"
    assert outcome("RUN echo a\nUSER ann\nRUN echo b\n") == "CD"
    assert outcome("RUN echo a\nENV X=1\nRUN echo b\n") == "CD"
    assert outcome("RUN echo a\nARG X\nRUN echo b\n") == "CC"
    assert outcome("ARG Y=1\nRUN echo a\n") == "D"
    assert outcome('RUN ["/bin/sh", "-c", "echo a"]\n') == "C"
    assert outcome('SHELL ["/bin/ash", "-c"]\nRUN echo a\n') == "D"
    assert outcome("RUN --network=none echo a\n") == "D"
    assert outcome("RUN echo a\nRUN echo b\n", "--source-date-epoch", "5") == "DD"
    assert outcome("RUN echo a\nRUN echo b\n", "--no-cache") == "DD"
    assert outcome("RUN echo a\nRUN echo b\n") == "CC"


def test_what_other_stages_give_counts_and_nothing_else_of_them(bench: Bench) -> None:
    text = """
FROM busybox AS made
ARG V=1
RUN echo $V > /noise && echo fixed > /out && mkdir /dir && echo $V > /dir/f
FROM busybox
COPY --from=made /out /out
RUN --mount=from=made,source=/out,target=/m cat /m > /copy
COPY --from=made /dir /dir
"""
    steps = ["COPY --from=made /out /out", "RUN --mount=from=made,source=/out,target=/m cat /m > /copy", "COPY --from=made /dir /dir"]

    def outcome(*arguments: str) -> str:
        done = bench.build(text, *arguments).steps
        return "".join(done[step][0] for step in steps)

    assert outcome() == "DDD"
    assert outcome("--build-arg", "V=2") == "CCD"
    assert bench.files()["dir/f"].data == b"2\n"
    assert outcome() == "CCC"
    assert bench.files()["dir/f"].data == b"1\n"


def test_the_context_of_a_mount_and_the_ignore_file_count(bench: Bench) -> None:
    bench.write({"src/a": "1", "src/b": "1", "other": "1"})
    text = "FROM busybox\nRUN --mount=source=src,target=/s cat /s/* > /all\n"

    def outcome() -> str:
        return "".join(word[0] for word in bench.build(text).steps.values())

    assert outcome() == "D"
    (bench.context / "other").write_text("2")
    assert outcome() == "C"
    (bench.context / "src/b").write_text("2")
    assert outcome() == "D"
    assert bench.files()["all"].data == b"12"
    bench.write({".dockerignore": "src/b\n"})
    assert outcome() == "D"
    assert bench.files()["all"].data == b"1"
    bench.write({".dockerignore": "src/b\nother\n"})
    assert outcome() == "C"


def test_a_child_of_a_rebuilt_parent_that_differs_is_never_a_hit(bench: Bench) -> None:
    text = "FROM busybox\nRUN head -c 16 /dev/urandom | od -An -tx1 > /random\nRUN cp /random /copy\n"
    bench.build(text)
    for options in ([], ["--no-cache"]):
        bench.build(text, *options)
        files = bench.files()
        assert files["random"].data == files["copy"].data
    # The parent's blob is gone: it is built again, with other bytes, and the child's record is of the old ones.
    digest = bench.manifest()["layers"][-2]["digest"]
    (bench.root / "blobs" / digest.replace(":", "/")).unlink()
    done = bench.build(text)
    files = bench.files()
    assert files["random"].data == files["copy"].data
    assert done.steps["RUN cp /random /copy"] == "DONE"


def test_a_deterministic_rebuilt_parent_lets_its_child_hit(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo same > /same\nRUN cp /same /copy\n"
    bench.build(text)
    digest = bench.manifest()["layers"][-2]["digest"]
    (bench.root / "blobs" / digest.replace(":", "/")).unlink()
    done = bench.build(text)
    assert done.steps == {"RUN echo same > /same": "DONE", "RUN cp /same /copy": "CACHED"}
    bench.assert_whole()


def test_a_failed_step_is_not_remembered(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo first\nRUN --mount=type=cache,target=/c [ -e /c/ready ] || { touch /c/ready; exit 1; }\n"
    bench.build(text, code=1)
    done = bench.build(text)
    assert list(done.steps.values()) == ["CACHED", "DONE"]


def test_a_new_base_is_a_miss(bench: Bench) -> None:
    text = "FROM base\nRUN echo\n"
    bench.build("FROM busybox\nRUN echo 1 > /v\n", "-t", "base")
    bench.build(text)
    bench.build("FROM busybox\nRUN echo 2 > /v\n", "-t", "base")
    assert list(bench.build(text).steps.values()) == ["DONE"]
    bench.build("FROM busybox\nLABEL only=config\nRUN echo 2 > /v\n", "-t", "base")
    assert list(bench.build(text).steps.values()) == ["CACHED"]


def test_stages_may_move_and_be_renamed(bench: Bench) -> None:
    bench.build("FROM busybox AS a\nRUN echo a > /a\nFROM busybox\nCOPY --from=a /a /\n")
    done = bench.build("FROM busybox AS unrelated\nFROM busybox AS b\nRUN echo a > /a\nFROM busybox\nCOPY --from=b /a /\n")
    assert set(done.steps.values()) == {"CACHED"}


def test_steps_that_left_the_same_are_stood_upon(bench: Bench) -> None:
    same = "FROM busybox\nRUN echo 0\nRUN mkdir /d && touch /d/f\nRUN rm -r /d\nRUN mkdir /d; touch /d/f\nRUN echo 1\n"
    bench.build(same)
    done = bench.build(f"{same}RUN ls /d\n")
    assert list(done.steps.values()) == ["CACHED"] * 5 + ["DONE"]
    assert done.output == ["f"]
    bench.assert_whole()
