"""Which lowers a root file system had when it was last run, so that they are found again without the index: to open that takes longer than
to look for a few directories.

A note is a file of lines below ``replays/``, which a collection of garbage empties: when it is right, how many lowers there are, and the
name of each one's snapshot, lowest first. It is right as long as all of them are there, the index is the same file (another one may not
know of them), and the machine was not started anew (a power cut may have damaged them).
"""

from __future__ import annotations

import os

from imgbuild.errors import StoreError
from imgbuild.hints import Sequence
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.linux.features import Features
from imgbuild.linux.reading import read_and_close
from imgbuild.oci.digest import chain_id
from imgbuild.oci.image import Layer
from imgbuild.rootfs.lowers import lower_of
from imgbuild.snapshot import Lowers
from imgbuild.store.notes import DIRECTORY, trim_notes
from imgbuild.store.recovery import boot_id
from imgbuild.store.store import Store

_FORM = "lowers 1"
_LONG = 1 << 16
"""Bytes of a note, of which there are some 70 a layer."""


def noted_lowers(store: Store, layers: Sequence[Layer], features: Features) -> Lowers | None:
    """What `materialize` last gave for these layers, if all of it is there. To be called under the store's lease."""
    try:
        form, validity, count, *names = _read(_note(store, layers, features)).decode("ascii").split("\n")
        if (form, validity, count) != (_FORM, _validity(store), str(len(names) - 1)) or names.pop():
            return None
    except (OSError, ValueError):
        return None
    if not all(name.isprintable() and name == os.path.basename(name) and name.strip(".") for name in names):
        return None
    found = [lower_of(store, name, features) for name in names]
    lowers = tuple(lower for lower in found if lower is not None)
    return lowers if len(lowers) == len(found) else None


def _read(path: Path) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a fifo would be waited for
    return read_and_close(os.open(path, flags), _LONG)


def note_lowers(store: Store, layers: Sequence[Layer], features: Features, lowers: Lowers) -> None:
    """Note what `materialize` gave, where that can be."""
    from imgbuild.store.temporary import replace_file

    names = [lower.directory.name for lower in lowers]
    with suppress(OSError, StoreError):
        text = "\n".join((_FORM, _validity(store), str(len(names)), *names, ""))
        # Without waiting for the disk: what a power cut leaves of it is either all, or no note.
        replace_file(_note(store, layers, features), text.encode(), store.scratch.temporary, settle=lambda path: None)
        trim_notes(store.root)


def _note(store: Store, layers: Sequence[Layer], features: Features) -> Path:
    chain = chain_id(layer.diff_id for layer in layers).rpartition(":")[2]
    return store.root / DIRECTORY / f"{'tars' if features.erofs else 'trees'}-{chain or 'none'}"


def _validity(store: Store) -> str:
    status = os.stat(store.root / "index.db")
    return f"{status.st_dev} {status.st_ino} {boot_id().strip()}"
