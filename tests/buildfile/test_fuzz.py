"""Mutated Buildfiles: the parser, the printer, expansion and mounts raise nothing but located errors. `tests/benchmarks/fuzz_parser.py`
runs as many as are asked for."""

from __future__ import annotations

import random

import pytest

from .fuzz import survives


@pytest.mark.parametrize("seed", range(8))
def test_mutations(seed: int) -> None:
    rng = random.Random(seed)
    assert sum(survives(rng) for _ in range(600)) > 60
