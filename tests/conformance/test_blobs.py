"""The store's blobs against the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgbuild.store.blobs import Blobs
from imgbuild.store.store import Store

from .blob_store import BlobStoreSuite


class TestStoreBlobs(BlobStoreSuite):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Iterator[Blobs]:
        with Store.open(tmp_path / "store") as store:
            yield store.blobs
            assert list(store.scratch.temporary.iterdir()) == []
