"""Root file systems between steps: when layers are made from lowers, and lowers from layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgbuild.oci.digest import DiffID, Digest, chain_id
from imgbuild.oci.image import OCI_LAYER, Descriptor, Layer
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.solve.state import Promise, RootState, StepLayer


def layer(number: int) -> Layer:
    digest = f"sha256:{number:064x}"
    return Layer(Descriptor(OCI_LAYER, Digest(digest), 1), DiffID(digest))


class Unpacker:
    """Notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Layer, ...]] = []

    def __call__(self, layers: tuple[Layer, ...]) -> Lowers:
        self.asked.append(layers)
        return tuple(DirectoryLower(Path(each.diff_id[-4:])) for each in layers)


def test_found_steps_are_layers_and_become_lowers_when_asked() -> None:
    unpack = Unpacker()
    root = RootState("root", unpack)
    first = RootState("k1", unpack, parent=root, result=StepLayer(layer(1)))
    empty = RootState("k2", unpack, parent=first, result=StepLayer(None))
    second = RootState("k3", unpack, parent=empty, result=StepLayer(layer(2)))
    assert second.layers() == (layer(1), layer(2))
    assert second.chain() == chain_id([layer(1).diff_id, layer(2).diff_id])
    assert not second.performed
    assert unpack.asked == []
    assert len(second.lowers()) == 2
    assert second.lowers() is second.lowers()
    assert unpack.asked == [(layer(1), layer(2))]


def test_performed_steps_are_lowers_at_once_and_layers_when_captured() -> None:
    unpack = Unpacker()
    promise = Promise()
    mine = DirectoryLower(Path("mine"))
    state = RootState("k", unpack, parent=RootState("root", unpack), result=promise, lower=mine)
    assert state.lowers() == (mine,)
    assert state.performed
    promise.keep(StepLayer(layer(3)))
    assert state.layers() == (layer(3),)
    after = RootState("l", unpack, parent=state, result=StepLayer(layer(4)))
    assert after.performed


def test_a_capture_that_failed_is_raised_for_whoever_waits() -> None:
    promise = Promise()
    state = RootState("k", Unpacker(), parent=RootState("root", Unpacker()), result=promise, lower=DirectoryLower(Path("mine")))
    promise.break_(OSError("full"))
    with pytest.raises(OSError, match="full"):
        state.layers()


def test_there_may_be_more_steps_than_python_has_frames() -> None:
    unpack = Unpacker()
    count = 5000
    state = RootState("root", unpack)
    for number in range(count):
        state = RootState(f"k{number}", unpack, parent=state, result=StepLayer(layer(number) if number % 2 else None))
    assert not state.performed
    assert len(state.layers()) == count // 2
    assert state.chain() == chain_id(each.diff_id for each in state.layers())
    assert len(state.lowers()) == count // 2
    found = state
    promises = [Promise() for _ in range(count)]
    for number, promise in enumerate(promises):
        state = RootState(f"p{number}", unpack, parent=state, result=promise, lower=DirectoryLower(Path(str(number))))
    assert state.performed
    assert state.lowers()[: count // 2] == found.lowers()
    assert len(state.lowers()) == count // 2 + count
    for number, promise in enumerate(promises):
        promise.keep(StepLayer(layer(count + number)))
    assert len(state.layers()) == count // 2 + count
    assert state.chain() == chain_id(each.diff_id for each in state.layers())
    assert unpack.asked == [found.layers()]
