"""Which directories of the store hold a layer: found by the layer's diffID, or by the chain of layers that it lies on."""

from __future__ import annotations

from imgbuild.oci.digest import ChainID, DiffID, digest_of
from imgbuild.snapshot import DirectoryLower
from imgbuild.store.store import Store


def find_lower(store: Store, diff_id: DiffID) -> DirectoryLower | None:
    """The directory that holds a layer on any parents, if there is one."""
    row = store.index.snapshot_for(diff_id)
    if row is None:
        return None
    path = store.snapshot_path(row.id)
    return DirectoryLower(path) if path.is_dir() else None


def find_on_chain(store: Store, chain: ChainID) -> DirectoryLower | None:
    """The directory that holds the chain's topmost layer on the layers below it only, if there is one."""
    identity = chain_identity(chain)
    path = store.snapshot_path(identity)
    return DirectoryLower(path) if store.index.snapshot(identity) is not None and path.is_dir() else None


def chain_identity(chain: ChainID) -> str:
    """The snapshot's name that such a directory has."""
    return "on-" + digest_of(f"{chain} on its chain".encode()).partition(":")[2]
