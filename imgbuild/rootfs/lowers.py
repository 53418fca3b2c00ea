"""Which snapshots of the store hold a layer: found by the layer's diffID, or by the chain of layers that it lies on.

A snapshot counts where it is there in a form that can be mounted: `features` say what can, None that directories alone can.
"""

from __future__ import annotations

from imgbuild.linux.features import Features
from imgbuild.oci.digest import ChainID, DiffID, digest_of
from imgbuild.snapshot import DirectoryLower, Lower
from imgbuild.store.store import Store
from imgbuild.store.trees import INDEX


def find_lower(store: Store, diff_id: DiffID, features: Features | None = None) -> Lower | None:
    """The lower that holds a layer on any parents, if there is one. Of several snapshots one may be in a form that can be mounted here:
    what is found is not made again, in the place of what others stand on."""
    found = (lower_of(store, row.id, features) for row in store.index.snapshots_for(diff_id))
    return next((lower for lower in found if lower is not None), None)


def find_on_chain(store: Store, chain: ChainID, features: Features | None = None) -> Lower | None:
    """The lower that holds the chain's topmost layer on the layers below it only, if there is one."""
    identity = chain_identity(chain)
    return lower_of(store, identity, features) if store.index.snapshot(identity) is not None else None


def lower_of(store: Store, identity: str, features: Features | None = None) -> Lower | None:
    """The lower that a snapshot is."""
    path = store.snapshot_path(identity)
    if path.is_dir():
        return DirectoryLower(path)
    if features is not None and features.erofs and (path.parent / INDEX).is_file():
        from imgbuild.rootfs.indexed import indexed, usable

        return indexed(store, identity) if usable(store, features) else None
    return None


def chain_identity(chain: ChainID) -> str:
    """The snapshot's name that such a directory has."""
    return "on-" + digest_of(f"{chain} on its chain".encode()).partition(":")[2]
