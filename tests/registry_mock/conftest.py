"""A server for each test that changes how it behaves, and one for all that only use it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .client import Mock


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    """A server without options; tests keep to a repository of their own."""
    with Mock(tmp_path_factory.mktemp("shared")) as mock:
        yield mock


@pytest.fixture
def name() -> str:
    """A repository that nobody else uses."""
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mock]]:
    """Start a server with options; all of a test share one root."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(Mock(tmp_path / "root", *options))
