"""The store's snapshotter against the suite, on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgbuild.linux.features import probe
from imgbuild.snapshot.snapshotter import DirectorySnapshotter
from imgbuild.store.store import Store

from .snapshotter import SnapshotterSuite


class TestDirectorySnapshotter(SnapshotterSuite):
    @pytest.fixture
    def snapshotter(self, tmp_path: Path) -> Iterator[DirectorySnapshotter]:
        with Store.open(tmp_path / "store") as store:
            yield DirectorySnapshotter(store.root, store, features=probe())
            assert list(store.scratch.temporary.iterdir()) == []
