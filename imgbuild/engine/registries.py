"""Joins registries to settings, credentials and the store; and the commands that speak to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from imgbuild.engine.workplace import Invocation, Workplace

if TYPE_CHECKING:
    from imgbuild.registry.client import RegistryClient
    from imgbuild.registry.credentials import Credentials
    from imgbuild.transfer.pull import Puller

OnEvent = Callable[[object], None]
