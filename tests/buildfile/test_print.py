"""Round trips: what is printed is parsed to the same meaning."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.buildfile.flags import KNOWN
from imgbuild.buildfile.lexer import lex
from imgbuild.buildfile.parser import parse, parse_trigger
from imgbuild.buildfile.print import print_buildfile, print_instruction
from imgbuild.buildfile.statements import _READERS, read_instruction
from imgbuild.errors import BuildfileError

from .faults import only
from .meaning import meaning


def round_trip(text: str | bytes) -> str:
    buildfile = parse(text, "B")
    printed = print_buildfile(buildfile)
    again = parse(printed, "printed")
    assert meaning(again) == meaning(buildfile)
    assert print_buildfile(again) == printed
    return printed


def test_what_it_looks_like() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n"
        "\n"
        "ARG V=1\n"
        "\n"
        "# the build\n"
        "FROM a:$V AS build\n"
        "RUN --mount=type=cache,target=/x make  all\n"
        "COPY <<-'E' /e\n"
        "\tone\n"
        "E\n"
        "\n"
        "FROM scratch\n"
        'CMD ["a b"]\n'
    )
    assert round_trip(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "COPY --from='a b' x /y",
        'COPY --exclude=\\"a\\" x /y',
        "RUN -- --x",
        "TEST --network=none -- --x",
        "TEST <<E cat\nx\nE",
        'TEST ["a b"]',
        "RUN --network=none -- --x",
        "RUN",
        "CMD []",
        'COPY ["a b", ""]',
        'COPY ["[a", "b]"]',
        'COPY ["<<E", "b"]',
        'COPY ["[\\"a\\"", ",\\"b\\"]"]',
        'VOLUME ["a\\nb"]',
        "VOLUME a\xa0 b",
        "ENV a 'b c",
        "ENV \\  =",
        "ENV -- --a=b",
        "ENV a=b\\\\",
        "RUN a \\\v",
        "RUN a \\\\",
        "RUN a \\\xa0b",
        "ONBUILD RUN <<E cat\nx\nE",
        "ONBUILD RUN -- --x",
        "HEALTHCHECK --retries=1 CMD -- x",
        "RUN --on-failure='save=${' <<E\nx\nE",
        "COPY <<E <<E a /x\n1\nE\n2\nE",
        "COPY \"a <<\"E 'b' /x",
        'LABEL a="x\\\ny"',
        "ARG a b=",
        "STOPSIGNAL --x 9",
        "TEST --mount=type=cache,target=/x --retry=2 make  test",
        'TEST ["a b"]',
        "TEST <<E\nx\nE",
        "TEST cat <<-'E' 3<<F | sh\n\tx\n\tE\ny\nF",
    ],
)
def test_odd_ones(text: str) -> None:
    round_trip(f"FROM x\n{text}\n")


def test_backtick() -> None:
    round_trip('# escape=`\nFROM x\nRUN a `\n  b\nENV a=`"b`" c=\\\nCOPY --from=a\\\\b c d\\\nRUN x `\v\n')


def test_comments_are_not_taken_for_directives() -> None:
    printed = round_trip("\n# escape=`\n# syntax=x\nFROM x\nRUN a \\\n b\n")
    assert parse(printed, "p").directives == ()


def test_one_instruction() -> None:
    assert print_instruction(only("run  --network=none   a \\\n b")) == "RUN --network=none a  b"
    onbuild = only("ONBUILD COPY <<E /x\n1\nE\n")
    assert meaning(parse_trigger(onbuild.trigger_text, "t")) == meaning(onbuild.trigger)


_ARGUMENTS = {"FROM": "x", "HEALTHCHECK": "CMD x", "COPY": "a /b", "ADD": "a /b"}
_VALUES = ("1", "100", "1s", "64m", "x=y", "none", "sandbox", "type=cache,target=/c", "save=/x", "/dev/x:1m", "/dev/x:1")


@pytest.mark.parametrize(("keyword", "flag"), [(keyword, flag) for keyword, flags in KNOWN.items() for flag in flags])
def test_every_flag(keyword: str, flag: str) -> None:
    arguments = _ARGUMENTS.get(keyword, "x")
    printed = 0
    for value in ("", *(f"={value}" for value in _VALUES)):
        text = f"FROM y\n{keyword} --{flag}{value} {arguments}\n"
        try:
            parse(text, "B")
        except BuildfileError:
            continue
        assert f"--{flag}{value} " in round_trip(text)
        printed += 1
    assert printed


@pytest.mark.parametrize("keyword", sorted(_READERS))
def test_every_instruction(keyword: str) -> None:
    arguments = {"FROM": "x AS y", "HEALTHCHECK": "NONE", "COPY": "a /b", "ADD": "a /b", "SHELL": '["a"]', "ONBUILD": "RUN x", "ENV": "a=b"}
    text = f"FROM z\n{keyword.lower()} {arguments.get(keyword, 'a=b')}\n"
    if keyword == "INCLUDE":
        assert print_instruction(read_instruction(lex("include a=b", "B").lines[0], "\\")) == "INCLUDE a=b"
    else:
        round_trip(text)


_WORD = st.text(alphabet="abé$/.{}-'\"\\`[],= #<\t\x0b\xa0", max_size=8)
_NAME = st.sampled_from(["a", "B_1", "c.d", "E'F", "'q r'", '"s"', "$v", "\\x"])
_BODY = st.lists(st.sampled_from(["", "text", "\ttabbed", "# no comment", "trail \\", "a'b\"", "FROM x"]), max_size=3)


@st.composite
def _line(draw: st.DrawFn) -> str:
    keyword = draw(
        st.sampled_from(
            [
                "RUN",
                "TEST",
                "CMD",
                "ENTRYPOINT",
                "COPY",
                "ADD",
                "ENV",
                "LABEL",
                "ARG",
                "USER",
                "WORKDIR",
                "EXPOSE",
                "VOLUME",
                "STOPSIGNAL",
                "MAINTAINER",
                "HEALTHCHECK CMD",
                "ONBUILD RUN",
                "ONBUILD COPY",
                "RUN --network=none",
                "COPY --from=a",
                "SHELL",
                "RUN --",
            ]
        )
    )
    return " ".join([keyword, *draw(st.lists(_WORD, max_size=4))])


@st.composite
def _heredoc(draw: st.DrawFn) -> str:
    name = draw(_NAME)
    dash = draw(st.sampled_from(["", "-", " "]))
    end = name.replace("\\", "").replace('"', "").strip("'") if name != "E'F" else "EF"
    head = draw(st.sampled_from(["RUN {}", "RUN cat {} > x", "COPY {} /x", "ADD a {} b /x/", "ONBUILD RUN {}", "COPY --from='b c' {} /x"]))
    return "\n".join([head.format(f"<<{dash}{name}"), *draw(_BODY), end])


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["", "# escape=`\n", "# check=skip=all\n"]),
    st.lists(st.one_of(_line(), _heredoc(), st.just("FROM x AS y"), st.just("# a comment")), max_size=6),
)
def test_round_trip(head: str, lines: list[str]) -> None:
    text = head + "\n".join(["FROM x", *lines]) + "\n"
    try:
        parse(text, "B")
    except BuildfileError:
        return
    round_trip(text)
