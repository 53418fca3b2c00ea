"""Servers and times for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from registry_mock.client import Mock

from .support import FakeTime, Heard, Say, Scripted


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mock]]:
    """Starts a registry-mock with options, each with a root of its own."""
    with ExitStack() as stack:
        numbers = iter(range(100))
        yield lambda *options: stack.enter_context(Mock(tmp_path / f"registry-{next(numbers)}", *options))


@pytest.fixture
def mock(start: Callable[..., Mock]) -> Mock:
    """A registry-mock without options."""
    return start()


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[Heard], Say]], Scripted]]:
    """Starts a server that answers as a function says."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Scripted(answer))


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()
