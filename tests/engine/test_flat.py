"""A graph in plain form is the same graph again, spans and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graph.test_lower import base, graph
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.engine.flat import flat, restored
from imgbuild.graph.ops import BuildGraph, Limits
from imgbuild.oci.config import RunConfig
from imgbuild.values import fields, is_dataclass

TEXTS = {
    "run": "FROM base\nARG A=1\nENV B=2\nUSER u\nRUN --memory=1g --timeout=1m --network=none --mount=type=cache,target=/c,id=x,mode=0700 "
    "--mount=type=secret,id=s,required --mount=type=tmpfs,target=/t,size=1m a\n"
    "RUN <<EOF\n#!/bin/sh\necho ü \\\nEOF\n",
    "copy": "FROM base AS a\nCOPY --chown=1:2 --chmod=u+x --link --parents --exclude=*.o a b c/\nADD https://h/x.tar /\n"
    "ADD --checksum=sha256:" + "0" * 64 + " https://h/y /y\nCOPY <<EOF /d\ntext\nEOF\nFROM a\nCOPY --from=a /x /y\nWORKDIR w\n",
    "config": 'FROM base\nLABEL a=b\nEXPOSE 80\nVOLUME /v\nHEALTHCHECK --interval=5s CMD x\nCMD ["a"]\nSTOPSIGNAL 9\nONBUILD RUN x\n',
    "tests": "FROM base\nRUN a\nTEST b\n",
    "empty": "FROM scratch\n",
}


def deep(value: Any) -> Any:
    """All that is in a value, also what comparing it leaves out."""
    if is_dataclass(value):
        return (type(value), *(deep(getattr(value, item.name)) for item in fields(value)))
    if isinstance(value, tuple):
        return (type(value), *map(deep, value))
    if isinstance(value, dict):
        return [(deep(key), deep(item)) for key, item in value.items()]
    return (type(value), value)


def again(made: BuildGraph) -> BuildGraph:
    data = flat(made)
    assert data is not None
    found = restored(data)
    assert found is not None
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_the_same(name: str) -> None:
    config = RunConfig(env=("PATH=/x", "Y="), labels=(("a", "b"),), on_build=("RUN trigger",), exposed_ports=("80/tcp",))
    for image in (base(), base(config)):
        made = graph(TEXTS[name], images={"base": image}, limits=Limits(cpus=1.5), labels=(("l", "m"),), epoch=7)
        assert deep(again(made)) == deep(made)


@pytest.mark.parametrize("change", [(b"HistoryLine", b"HistoryLink"), (b"graph.ops", b"graph.old"), (b"created_by", b"written_by")])
def test_of_other_classes_it_is_none(change: tuple[bytes, bytes]) -> None:
    data = flat(graph("FROM base\nRUN a\n"))
    assert data is not None
    assert change[0] in data
    assert restored(data.replace(*change)) is None


def test_what_steps_share_they_share_again() -> None:
    made = again(graph("FROM base\nRUN a\nRUN b\n"))
    first, second = made.stages[0].steps
    assert first.span.source is second.span.source


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0\\\"'$<`="), min_size=1), min_size=1, max_size=5))
def test_words_of_all_kinds(words: list[str]) -> None:
    text = "FROM base\n" + "".join(f"LABEL \"{word}\"=\"{word}\"\nRUN [\"{word}\"]\n" for word in words)
    made = graph(text)
    assert deep(again(made)) == deep(made)


def test_a_large_one_has_none() -> None:
    assert flat(graph("FROM base\n" + "RUN a\n" * 400)) is not None
    assert flat(graph("FROM base\n" + "RUN a\n" * 600)) is None
    assert flat(graph("FROM base\n" + "".join(f"RUN {number} {'x' * 9000}\n" for number in range(400)))) is None


def test_what_is_strange_has_none() -> None:
    made = graph("FROM base\nRUN a\n")
    object.__setattr__(made.stages[0], "name", Path("x"))
    assert flat(made) is None
