"""What is read, lowered and linted takes time in proportion to the file, and keeps no more than it must."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, KeysView
from typing import Any

import pytest
from counting import calls, growth

from imgbuild.buildfile.parser import parse
from imgbuild.errors import BuildfileError
from imgbuild.graph import lint as lint_module
from imgbuild.graph import lower as lower_module
from imgbuild.graph.lint import _StageLint
from imgbuild.graph.lower import _StageLowering, lower_every
from imgbuild.graph.ops import Base, BaseKey
from imgbuild.graph.options import LowerOptions
from imgbuild.oci.config import RunConfig
from imgbuild.oci.reference import parse_reference

from .test_lint import warnings
from .test_lower import MACHINE, base, graph


@pytest.mark.parametrize(
    "line", ["ENV a{0}=1", "LABEL a{0}=1", "ARG a{0}=1", "EXPOSE {0}", "VOLUME /v{0}", "ONBUILD ENV a{0}=1", "USER u{0}", "WORKDIR d{0}"]
)
def test_lines_of_one_kind(line: str) -> None:
    text = "FROM base\n" + "".join(line.format(number) + "\n" for number in range(1, 400))

    def work(count: int) -> None:
        graph("\n".join(text.split("\n", count + 1)[: count + 1]) + "\n")

    assert growth(work, 150) < 2.3


def test_environment_read_between_its_lines() -> None:
    """A COPY between two ENV lines needs the working directory, and not the whole environment."""
    assert growth(lambda count: graph("FROM base\n" + "".join(f"ENV a{n}=1\nCOPY a{n} b\n" for n in range(count))), 150) < 2.3


def test_what_is_gathered_is_what_each_line_would_have_added() -> None:
    config = RunConfig(env=("A=1", "ODD", "A=2"), labels=(("b", "1"),), exposed_ports=("9/tcp",), volumes=("/v",))
    text = "FROM base AS x\nLABEL a=1\nEXPOSE 8\nFROM x\nENV A=3 B=4\nVOLUME /w\nONBUILD RUN y\n"
    made = graph(text, images={"base": base(config)})
    first, second = made.stages[0].config, made.stages[1].config
    assert first.env[:3] == ("A=1", "ODD", "A=2")
    assert (first.labels, first.exposed_ports, first.volumes, first.on_build) == ((("a", "1"), ("b", "1")), ("8/tcp", "9/tcp"), ("/v",), ())
    assert second.env[:2] == ("A=3", "ODD=")
    assert second.env[-1] == "B=4"
    assert (second.labels, second.volumes, second.on_build) == (first.labels, ("/v", "/w"), ("RUN y",))


def test_stages() -> None:
    independent = "FROM base AS s{0}\nENV a=1\nRUN x\n"
    assert growth(lambda count: graph("".join(independent.format(n) for n in range(count)), target="0"), 100) < 2.3
    copies = "COPY --from=s{0} /a /b{0}\n"

    def read(count: int) -> None:
        graph("\n".join([*(independent.format(n) for n in range(count)), "FROM base", *(copies.format(n) for n in range(count))]))

    assert growth(read, 100) < 2.3


def test_a_chain_of_stages_keeps_the_variables_of_its_end_only(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[_StageLowering] = weakref.WeakSet()
    most = 0

    def watched(*arguments: Any) -> _StageLowering:
        nonlocal most
        made = _StageLowering(*arguments)
        alive.add(made)
        most = max(most, len(alive))
        return made

    monkeypatch.setattr(lower_module, "_StageLowering", watched)
    text = "FROM base AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\nARG b{n}=1\n" for n in range(50))
    assert len(graph(text).stages) == 51
    assert 1 <= most <= 3


def test_every_stage_is_lowered_once() -> None:
    def work(count: int) -> None:
        buildfile = parse("".join(f"FROM base AS s{n}\nRUN x\n" for n in range(count)).encode(), "B")
        lower_every(buildfile, LowerOptions(MACHINE), _bases())

    assert growth(work, 100) < 2.3


def test_the_last_stage_that_can_not_be_lowered_is_the_one_that_is_said() -> None:
    buildfile = parse(b"FROM base\nENV $a=1\nFROM base AS x\nENV $b=2\nFROM base\nRUN ok\n", "B")
    with pytest.raises(BuildfileError) as caught:
        lower_every(buildfile, LowerOptions(MACHINE), _bases())
    assert caught.value.at is not None
    assert caught.value.at.line == 4


def test_lint() -> None:
    def words(count: int) -> None:
        assert warnings("FROM base\n" + "".join(f"ENV a{n}=$a{n - 1 if n else 'b'}\n" for n in range(count)))

    def globals_(count: int) -> None:
        warnings("".join(f"ARG g{n}=1\n" for n in range(count)) + "".join(f"FROM base AS s{n}\nCMD []\n" for n in range(count)))

    for work in (words, globals_):
        assert growth(work, 100) < 2.3


def test_a_word_is_looked_up_among_the_variables_and_not_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a set does inside is seen by the variables alone."""
    looked = 0

    class Variables(dict[str, str]):
        def keys(self) -> KeysView[str]:
            nonlocal looked
            looked += 1
            return super().keys()

        def __iter__(self) -> Iterator[str]:
            nonlocal looked
            looked += 1
            return super().__iter__()

    def watched(*arguments: Any) -> _StageLint:
        made = _StageLint(*arguments)
        made.env = Variables(made.env)
        return made

    monkeypatch.setattr(lint_module, "_StageLint", watched)
    warnings("FROM base\n" + "".join(f"ENV a{n}=1\n" for n in range(50)))
    assert looked == 0


def test_the_counter_sees_quadratic_work() -> None:
    def quadratic(count: int) -> None:
        for _ in range(count):
            for _ in range(count):
                len("")

    assert growth(quadratic, 50) > 3.5
    assert calls(lambda: len("")) > 0


def _bases() -> dict[BaseKey, Base]:
    return {(parse_reference("base"), MACHINE): base()}
