"""The key of a store: one for all who ask for it, and digests as everybody makes them."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import StoreError
from imgbuild.store import secret_key
from imgbuild.store.secret_key import keyed_digest
from imgbuild.store.store import Store


@given(key=st.binary(min_size=32, max_size=32), message=st.binary(max_size=40_000))
def test_digests_are_hmacs(key: bytes, message: bytes) -> None:
    assert keyed_digest(key, message) == f"hmac-sha256:{hmac.new(key, message, hashlib.sha256).hexdigest()}"


def test_all_who_ask_at_once_get_one_key(store: Store) -> None:
    others = [Store.open(store.root) for _ in range(8)]
    with ThreadPoolExecutor(len(others)) as pool:
        keys = set(pool.map(lambda other: other.secret_key(), others))
    assert len(keys) == 1
    assert keys == {store.secret_key()}
    assert len(keys.pop()) == 32
    for other in others:
        other.close()


def test_a_store_that_can_not_be_written_to_has_one_for_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise StoreError("the file system is read-only")

    monkeypatch.setattr(secret_key, "write_durably", refused)
    assert store.secret_key() == store.secret_key()
    assert not (store.root / secret_key.NAME).exists()


def test_nothing_is_wrong_with_none(tmp_path: Path) -> None:
    assert secret_key.problem(tmp_path) == ""
