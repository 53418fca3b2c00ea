"""What happens during a transfer, as values for who shows it. Events of one transfer may come from several threads."""

from __future__ import annotations

from imgbuild.hints import Callable
from imgbuild.oci.digest import Digest
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A pull, push, save, load or import of `name` begins; `digest` is its manifest's where it is known."""

    action: str
    name: str
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class BlobStarted:
    """A blob will be moved; `kind` is "layer", "config" or "manifest"."""

    digest: Digest
    size: int
    kind: str


@dataclass(frozen=True, slots=True)
class BlobAdvanced:
    """`done` bytes of a blob have been moved. It may go back where a transfer was cut."""

    digest: Digest
    done: int


@dataclass(frozen=True, slots=True)
class BlobFinished:
    """A blob is where it should be. `how`: "fetched", "sent", "mounted", "present" (it was there), "converted" or "written"."""

    digest: Digest
    size: int
    how: str


@dataclass(frozen=True, slots=True)
class TransferNotice:
    """Something that a person should know, and that does not stop the transfer."""

    message: str


@dataclass(frozen=True, slots=True)
class TransferFinished:
    """The transfer is complete and durable."""

    action: str
    name: str
    digest: Digest


TransferEvent = TransferStarted | BlobStarted | BlobAdvanced | BlobFinished | TransferNotice | TransferFinished
OnEvent = Callable[[TransferEvent], None]


def ignore(event: TransferEvent) -> None:
    """Nobody is watching."""
