"""No secret is in what is kept of a step's output, however it comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.solve.redaction import Redactor, redacted_text

SECRETS = st.lists(st.text("ab", min_size=4, max_size=7).map(str.encode), max_size=3)
PIECES = st.lists(st.text("abc", max_size=12).map(str.encode), max_size=8)


@given(secrets=SECRETS, pieces=PIECES)
def test_found_across_pieces(secrets: list[bytes], pieces: list[bytes]) -> None:
    whole = Redactor(secrets).whole(b"".join(pieces))
    assert not any(secret in whole for secret in secrets)
    stream = Redactor(secrets)
    assert b"".join([*(stream.feed(piece) for piece in pieces), stream.rest()]) == whole


@given(pieces=PIECES)
def test_what_is_no_secret_stays(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert Redactor([]).whole(whole) == whole
    assert Redactor([b"abc", b"", b"\n"]).whole(whole) == whole
    assert Redactor([b"secret"]).whole(whole) == whole


def test_line_ends_and_lines() -> None:
    key = b"-----BEGIN KEY-----\nAAAABBBB\n-----END KEY-----\n"
    assert Redactor([b"token\n"]).whole(b"a token, b") == b"a ***, b"
    assert Redactor([key]).whole(key + b"x") == b"***\nx"
    assert Redactor([key]).whole(b"1: AAAABBBB\r\n") == b"1: ***\r\n"
    assert redacted_text("a töken b", ["töken".encode()]) == "a *** b"


def test_what_may_be_a_beginning_waits_and_no_more() -> None:
    stream = Redactor([b"secret"])
    assert stream.feed(b"a sec") == b"a "
    assert stream.feed(b"tor\n") == b"sector\n"
    assert stream.rest() == b""
