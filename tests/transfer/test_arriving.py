"""Layers become lowers while they arrive: once and verified, in both forms.

Nothing is left of what was cut off, damaged or not what its image says, and what fails that way never decides about the pull.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from registry.support import client_for
from registry_mock.client import Mock

from imgbuild.errors import CorruptError
from imgbuild.linux.features import Features, probe
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import OCI_MANIFEST, Layer, canonical_json
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.endpoints import RegistryRule, RegistrySettings
from imgbuild.registry.problems import UnreachableError
from imgbuild.rootfs.materialize import materialize
from imgbuild.rootfs.unpacking import Unpacker
from imgbuild.snapshot.union import UnionView
from imgbuild.store.following import Followed
from imgbuild.store.locks import Interrupted
from imgbuild.store.store import Store
from imgbuild.transfer.images import Image
from imgbuild.transfer.pull import Puller
from imgbuild.values import replace

from .support import AMD64, Made, make, ref, serve

LARGE = random.Random(1).randbytes(5 << 20)


@pytest.fixture(params=["indexed", "unpacked"])
def features(request: pytest.FixtureRequest) -> Features:
    return probe() if request.param == "indexed" else probe(frozenset({"erofs"}))


def puller(store: Store, client: RegistryClient, features: Features, asked: list[str] | None = None) -> Puller:
    def use(layer: Layer, blob: Any, cancelled: Callable[[], bool]) -> None:
        if asked is not None:
            asked.append(layer.diff_id)
        Unpacker(store, features, cancelled).arriving(layer, blob)

    return Puller(store, client, use=use)


def snapshots(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "snapshots"))


def expected(made: Made) -> list[str]:
    return sorted(diff_id.partition(":")[2] for diff_id in made.diff_ids)


def content(store: Store, image: Image, features: Features) -> bytes:
    with store.lease(), UnionView(materialize(store, image.layers, features=features)) as view, open(view.open("/file"), "rb") as file:
        return file.read()


def assert_nothing_left(store: Store) -> None:
    assert snapshots(store) == []
    assert os.listdir(store.root / "tmp") == []


@pytest.mark.parametrize("compress", [True, False])
def test_lowers_are_there_when_the_pull_ends(store: Store, mock: Mock, client: RegistryClient, features: Features, compress: bool) -> None:
    made = serve(mock, make(LARGE, b"two", compress=compress))
    image = puller(store, client, features).pull(ref(mock), AMD64)
    assert snapshots(store) == expected(made)
    for layer in image.layers:
        store.blobs.remove(layer.blob.digest)  # nothing is read of them any more
    assert content(store, image, features) == b"two"
    assert content(store, replace(image, layers=image.layers[:1]), features) == LARGE


def test_a_cut_download_feeds_no_byte_twice(store: Store, mock: Mock, client: RegistryClient, features: Features) -> None:
    made = serve(mock, make(LARGE))
    for after in (100, 1 << 20, 70_000):
        mock.fault(do="cut", after=after, path=digest_of(made.layers[0]))
    asked: list[str] = []
    image = puller(store, client, features, asked).pull(ref(mock), AMD64)
    assert asked == list(made.diff_ids) and snapshots(store) == expected(made)
    assert content(store, image, features) == LARGE


def test_a_download_that_fails_leaves_nothing(store: Store, mock: Mock, client: RegistryClient, features: Features) -> None:
    made = serve(mock, make(LARGE))
    mock.fault(do="cut", after=1000, path=digest_of(made.layers[0]), count=0)
    with pytest.raises(UnreachableError):
        puller(store, client, features).pull(ref(mock), AMD64)
    assert_nothing_left(store)


def test_a_wrong_digest_leaves_nothing(store: Store, mock: Mock, client: RegistryClient, features: Features) -> None:
    """Even where the layer itself was right: a flipped bit in gzip's header is the blob's, not the tar's."""
    made = serve(mock, make(LARGE))
    mock.fault(do="corrupt", at=4, path=digest_of(made.layers[0]), count=0)
    with pytest.raises(CorruptError, match="other bytes"):
        puller(store, client, features).pull(ref(mock), AMD64)
    assert_nothing_left(store)


def test_the_next_place_is_asked_anew(start: Callable[..., Mock], store: Store, features: Features) -> None:
    made = make(LARGE)
    mirror, registry = start(), start()
    for each in (mirror, registry):
        serve(each, made)
    mirror.fault(do="corrupt", path=digest_of(made.layers[0]), count=0)
    settings = RegistrySettings(rules=(RegistryRule(registry.authority, mirrors=(mirror.url,)),))
    asked: list[str] = []
    with client_for(settings) as client:
        image = puller(store, client, features, asked).pull(ref(registry), AMD64)
    assert asked == list(made.diff_ids) * 2 and snapshots(store) == expected(made)
    assert content(store, image, features) == LARGE


def test_a_wrong_diff_id_is_met_where_the_lower_is_needed(store: Store, mock: Mock, client: RegistryClient, features: Features) -> None:
    made = make(LARGE)
    lie = made.config.replace(made.diff_ids[0].encode(), b"sha256:" + b"0" * 64)
    document = made.document
    document["config"] |= {"digest": digest_of(lie), "size": len(lie)}
    for blob in (*made.layers, lie):
        mock.push("team/app", blob)
    mock.put("team/app", "v1", canonical_json(document), OCI_MANIFEST)
    image = puller(store, client, features).pull(ref(mock), AMD64)
    assert_nothing_left(store)
    with store.lease(), pytest.raises(CorruptError, match="not what its image says"):
        materialize(store, image.layers, features=features)
    assert_nothing_left(store)


def test_a_cancelled_pull_ends_what_uses_its_layers(store: Store, mock: Mock, client: RegistryClient, features: Features) -> None:
    serve(mock, make(LARGE))
    mock.fault(do="slow", rate=1 << 20, path="/blobs/", skip=1)
    using: list[str] = []
    begun = puller(store, client, features, using)
    with pytest.raises(Interrupted):
        Puller(store, client, use=begun.use, cancelled=lambda: bool(using)).pull(ref(mock), AMD64)
    assert_nothing_left(store)


def test_what_is_pulled_to_be_kept_only_is_not_unpacked(store: Store, mock: Mock, client: RegistryClient) -> None:
    serve(mock, make())
    Puller(store, client).pull(ref(mock), AMD64)
    assert_nothing_left(store)


def test_streams_of_what_is_written_begin_at_its_beginning(store: Store) -> None:
    with store.blobs.writer() as writer, writer.follow() as followed:
        writer.write(b"one")
        early = followed.stream()
        assert early.read(2) == b"on"
        writer.write(b"two")
        assert early.read(100) == b"etwo" and followed.stream().read(100) == b"onetwo"
        writer.commit()
        assert early.read(100) == b"" and followed.stream().read(100) == b"onetwo"


def test_what_is_discarded_is_not_read_to_its_end(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"one")
        followed: Followed = writer.follow()
    with followed, pytest.raises(Interrupted):
        followed.stream().read(100)
