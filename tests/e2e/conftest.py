"""A seeded store once a session, and a copy of it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Bench, copied, seed


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The store that the others are copies of; not to be written to."""
    return seed(tmp_path_factory.mktemp("template"))


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A store with the image "busybox", and an empty context."""
    yield copied(template, tmp_path / "bench")


@pytest.fixture(scope="module")
def shared(template: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store and context for all tests of a module: for tests that must not find anything changed, as those of refusals."""
    return copied(template, tmp_path_factory.mktemp("shared") / "bench")
