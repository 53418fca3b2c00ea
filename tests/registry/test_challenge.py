"""WWW-Authenticate is read as RFC 9110 writes it, and whatever else comes does no harm."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.registry.challenge import Challenge, parse_challenges

TOKENS = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


def test_bearer_of_a_registry() -> None:
    header = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"'
    (challenge,) = parse_challenges(header)
    assert challenge.scheme == "bearer"
    assert challenge.get("realm") == "https://auth.example/token"
    assert challenge.get("scope") == "repository:a/b:pull,push"
    assert challenge.get("missing") == ""


def test_several_in_one_header() -> None:
    found = parse_challenges('Negotiate YWJj==, Basic realm="a, \\"b\\"" , Bearer realm=https://x/token, service=s')
    assert [challenge.scheme for challenge in found] == ["negotiate", "basic", "bearer"]
    assert found[1].get("realm") == 'a, "b"'
    assert (found[2].get("realm"), found[2].get("service")) == ("https://x/token", "s")


def test_scheme_alone_and_spaces_around() -> None:
    assert parse_challenges("Basic") == (Challenge("basic"),)
    assert parse_challenges('Basic, Bearer realm = "x"') == (Challenge("basic"), Challenge("bearer", (("realm", "x"),)))


@given(st.text())
def test_never_raises(header: str) -> None:
    parse_challenges(header)


@given(st.lists(st.tuples(TOKENS, st.dictionaries(TOKENS.map(str.lower), VALUES, min_size=1, max_size=4)), min_size=1, max_size=3))
def test_reads_what_is_written(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(f"{scheme} " + ", ".join(f"{key}={quoted(value)}" for key, value in items.items()) for scheme, items in challenges)
    found = parse_challenges(header)
    assert [(item.scheme, dict(item.parameters)) for item in found] == [(scheme.lower(), items) for scheme, items in challenges]
