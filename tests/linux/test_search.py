"""A block is searched as Python would search it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.linux import search
from imgbuild.linux.search import Haystack


@given(
    before=st.binary(max_size=20), needle=st.binary(min_size=1, max_size=12), repeated=st.integers(0, 3), large=st.booleans(),
    start=st.integers(0, 90_000),
)
def test_it_agrees_with_bytes(before: bytes, needle: bytes, repeated: int, large: bool, start: int) -> None:
    data = bytes(search._SMALL + 5 if large else 0) + before + needle * repeated
    assert Haystack(data).find(needle) == data.find(needle)
    assert Haystack(data).find(needle, start) == data.find(needle, start)
