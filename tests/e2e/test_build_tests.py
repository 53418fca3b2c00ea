"""TEST: what must succeed on what a stage is, before there is an image; and what is told of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from .harness import Bench


def report(path: Path) -> dict[str, ElementTree.Element]:
    """The cases of a JUnit report, by name."""
    return {case.attrib["name"]: case for case in ElementTree.parse(path).getroot().iter("testcase")}


def test_it_sees_the_stage_as_it_is_there_and_leaves_nothing(bench: Bench) -> None:
    bench.write({"input": "from the context"})
    plain = """
FROM busybox
ENV NAME=value
WORKDIR /w
RUN echo 1 > one
{0}RUN echo 2 > two
USER ann
CMD ["sh"]
{1}"""
    bench.build(plain.format("", ""))
    expected = bench.manifest()
    tests = (
        'TEST [ "$(cat one)" = 1 ] && [ ! -e two ] && [ "$NAME" = value ] && touch trace && rm one\n'
        'TEST ["/bin/sh", "-c", "test -e one && test ! -e trace"]\n',
        "TEST --mount=target=/ctx --network=none --timeout=1m [ -s /ctx/input ] && [ $(id -un) = ann ] && [ -e two ]\n"
        "TEST <<EOF\nset -e\nls /sys/class/net\n[ ! -e trace ]\nEOF\n"
        "TEST --mount=type=tmpfs,target=/t <<EOF\n#!/bin/awk -f\nBEGIN { exit 0 }\nEOF\n",
    )
    done = bench.build(plain.format(*tests))
    assert bench.manifest() == expected
    assert [outcome for name, outcome in done.steps.items() if name.startswith("TEST")] == ["DONE"] * 5
    assert not any("TEST" in line for line in bench.history())
    bench.assert_whole()


def test_it_is_cached_until_what_it_stands_on_changes(bench: Bench) -> None:
    text = "FROM busybox\nCOPY input /\nTEST grep -q good /input\nRUN echo > /later\n"
    bench.write({"input": "good"})
    bench.build(text)
    assert list(bench.build(text).steps.values()) == ["CACHED"] * 3
    assert bench.build(text.replace("/later", "/other")).steps["TEST grep -q good /input"] == "CACHED"
    assert bench.build(text, "--no-cache").steps["TEST grep -q good /input"] == "DONE"
    bench.write({"input": "good, and more"})
    assert bench.build(text).steps["TEST grep -q good /input"] == "DONE"
    bench.write({"input": "bad"})
    for _ in range(2):  # a failure is no result
        assert bench.build(text, code=1).steps["TEST grep -q good /input"] == "FAILED"


def test_a_run_of_the_same_words_is_another_step(bench: Bench) -> None:
    bench.build("FROM busybox\nTEST echo > /f\n")
    done = bench.build("FROM busybox\nRUN echo > /f\n")
    assert list(done.steps.values()) == ["DONE"]
    assert "f" in bench.files()
    assert list(bench.build("FROM busybox\nTEST echo > /f\n").steps.values()) == ["CACHED"]


def test_one_that_fails_keeps_the_image_from_being_named_and_written(bench: Bench) -> None:
    out = bench.place / "out.tar"
    bench.build("FROM busybox\nRUN echo > /f\n")
    before = bench.manifest()
    said = bench.refused("FROM busybox\nTEST echo why; exit 3\nRUN echo > /g\n", "--output", f"type=oci,dest={out}", code=1)
    assert "Buildfile:2" in said
    assert "the test failed" in said
    assert "exit code 3" in said
    assert "| why" in said
    assert bench.manifest() == before
    assert not out.exists()
    assert bench.run("images", "-q").out.count("\n") == 2
    # What was built beside it is there for the next build.
    assert bench.build("FROM busybox\nTEST true\nRUN echo > /g\n").steps["RUN echo > /g"] == "CACHED"


def test_all_are_heard_and_all_that_fail_are_named(bench: Bench) -> None:
    path = bench.place / "report.xml"
    text = """
FROM busybox AS unused
TEST false
FROM busybox AS base
TEST --timeout=1m echo one && echo "<two> & \\"three\\"" && printf '\\033[31mred\\n' && exit 4
FROM base AS last
TEST true
RUN echo > /f
TEST test -d /f
"""
    done = bench.build(text, "--output", f"type=junit,dest={path}", code=1)
    assert "2 tests failed" in done.err
    assert "Buildfile:5: the command ended with exit code 4" in done.err
    assert "Buildfile:9: the command ended with exit code 1" in done.err
    assert "TEST false" not in done.steps
    assert done.steps["RUN echo > /f"] == "DONE"
    suites = ElementTree.parse(path).getroot()
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [("base", "1", "1"), ("last", "2", "1")]
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("3", "2", "0")
    cases = report(path)
    (failure,) = cases["TEST test -d /f"].findall("failure")
    assert failure.get("message") == "the command ended with exit code 1"
    assert (cases["TEST test -d /f"].get("classname"), cases["TEST test -d /f"].get("line")) == ("last", "9")
    assert float(cases["TEST true"].get("time", "")) >= 0
    assert list(cases["TEST true"]) == []
    (loud,) = [case for name, case in cases.items() if "exit 4" in name]
    assert '<two> & "three"' in (loud.findtext("failure") or "")
    assert "red" in (loud.findtext("failure") or "")


def test_the_report_says_what_was_cached(bench: Bench) -> None:
    path = bench.place / "report.xml"
    text = "FROM busybox\nTEST true\nTEST echo\n"
    bench.build(text)
    done = bench.build(text.replace("TEST echo", "TEST echo new"), "--output", f"type=junit,dest={path}")
    assert sorted(done.steps.values()) == ["CACHED", "DONE"]
    cases = report(path)
    assert [each.attrib for each in cases["TEST true"].iter("property")] == [{"name": "cached", "value": "true"}]
    assert list(cases["TEST echo new"].iter("property")) == []
    done = bench.run("build", "-q", "--output", "type=junit,dest=-", ".")
    assert done.out.startswith("<?xml")


def test_a_step_that_fails_leaves_the_others_untold(bench: Bench) -> None:
    path = bench.place / "report.xml"
    said = bench.refused("FROM busybox\nRUN exit 5\nTEST true\n", "--output", f"type=junit,dest={path}", code=1)
    assert "exit code 5" in said
    assert report(path)["TEST true"].find("skipped") is not None


def test_later_steps_do_not_wait_for_it(bench: Bench) -> None:
    # The test ends only when the step behind it has written into their cache; the step ends at once.
    mount = "--mount=type=cache,id=meet,target=/meet"
    done = bench.build(f"FROM busybox\nTEST {mount} until [ -e /meet/step ]; do usleep 10000; done\nRUN {mount} touch /meet/step\n")
    assert set(done.steps.values()) == {"DONE"}


def test_with_one_worker_it_comes_last(bench: Bench) -> None:
    mount = "--mount=type=cache,id=order,target=/c"
    steps = "".join(f"RUN {mount} echo step{number} >> /c/log\nTEST {mount} echo test{number} >> /c/log\n" for number in range(3))
    bench.build(f"FROM busybox\n{steps}", "--parallel", "1")
    bench.build(f"FROM busybox\nRUN {mount} cp /c/log /log\n")
    assert bench.files()["log"].data.split()[:3] == [b"step0", b"step1", b"step2"]
    assert len(bench.files()["log"].data.split()) == 6


def test_it_has_what_a_run_has(bench: Bench) -> None:
    saved = bench.place / "saved"
    said = bench.refused("FROM busybox\nTEST --timeout=300ms sleep 1000\n", code=1)
    assert "--timeout of 0.3 s" in said
    text = "FROM busybox\nTEST --on-failure=save=/report --retry=1 echo x > /report; false\n"
    bench.build(text, "--failure-dir", saved, code=1)
    assert (saved / "line-2/report").read_text() == "x\n"
    mounts = "--mount=from=a,source=/made,target=/m --mount=type=secret,id=s,env=S"
    text = f'FROM busybox AS a\nRUN echo > /made\nFROM busybox\nTEST {mounts} [ -e /m ] && [ "$S" = v ]\n'
    bench.build(text, "--secret", "id=s,env=S", environ={"S": "v"})


def test_it_reads_a_named_context_that_nothing_else_reads(bench: Bench) -> None:
    other = bench.place / "other"
    other.mkdir()
    (other / "expected").write_text("right\n")
    text = "FROM busybox\nTEST --mount=from=other,target=/m grep right /m/expected\n"
    bench.build(text, "--build-context", f"other={other}")
    assert list(bench.build(text, "--build-context", f"other={other}").steps.values()) == ["CACHED"]
    (other / "expected").write_text("wrong\n")
    bench.refused(text, "--build-context", f"other={other}", code=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("TEST", "TEST without a command"),
        ("TEST []", "TEST without a command"),
        ("TEST --mont=target=/x true", "did you mean --mount?"),
        ("TSET true", "did you mean TEST?"),
        ("ONBUILD TEST true", "can't be a trigger"),
        ("TEST --mount=type=secret,id=none,required true", "--secret id=none"),
        ("TEST <<EOF\nnever ends", "EOF"),
    ],
)
def test_what_is_refused(shared: Bench, text: str, words: str) -> None:
    said = shared.refused(f"FROM busybox\n{text}\n", code=10)
    assert words in said
    assert "Buildfile:2" in said


def test_a_report_needs_a_place(shared: Bench) -> None:
    shared.write({"Buildfile": "FROM busybox\nTEST true\n"})
    assert "dest=FILE" in shared.run("build", "--output", "type=junit", ".", code=2).err
    assert len(shared.run("build", "--output", "type=junit,dest=/proc/nope/x", ".", code=2).errors) == 1
