"""Variables in texts: every operator, where it matters whether one is set, empty or not; and what is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.bake.dotenv import read_dotenv
from imgbuild.bake.variables import Scope
from imgbuild.errors import BuildfileError, Source, Span

SPAN = Span(Source("file", ("line",)), 1, 1, 1, 2)


def _missing(name: str, at: Span) -> str:
    return f"<{name}>"


SCOPE = Scope({}, {"SET": "value", "EMPTY": "", "matrix": "m"}, _missing)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$SET", "value"),
        ("a${SET}b", "avalueb"),
        ("$SET.x", "value.x"),
        ("$NONE", "<NONE>"),
        ("$$SET $${SET} $$", "$SET ${SET} $"),
        ("${SET:-d}", "value"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${NONE:-}", ""),
        ("${NONE:-a b: c?}", "a b: c?"),
        ("${NONE:-${EMPTY:-${SET}}}", "value"),
        ("${NONE:-$SET}", "value"),
        ("${SET:-${NONE:?never}}", "value"),
        ("${SET:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${EMPTY+r}", "r"),
        ("${NONE+r}", ""),
        ("${NONE:+$NONE}", ""),
        ("${SET?e}", "value"),
        ("${EMPTY?e}", ""),
        ("}{", "}{"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert SCOPE.expand(text, SPAN) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NONE?gone}", "the variable NONE is needed: gone"),
        ("${EMPTY:?}", "the variable EMPTY is needed"),
        ("${NONE:?${SET}s}", "the variable NONE is needed: values"),
        ("${SET", "a brace is not closed"),
        ("${SET:-x", "a brace is not closed"),
        ("${SET/x/y}", "this is no operator"),
        ("$", "no name follows"),
        ("$1", "no name follows"),
        ("${}", "no name follows"),
        ("${NONE:-" * 30, "too deep"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(BuildfileError, match=message.replace("$", r"\$")) as caught:
        SCOPE.expand(text, SPAN)
    assert caught.value.at == SPAN


def test_bound_names_come_first_and_have_fields() -> None:
    scope = SCOPE.bind({"matrix": "bound", "v.long": "1.0"})
    assert scope.expand("$matrix ${v.long}", SPAN) == "bound 1.0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${SET}", "value"), ("$SET", "$SET"), ("$${SET} %%{x}", "${SET} %{x}"), ("a${ SET }b", "avalueb"), ("${NONE}", "<NONE>"), ("%", "%")],
)
def test_templates(text: str, expected: str) -> None:
    assert SCOPE.expand_templates(text, SPAN) == expected


@pytest.mark.parametrize("text", ["${upper(SET)}", "${SET", "%{if x}", '${SET == "" ? 1 : 2}'])
def test_templates_that_are_more_than_names(text: str) -> None:
    with pytest.raises(BuildfileError, match="can't be evaluated here"):
        SCOPE.expand_templates(text, SPAN)


@given(st.text(alphabet="${}:-?+ANx%\\ "))
def test_any_text_is_expanded_or_refused_at_its_place(text: str) -> None:
    for expand in (SCOPE.expand, SCOPE.expand_templates):
        try:
            expand(text, SPAN)
        except BuildfileError as error:
            assert error.at == SPAN


@given(st.text())
def test_doubled_dollars_are_the_text_itself(text: str) -> None:
    assert SCOPE.expand(text.replace("$", "$$"), SPAN) == text


def test_dotenv() -> None:
    text = """
# a comment
A=one
export B = two words  # more
C='$A # as it is'
D="${A}-\\t${E:-none}"
F="two
lines"
G=a#b
H: yaml
I=
HOME=ours
J=$HOME
"""
    assert read_dotenv(text, ".env", {"HOME": "theirs"}) == {
        "A": "one", "B": "two words", "C": "$A # as it is", "D": "one-\tnone", "F": "two\nlines", "G": "a#b", "H": "yaml",
        "I": "", "HOME": "ours", "J": "theirs",
    }  # fmt: skip


@pytest.mark.parametrize(("text", "place"), [("A=1\nwhat is this\n", ".env:2"), ("A='open\n", ".env:1"), ("A=${\n", ".env:1")])
def test_dotenv_refused(text: str, place: str) -> None:
    with pytest.raises(BuildfileError) as caught:
        read_dotenv(text, ".env", {})
    assert str(caught.value.at) == place
