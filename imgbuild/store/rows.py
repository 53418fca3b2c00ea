"""The rows of the index, as values."""

from __future__ import annotations

from imgbuild.hints import Any, Mapping
from imgbuild.light import json
from imgbuild.oci.digest import DiffID, Digest
from imgbuild.oci.image import Descriptor
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step that was performed: the record its key was made from (JSON), the layer it made (`diff_id`; None where
    `empty`), the snapshot that holds it, what it cost (`usage`, JSON), and by which build and when (seconds since 1970)."""

    key: str
    record: bytes
    diff_id: DiffID | None
    snapshot: str
    empty: bool
    usage: str
    build: str
    created: float

    def fields(self) -> Mapping[str, Any]:
        """The record as it is compared with another one; empty where it is damaged."""
        return parse_record(self.record)

    def inputs(self) -> tuple[str, ...]:
        """The digests of what the step read."""
        return tuple(self.fields().get("inputs", {}).values())


def parse_record(record: bytes) -> Mapping[str, Any]:
    """A step's record as it is compared with another one; empty where it is damaged."""
    try:
        found = json.loads(record.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A blob that a layer is stored as. `compression` are the parameters it was made with, "" for a pulled one."""

    diff_id: DiffID
    blob: Descriptor
    uncompressed_size: int
    compression: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A committed snapshot. `size` (bytes, apparent) and `inodes` count what is in it; `tree` is the digest that
    `trees.survey_snapshot` made of it, "" where nobody did."""

    id: str
    diff_id: DiffID | None
    size: int
    inodes: int
    tree: str = ""


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One build: seconds since 1970, and what came out (JSON)."""

    id: str
    started: float
    ended: float
    result: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A registry's repository that is known to have a blob."""

    digest: Digest
    registry: str
    repository: str
