"""Is the store whole: every blob has its digest, every image its parts, every record what it speaks of.

Checking reads everything and changes nothing. Repairing takes out what is broken, so that it is built, unpacked or pulled again;
it invents nothing.
"""

from __future__ import annotations

import os

from imgbuild.errors import CorruptError, ImageError, ImgbuildError, StoreError
from imgbuild.hints import Callable, Iterable
from imgbuild.light import json
from imgbuild.light.pathlib import Path
from imgbuild.oci.config import parse_config
from imgbuild.oci.digest import DiffID, Digest, digest_of
from imgbuild.oci.image import CONFIG_TYPES, Descriptor, Manifest
from imgbuild.store import secret_key
from imgbuild.store.closure import closure, manifests
from imgbuild.store.failed import RECORD, TREE, read_failed
from imgbuild.store.failures import IndexDamagedError
from imgbuild.store.garbage import Containers, failed_on, standing_on
from imgbuild.store.notes import forget_notes
from imgbuild.store.rows import LayerRow, SnapshotRow, StepRow
from imgbuild.store.store import Store
from imgbuild.store.tags import Entry
from imgbuild.store.trees import survey_snapshot
from imgbuild.values import dataclass, field

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `kind`: blob, stray, image, names (index.json), index (index.db), evidence (evidence.db), layer, snapshot,
    step, failed, key (secret-key), or container, which the caller adds; `what`: its digest, id, key or path. A `note` is no damage: a
    leftover that a prune removes, or an entry that another program wrote."""

    kind: str
    what: str
    message: str
    repairable: bool = True
    note: bool = False


@dataclass(slots=True)
class _Report:
    findings: list[Finding] = field(default_factory=list)
    blobs: set[Digest] = field(default_factory=set)
    unreadable: set[Digest] = field(default_factory=set)
    images: set[Digest] = field(default_factory=set)
    layers: set[Digest] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    names: bool = False
    index: bool = False
    evidence: bool = False
    key: bool = False

    def add(self, kind: str, what: str, message: str, *, repairable: bool = True, note: bool = False) -> None:
        self.findings.append(Finding(kind, what, message, repairable, note))


def check(
    store: Store,
    *,
    repair: bool = False,
    containers: Containers = frozenset(),
    on_bytes: Callable[[int], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> tuple[Finding, ...]:
    """All that is wrong with the store, worst first; with `repair` it is then taken out (waiting for the store alone), except
    for snapshots that `containers` stand on. `on_bytes` is told of progress, from several threads."""
    with store.exclusive(on_wait=on_wait) if repair else store.lease(on_wait=on_wait):
        report, in_use = _Report(), standing_on(containers) | failed_on(store)
        _check_blobs(store, report, on_bytes)
        live = _check_images(store, report)
        try:
            _check_index(store, report, in_use, live)
        except IndexDamagedError as error:
            report.index = True
            report.add("index", str(store.index.connections.path), error.message)
        try:
            store.evidence.check()
        except IndexDamagedError as error:
            report.evidence = True
            report.add("evidence", str(store.evidence.path), error.message)
        _check_failed(store, report)
        if problem := secret_key.problem(store.root):
            report.key = True
            report.add("key", str(store.root / secret_key.NAME), problem)
        if repair:
            _repair(store, report, in_use)
        return tuple(sorted(report.findings, key=lambda finding: finding.note))


def _check_blobs(store: Store, report: _Report, on_bytes: Callable[[int], None] | None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def broken(digest: Digest) -> tuple[Digest, ImgbuildError | None]:
        try:
            store.blobs.verify(digest, on_bytes)
        except (CorruptError, StoreError) as error:
            return digest, error
        return digest, None

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "fsck") as pool:
        for digest, error in pool.map(broken, store.blobs):
            if error is not None:
                report.blobs.add(digest)
                if isinstance(error, StoreError):
                    report.unreadable.add(digest)
                report.add("blob", digest, error.message, repairable=isinstance(error, CorruptError))
    for path in store.blobs.strays():
        report.add("stray", str(path), "is no blob", repairable=False, note=True)


def _check_images(store: Store, report: _Report) -> set[Digest]:
    """Check all images; the digests of all that they need."""
    live: set[Digest] = set()
    try:
        entries = store.tags.entries()
    except CorruptError as error:
        report.names = True
        report.add("names", "index.json", f"{error.message}: {error.detail}")
        return live
    for message in store.tags.unreadable():
        report.add("names", "index.json", message, repairable=False, note=True)
    for entry in entries:
        problem = _image_problem(store, report, entry, live)
        if problem:
            report.images.add(entry.descriptor.digest)
            report.add("image", entry.name or entry.descriptor.digest, problem)
    return live


def _image_problem(store: Store, report: _Report, entry: Entry, live: set[Digest]) -> str:
    live.add(entry.descriptor.digest)
    try:
        for part in closure(store.blobs, entry.descriptor):
            live.add(part.digest)
            if not store.blobs.has(part.digest):
                return f"needs the blob {part.digest}, which is missing"
            if part.digest in report.blobs:
                return f"needs the blob {part.digest}, which is broken"
            if store.blobs.size(part.digest) != part.size:
                return f"says that the blob {part.digest} has {part.size} bytes, but it has {store.blobs.size(part.digest)}"
        for descriptor, manifest in manifests(store.blobs, entry.descriptor):
            if problem := _manifest_problem(store, descriptor, manifest):
                return problem
    except (CorruptError, ImageError) as error:
        return error.message
    return ""


def _manifest_problem(store: Store, descriptor: Descriptor, manifest: Manifest) -> str:
    if manifest.config.media_type not in CONFIG_TYPES:
        return ""  # an artifact, whose config means what its maker likes
    diff_ids = parse_config(store.blobs.read(manifest.config.digest)).diff_ids
    if len(diff_ids) != len(manifest.layers):
        return f"has {len(manifest.layers)} layers in its manifest {descriptor.digest} and {len(diff_ids)} in its config"
    return ""


def _check_index(store: Store, report: _Report, containers: Iterable[str], live: set[Digest]) -> None:
    store.index.connections.check()
    # Others may be building meanwhile. Who writes goes from blobs and directories to layers and snapshots to steps; who
    # reads the other way meets nothing whose parts are not there yet.
    steps, snapshots = store.index.steps(), store.index.snapshots()
    directories = set(os.listdir(store.root / "snapshots"))
    held = _check_layers(store, report, live)
    _check_snapshots(store, report, snapshots, directories - set(containers))
    whole = directories - report.snapshots
    for row in steps:
        if problem := _step_problem(row, held, whole):
            report.steps.add(row.key)
            report.add("step", row.key, problem)


def _check_layers(store: Store, report: _Report, live: set[Digest]) -> set[DiffID]:
    """Check the layers' rows; the diffIDs that a whole blob is there for."""
    held, known = set(), set()
    for row in store.index.layers():
        known.add(row.blob.digest)
        if problem := _layer_problem(store, report, row):
            report.layers.add(row.blob.digest)
            report.add("layer", row.diff_id, problem)
        else:
            held.add(row.diff_id)
    for digest in store.blobs:
        if digest not in live and digest not in known and digest not in report.blobs:
            report.add("blob", digest, "nothing refers to it; `imgbuild prune` removes it", repairable=False, note=True)
    return held


def _layer_problem(store: Store, report: _Report, row: LayerRow) -> str:
    if not store.blobs.has(row.blob.digest):
        return f"is recorded with the blob {row.blob.digest}, which is missing"
    if row.blob.digest in report.blobs:
        return f"is recorded with the blob {row.blob.digest}, which is broken"
    if not store.blobs.has(row.blob.digest, row.blob.size):
        return f"is recorded with {row.blob.size} bytes, but its blob {row.blob.digest} has {store.blobs.size(row.blob.digest)}"
    return ""


def _check_snapshots(store: Store, report: _Report, rows: tuple[SnapshotRow, ...], directories: set[str]) -> None:
    for row in rows:
        if problem := _snapshot_problem(store, row):
            report.snapshots.add(row.id)
            report.add("snapshot", row.id, problem)
    known = {row.id for row in rows}
    for name in sorted(directories - known):
        if store.index.snapshot(name) is None:
            report.orphans.add(name)
            report.add("snapshot", name, "nothing refers to it; `imgbuild prune` removes it", note=True)


def _snapshot_problem(store: Store, row: SnapshotRow) -> str:
    if not store.has_snapshot(row.id):
        return f"its directory {store.snapshot_path(row.id)} is missing"
    if not row.tree and not row.inodes:
        return ""
    try:
        found = survey_snapshot(store.snapshot_directory(row.id))
    except StoreError as error:
        return error.message
    if row.inodes and (row.inodes, row.size) != (found.inodes, found.size):
        return f"has {found.inodes} inodes and {found.size} bytes, {row.inodes} and {row.size} are recorded"
    if row.tree and row.tree != found.tree:
        return "its files have other names, modes, owners, times or sizes than recorded"
    return ""


def _check_failed(store: Store, report: _Report) -> None:
    for name in sorted(os.listdir(store.root / "failed")):
        directory = store.root / "failed" / name
        if not (directory / RECORD).exists():
            continue  # files that a step was told to save
        try:
            problem = _failed_problem(store, directory)
        except StoreError as error:
            report.add("failed", name, f"{error.message}; it is left as it is", repairable=False, note=True)
            continue
        if problem:
            report.failed.add(name)
            report.add("failed", name, problem)


def _failed_problem(store: Store, directory: Path) -> str:
    try:
        step = read_failed(directory)
    except CorruptError as error:
        return error.message
    missing = next((name for name in sorted(step.snapshots) if not store.has_snapshot(name)), None)
    if missing is not None:
        return f"stands on the snapshot {missing}, which is missing"
    return "" if (directory / TREE).is_dir() else "what it wrote is missing"


def _step_problem(row: StepRow, held: set[DiffID], snapshots: set[str]) -> str:
    if digest_of(row.record) != row.key:
        return "its record has another digest than its key"
    try:
        json.loads(row.usage)
    except (ValueError, RecursionError):
        return "its usage is not JSON"
    if not row.fields():
        return "its record is not JSON"
    if not row.empty and row.diff_id not in held and row.snapshot not in snapshots:
        return "neither its layer nor its snapshot is there"
    return ""


def _repair(store: Store, report: _Report, containers: frozenset[str]) -> None:
    if report.names:
        store.tags.start_anew()
    for digest in report.images:
        store.tags.remove_digest(digest)
    if report.index:
        store.index.start_anew(store.discard)
        for entry in store.tags.entries():
            _record_layers(store, entry.descriptor)
        report.orphans.update(set(os.listdir(store.root / "snapshots")) - containers)
    if report.evidence:
        store.evidence.start_anew(store.discard)
    if report.key and not secret_key.mend(store.root):
        store.discard(store.root / secret_key.NAME)
    gone = report.blobs - report.unreadable
    forget_notes(store.root)
    store.index.forget(steps=report.steps, layers=report.layers | gone, snapshots=report.snapshots)
    for digest in gone:
        store.blobs.remove(digest)
    for identity in (report.snapshots | report.orphans) - containers:
        store.discard(store.root / "snapshots" / identity)
    for name in report.failed:
        store.discard(store.root / "failed" / name)


def _record_layers(store: Store, image: Descriptor) -> None:
    for _, manifest in manifests(store.blobs, image):
        if manifest.config.media_type in CONFIG_TYPES:
            diff_ids = parse_config(store.blobs.read(manifest.config.digest)).diff_ids
            for blob, diff_id in zip(manifest.layers, diff_ids, strict=True):
                store.index.record_layer(LayerRow(diff_id, blob, 0))


def broken(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that are damage."""
    return tuple(finding for finding in findings if not finding.note)
