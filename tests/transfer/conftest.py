"""Stores, registries and images made by hand for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from registry.support import FakeTime, Heard, Say, Scripted
from registry_mock.client import Mock

from imgbuild.registry.client import RegistryClient
from imgbuild.store.store import Store

from .support import Seen, client_for


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens new, empty stores."""
    with ExitStack() as stack:
        numbers = iter(range(100))
        yield lambda: stack.enter_context(Store.open(tmp_path / f"store-{next(numbers)}"))


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mock]]:
    """Starts a registry-mock with options, each with a root of its own."""
    with ExitStack() as stack:
        numbers = iter(range(100))
        yield lambda *options: stack.enter_context(Mock(tmp_path / f"registry-{next(numbers)}", *options))


@pytest.fixture
def mock(start: Callable[..., Mock]) -> Mock:
    return start()


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[Heard], Say]], Scripted]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Scripted(answer))


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(time: FakeTime) -> Iterator[RegistryClient]:
    with client_for(time=time) as opened:
        yield opened


@pytest.fixture
def seen() -> Seen:
    return Seen()
