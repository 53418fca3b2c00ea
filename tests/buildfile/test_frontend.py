"""The ``syntax`` directive."""

from __future__ import annotations

import pytest

from imgbuild.buildfile.parser import parse
from imgbuild.errors import UnsupportedError

from .faults import fault, marked


@pytest.mark.parametrize(
    "reference",
    [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker/dockerfile:1.4-labs",
        "docker/dockerfile:experimental",
        "docker.io/docker/dockerfile:1@sha256:" + "a" * 64,
        "docker/dockerfile-upstream:master",
        "mirror.example:5000/team/docker/dockerfile:1",
        "mirror.example:5000/dockerfile",
        "localhost:5000/docker/dockerfile-upstream@sha256:" + "a" * 64,
        "docker/dockerfile:1 --some argument",
        "dockerfile.v0",
    ],
)
def test_a_dockerfile_frontend_is_this_language(reference: str) -> None:
    buildfile = parse(f"# syntax={reference}\nFROM x\n", "B")
    assert [(item.name, item.value) for item in buildfile.directives] == [("syntax", reference)]


@pytest.mark.parametrize(
    "reference",
    ["r2d4/mockerfile", "docker/dockerfile-x:1", "tonistiigi/dockerfile/other:1", "mirror.example:5000/nix@sha256:" + "a" * 64, ":1"],
)
def test_another_language_is_refused_at_its_line(reference: str) -> None:
    error = fault(f"#!/bin/x\n# escape=`\n#  SYNTAX = {reference} \nFROM x\n")
    assert isinstance(error, UnsupportedError)
    assert error.at is not None
    assert error.at.line == 3
    assert marked(error) == f"SYNTAX = {reference}"
    assert reference in error.message
    assert parse(f"# syntax={reference}\nFROM x\n", "B", any_frontend=True).stages


def test_a_comment_is_no_directive() -> None:
    assert parse("# a comment\n# syntax=other/language\nFROM x\n", "B").directives == ()
