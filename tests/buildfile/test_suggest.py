"""Did you mean: what is near enough to have been meant."""

from __future__ import annotations

import pytest

from imgbuild.buildfile.suggest import did_you_mean, meant

KNOWN = ("RUN", "COPY", "FROM", "ENV", "HEALTHCHECK", "platform", "cp")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("RUM", "RUN"), ("run", "RUN"), ("COYP", "COPY"), ("FORM", "FROM"), ("HEALTHCHEKC", "HEALTHCHECK"), ("HELTHCHEK", "HEALTHCHECK"),
        ("platfrom", "platform"), ("EN", "ENV"), ("c", None), ("", None), ("RXX", None), ("CPYO", None), ("COXX", None), ("HEALTHC", None),
        ("plat", None), ("plaxfoxn", None),
    ],
)  # fmt: skip
def test_one_edit_in_three_letters_and_two_at_the_most(word: str, near: str | None) -> None:
    assert meant(word, KNOWN) == near


def test_as_a_hint() -> None:
    assert did_you_mean("acb", ["xyz", "abc"]) == "did you mean abc?"
    assert did_you_mean("network-mode", ["network"]) is None
    assert did_you_mean("abc", []) is None
