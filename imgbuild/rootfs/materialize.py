"""An image's layers -> lowers: what the store has already is used again, the rest is made from blobs, and verified on the way.

A layer's lower is found by its diffID, whatever it lies on: an indexed tar where this machine can mount those, else a directory. Some
layers can't be made a lower without asking what is below them (hard links to files of lower layers, parents that the layer doesn't
name), and some lie on a root directory that is not the usual one: their directories belong to the whole chain, and are named after it
(``on-...``).

Lowers are made side by side as if nothing were below them; layers that turn out to ask are unpacked again, in their order.
"""

from __future__ import annotations

import stat

from imgbuild.hints import Callable, Sequence
from imgbuild.layer.xattrs import portable
from imgbuild.linux.features import Features
from imgbuild.oci.digest import DiffID, chain_id
from imgbuild.oci.image import Layer
from imgbuild.rootfs.lowers import find_lower, find_on_chain
from imgbuild.snapshot import IndexedTarLower, Lower, Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.store.store import Store

Cancelled = Callable[[], bool]

_DEEP = 12
"""From so many indexed tars on, merging them once costs less than mounting each a few times."""


def materialize(
    store: Store, layers: Sequence[Layer], *, features: Features | None = None, cancelled: Cancelled | None = None, deep: bool = True
) -> Lowers:
    """The lowers of a root file system, lowest first. To be called under the store's lease; several callers at once make each lower once.
    `features`: None unpacks, as root. Without `deep` each layer keeps a lower of its own, however many there are.

    CorruptError where a blob is not what its digest or its diffID says, LayerError where it is no layer, store.locks.Interrupted when
    `cancelled` says so; nothing is left behind then.
    """
    found: dict[DiffID, Lower | None] = {layer.diff_id: find_lower(store, layer.diff_id, features) for layer in layers}
    missing = {layer.diff_id: layer for layer in layers if found[layer.diff_id] is None}
    if missing:
        from imgbuild.rootfs.unpacking import Unpacker

        found |= Unpacker(store, features, cancelled).independent(tuple(missing.values()))
    usual: dict[Lower, bool] = {}

    def is_usual(lower: Lower) -> bool:
        if lower not in usual:
            usual[lower] = has_usual_root(lower)
        return usual[lower]

    lowers: list[Lower] = []
    for index, layer in enumerate(layers):
        lower = found[layer.diff_id]
        below = tuple(lowers)
        if lower is None or (below and is_usual(lower) and not is_usual(below[-1])):
            chain = chain_id(below_layer.diff_id for below_layer in layers[: index + 1])
            lower = find_on_chain(store, chain, features)
            if lower is None:
                from imgbuild.rootfs.unpacking import Unpacker

                lower = Unpacker(store, features, cancelled).on_chain(layer, chain, below)
        lowers.append(lower)
    # Steps that left the same, nothing for one, have one lower, which overlay takes once: what it says further down, it says again above.
    lowers = list(reversed(dict.fromkeys(reversed(lowers))))
    if deep and features is not None and features.erofs and sum(isinstance(lower, IndexedTarLower) for lower in lowers) >= _DEEP:
        from imgbuild.rootfs.merged import merge_lowers

        return merge_lowers(store, tuple(lowers), _DEEP, cancelled)
    return tuple(lowers)


def has_usual_root(lower: Lower) -> bool:
    """Whether the top directory of a lower is as one that nobody named: 0755, root's, without attributes."""
    if isinstance(lower, IndexedTarLower):
        from imgbuild.layer.erofs import HEAD, root_attributes

        with open(lower.index, "rb") as file:
            return root_attributes(file.read(HEAD)) == (0o755, 0, 0, False)
    with UnionView((lower,)) as view:
        status = view.lstat("/")
        if status is None:
            return True
        return (stat.S_IMODE(status.mode), status.uid, status.gid) == (0o755, 0, 0) and not portable(view.xattrs("/"))
