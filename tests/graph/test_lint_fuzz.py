"""Mutated Buildfiles: lint, descriptions and the plain Dockerfile raise nothing but located errors, and say the same each time."""

from __future__ import annotations

import random

import pytest

from imgbuild.buildfile.includes import Includes
from imgbuild.buildfile.lint import lint_text, misspelt_directive
from imgbuild.buildfile.parser import parse
from imgbuild.buildfile.plain import plain_dockerfile
from imgbuild.buildfile.rules import Linter, LintWarning, choice_of, parse_choice
from imgbuild.errors import BuildfileError, NotFoundError
from imgbuild.graph.describe import describe, list_targets
from imgbuild.graph.lint import lint_origins, lint_stages
from imgbuild.graph.ops import Base
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import base_references, make_outline
from imgbuild.oci.config import RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.platform import Platform
from tests.buildfile.fuzz import GOLDEN, mutated

AMD64 = Platform("linux", "amd64")
CONFIG = RunConfig(env=("PATH=/bin", "HOME=/h"), on_build=("ARG T=$HOME", "RUN --mount=type=secret,id=s x"))


def everything(text: bytes, seed: int) -> tuple[LintWarning, ...] | None:
    """What lint finds in it; None where it is refused."""
    rng = random.Random(seed)
    options = LowerOptions(AMD64, build_args={"A": "1"})
    try:
        buildfile = parse(text, "B", Includes(lambda path: (path, rng.choice(GOLDEN))))
        linter = Linter(choice_of(buildfile, "experimental=all"))
        lint_text(buildfile, linter)
        lint_origins(buildfile, options, linter)
        misspelt_directive(buildfile)
        list_targets(buildfile)
        made = plain_dockerfile(buildfile, text)
        again = made.text.encode("utf-8", "surrogateescape")
        assert not plain_dockerfile(parse(again, "B"), again).losses
        bases: dict[object, Base] = {}
        while needs := base_references(buildfile, options, bases):  # type: ignore[arg-type]
            bases |= {need.key: Base(need.reference.familiar(), Digest("sha256:" + "0" * 64), AMD64, CONFIG, ()) for need in needs}
        outline = make_outline(buildfile, options, bases)  # type: ignore[arg-type]
        lint_stages(buildfile, outline, options, bases, linter, lambda path: "a" in path, every=True)  # type: ignore[arg-type]
        describe(buildfile, outline, options, bases)  # type: ignore[arg-type]
    except (BuildfileError, NotFoundError) as error:
        assert error.message, text
        return None
    for warning in linter.warnings:
        span = warning.span
        assert 1 <= span.line <= span.end_line <= max(1, len(span.source.lines)), text
        assert warning.message and "\n" not in warning.message.splitlines()[0], text
    return linter.warnings


@pytest.mark.parametrize("seed", range(6))
def test_mutations(seed: int) -> None:
    rng = random.Random(seed)
    accepted = 0
    for number in range(400):
        text = mutated(rng, rng.choice(GOLDEN))
        found = everything(text, number)
        accepted += found is not None
        assert found == everything(text, number), text
    assert accepted > 40


@pytest.mark.parametrize("text", GOLDEN, ids=range(len(GOLDEN)))
def test_golden(text: bytes) -> None:
    everything(text, 0)


def test_choices_of_any_text() -> None:
    rng = random.Random(0)
    pieces = ["skip", "error", "all", "=", ";", ",", " ", "true", "x", "\t", "experimental"]
    for _ in range(3000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(9)))
        try:
            parse_choice(text)
        except BuildfileError as error:
            assert error.message and error.hint
