"""``imgbuild bisect``: after which step a command begins to fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Bench, copied

JOE = "RUN echo 5 > /five && echo joe:x:77:77::/:/bin/sh >> /etc/passwd"
STEPS = f"""FROM busybox
ENV WORD=hello
RUN echo 1 > /one
RUN echo 2 > /two
WORKDIR /app
RUN echo 3 > three
COPY file /app/
RUN rm /two
RUN echo 4 > /four
TEST test -e /four
RUN true
{JOE}
USER joe
CMD ["sh"]
"""


@pytest.fixture(scope="module")
def built(shared: Bench) -> Bench:
    """A store with "x"."""
    shared.write({"file": "1"})
    shared.build(STEPS)
    return shared


def _found(bench: Bench, test: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(bench.run("bisect", "--format", "json", "--test", test, *arguments, code=code).out)
    return value


def _texts(found: dict[str, Any]) -> list[str]:
    return [state["text"] for state in found["first_bad"]]


def _numbers(bench: Bench) -> dict[str, int]:
    """The steps' numbers by their instructions, of the build that is there."""
    shown = [line.partition(" ") for line in bench.build(None).err.splitlines() if line.startswith("#") and "] " in line]
    return {rest.partition("] ")[2]: int(number[1:]) for number, _, rest in shown}


def test_the_step_is_found(built: Bench) -> None:
    found = _found(built, "test -e /two || ! test -e /app/file")
    assert _texts(found) == ["RUN rm /two"]
    assert found["first_bad"][0]["place"] == "Buildfile:8"
    assert found["last_good"]["text"] == "COPY file /app/"
    assert len(found["tested"]) <= 6
    done = built.run("bisect", "--test", "! test -e /four", "x")
    assert done.out.startswith("the first step with which it fails is #")
    assert "RUN echo 4 > /four  (Buildfile:9)" in done.out
    assert "bad: #" in done.err
    assert built.run("bisect", "-q", "--test", "! test -e /four", "x").err == ""
    built.assert_whole()
    assert built.run("ps", "-aq").out == ""


def test_what_is_not_there_at_first(built: Bench) -> None:
    found = _found(built, "cat /two")
    assert _texts(found) == ["RUN rm /two"]
    assert [each["verdict"] for each in found["tested"]][:2] == ["bad", "bad"]


def test_the_environment_of_the_image(built: Bench) -> None:
    assert _texts(_found(built, 'test "$WORD" = hello && test "$(id -un)" != joe')) == [JOE]
    assert _texts(_found(built, 'test "$PWD" != /app')) == ["WORKDIR /app"]
    assert _texts(_found(built, "test $(id -u) = 1000 && ! test -e /four", "--user", "ann")) == ["RUN echo 4 > /four"]


def test_good_and_bad(built: Bench) -> None:
    numbers = _numbers(built)
    good, bad = numbers["RUN echo 1 > /one"], numbers["RUN rm /two"]
    found = _found(built, "! test -e /two || exit 1", "--good", str(good), "--bad", str(bad - 1))
    assert _texts(found) == ["RUN echo 2 > /two"]
    assert _texts(_found(built, "! test -e /one", "--good", "0", "--bad", str(bad))) == ["RUN echo 1 > /one"]
    assert _texts(_found(built, "! test -e /one", f"build:last/{bad}")) == ["RUN echo 1 > /one"]
    assert "before --bad" in built.run("bisect", "--test", "x", "--good", str(bad), "--bad", str(good), code=2).err
    assert "the numbers are: 0, " in built.run("bisect", "--test", "x", "--good", "77", code=13).err
    assert "does not succeed before that" in built.run("bisect", "--test", "test -e /two", "--good", "0", code=14).err


def test_steps_that_can_not_be_tried(built: Bench) -> None:
    found = _found(built, "if test -e /app/file && ! test -e /four; then exit 125; fi; ! test -e /four", code=1)
    assert _texts(found) == ["COPY file /app/", "RUN rm /two", "RUN echo 4 > /four"]
    done = built.run("bisect", "--test", "test -e /app/file && ! test -e /four && exit 125; ! test -e /four", code=1)
    assert done.out.splitlines()[0].endswith("could not be tested:")
    assert len(done.out.splitlines()) == 4


def test_images_from_elsewhere(built: Bench, template: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    built.run("save", "-o", built.place / "x.tar", "x")
    other = copied(template, tmp_path_factory.mktemp("other") / "bench")
    other.run("load", built.place / "x.tar")
    found = _found(other, "! test -e /four", "x")
    assert (found["counts"], found["first_bad"][0]["number"]) == ("layer", 8)
    assert "echo 4 > /four" in _texts(found)[0]
    assert "#8 " in other.run("bisect", "--test", "! test -e /four", "x").out


def test_between_two_builds(bench: Bench) -> None:
    text = "FROM busybox\nENV A={a}\nRUN echo {one} > /one\nCOPY file /\nRUN echo {two} > /two\nRUN cat /one /two > /all\nLABEL l=1\n"
    bench.write({"file": "good"})
    bench.build(text.format(a=1, one=1, two=2), "-t", "good")
    bench.write({"file": "bad"})
    bench.build(text.format(a=2, one=3, two=4), "-t", "bad")
    found = _found(bench, "test $(cat /file) = good", "good", "bad")
    assert (_texts(found), found["counts"]) == (["COPY file /"], "difference")
    assert found["first_bad"][0]["place"] == "Buildfile:4"
    assert _texts(_found(bench, "test $(cat /one) = 1", "build:last~1", "build:last")) == ["RUN echo 3 > /one"]
    assert _texts(_found(bench, "! grep -q 4 /all", "good", "bad")) == ["RUN cat /one /two > /all"]
    assert _texts(_found(bench, "test $A = 1", "good", "bad")) == ["config: env A"]
    bench.build(text.format(a=1, one=1, two=2).replace("COPY file /\n", ""), "-t", "less")
    assert _texts(_found(bench, "test -e /file", "good", "less")) == ["without COPY file /"]
    assert _texts(_found(bench, "! test -e /file", "less", "bad", code=0)) == ["COPY file /"]
    assert "--good and --bad" in bench.run("bisect", "--test", "x", "--good", "1", "good", "bad", code=2).err
    assert "nothing between" in bench.run("bisect", "--test", "x", "good", "good", code=13).err
    assert "does not succeed before" in bench.run("bisect", "--test", "false", "good", "bad", code=14).err


def test_refused(built: Bench, bench: Bench) -> None:
    assert "succeeds in the end" in built.run("bisect", "--test", "true", code=13).err
    assert "does not succeed before" in built.run("bisect", "--test", "false", code=14).err
    assert "can't be tested" in built.run("bisect", "--test", "exit 125", code=13).err
    assert len(built.run("bisect", "--test", "x", "nothing", code=13).errors) == 1
    assert len(built.run("bisect", "--test", "x", "build:last/77", code=13).errors) == 1
    built.run("bisect", code=2)
    bench.build("FROM scratch\nCOPY Buildfile /\n")
    assert "can't be tested" in bench.run("bisect", "--test", "true", code=13).err


def test_nothing_to_try(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN true\nRUN exit 3\n", code=1)
    assert "there is nothing between" in bench.run("bisect", "--test", "x", "build:last", code=13).err
    assert "has left nothing: it was failed" in bench.run("diff", "build:last/2", "build:last/1", code=13).err


def test_a_build_that_failed(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two\nRUN test ! -e /one\n", code=1)
    assert _texts(_found(bench, "test ! -e /one", "build:last")) == ["RUN echo 1 > /one"]
