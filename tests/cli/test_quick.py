"""Command lines that are read without click are read as click reads them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.cli import quick, run_commands
from imgbuild.cli.build import build
from imgbuild.cli.commands import as_click
from imgbuild.cli.declare import Command, option
from imgbuild.cli.main import _COMMANDS, _DECLARED
from imgbuild.errors import UnsupportedError

COMMANDS: dict[str, Command] = {"build": build} | {
    name: getattr(run_commands, _COMMANDS[name].partition(":")[2]) for name in _DECLARED if name != "build"
}


def by_click(command: Command, words: list[str]) -> dict[str, Any] | None:
    """What click makes of the words; None where it makes an error or help of them."""
    try:
        return as_click(command).make_context(command.name, list(words)).params
    except (click.ClickException, click.exceptions.Exit, UnsupportedError):
        return None


def words_of(command: Command) -> list[str]:
    return [
        word for item in command.parameters if not item.positional
        for declared in item.declarations if declared.startswith("-") for word in declared.split("/")
    ]  # fmt: skip


VALUES = (
    "a", "a=b", "3", "0", "-1", "1.5", "-", "--", "", " ", "none", "zstd", "always", "true", "ä", "\udcff", "-x", "--rm", "=", "-it", ".",
)  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    name = draw(st.sampled_from(sorted(COMMANDS)))
    option_word = st.sampled_from([*words_of(COMMANDS[name]), "--help", "-h", "--unknown", "-itq", "-dq", "-fn", "--pull"])
    value = st.sampled_from(VALUES)
    part = st.one_of(
        option_word.map(lambda word: [word]),
        st.tuples(option_word, value).map(list),
        st.tuples(option_word, value).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
        st.tuples(option_word, value).map(lambda pair: [f"{pair[0]}{pair[1]}"]),
        value.map(lambda word: [word]),
    )
    return name, [word for words in draw(st.lists(part, max_size=5)) for word in words]


@settings(max_examples=600, deadline=None)
@given(lines())
def test_what_is_read_is_what_click_reads(line: tuple[str, list[str]]) -> None:
    name, words = line
    read = quick.read(COMMANDS[name], words)
    if read is not None:
        assert read == by_click(COMMANDS[name], words)


PLAIN = [
    ("build", "."),
    ("build", ""),
    ("build", "-t x -t y -f Buildfile --build-arg A=1 --target=t --progress plain --no-cache --pull ."),
    ("build", "--pull never -q --parallel 3 --compression gzip --no-rm --load ctx"),
    ("run", "--rm busybox true"),
    ("run", "-it --rm -v /a:/b:ro --name=x --env A=b --memory 1g image sh -c 'x' -- --rm"),
    ("run", "-d --stop-timeout 3 --pull always image"),
    ("exec", "name true"),
    ("exec", "-i -w /tmp name sh -c 'exit 3' --help"),
    ("ps", "-aq"),
    ("ps", "-n 3"),
    ("rm", "-f a b"),
    ("logs", "--tail 3 a"),
    ("stop", "-t 3 a"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line"), PLAIN, ids=[" ".join(pair) for pair in PLAIN])
def test_plain_lines_are_read(name: str, line: str) -> None:
    words = line.split()
    read = quick.read(COMMANDS[name], words)
    assert read is not None
    assert read == by_click(COMMANDS[name], words)


ODD = ("build --help", "run", "run --privileged x", "exec x", "build --pull=", "run -p 1:1 x", "rm", "build a b")


@pytest.mark.parametrize("line", ODD)
def test_errors_and_help_are_for_click(line: str) -> None:
    name, *words = line.split()
    assert quick.read(COMMANDS[name], words) is None


def test_options_before_the_command() -> None:
    given = {"root": "r", "config": "c", "debug": True}
    assert quick.split(["--root=r", "--config", "c", "--debug", "run", "--root", "x"]) == (given, "run", ["--root", "x"])
    for line in ("", "--root", "--root= run", "--root --debug run", "--version", "-h", "-- run", "--debug=1 run"):
        assert quick.split(line.split()) is None


def test_an_attribute_that_only_click_would_read_is_refused() -> None:
    with pytest.raises(TypeError):
        option("--number", count=True)


def test_an_unfinished_line_is_completed_by_click() -> None:
    program = "from imgbuild.cli.main import main; main(['build', '.'])"
    environ = {"_IMGBUILD_COMPLETE": "bash_complete", "COMP_WORDS": "imgbuild ba", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "plain,bake\n"
