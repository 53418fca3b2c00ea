"""index.json: the only truth about which images there are and what they are called (image-spec: image-layout.md "index.json").

An entry's name is its annotation org.opencontainers.image.ref.name, in the form in which users write references
(``hello:latest``; ``hello@sha256:...`` for an image fetched by digest); an image without one is dangling. Entries and fields
that others wrote are kept as they are. The file is replaced as a whole, under a lock, and never before all that the new entry
refers to is on disk.
"""

from __future__ import annotations

from imgbuild.errors import CorruptError, ImageError
from imgbuild.hints import Any, Callable, Iterable
from imgbuild.light import json
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import OCI_INDEX, REF_NAME, Descriptor, descriptor_json, document_json, parse_descriptor
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.store.blobs import Blobs
from imgbuild.store.closure import closure
from imgbuild.store.failures import REPAIR, explained, missing_blob
from imgbuild.store.locks import NamedLocks
from imgbuild.store.temporary import replace_file, sync_all
from imgbuild.values import dataclass, replace

_MUCH = 16 << 20
Entries = list[Any]
"""The entries of index.json as they stand there, foreign ones included."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its name as it stands there (None: dangling), the reference it reads as, and the image."""

    name: str | None
    reference: Reference | None
    descriptor: Descriptor


class Tags:
    """The named and unnamed images of a store."""

    def __init__(self, path: Path, blobs: Blobs, locks: NamedLocks, temporary: Path) -> None:
        self._path = path
        self._temporary = temporary
        self._blobs = blobs
        self._locks = locks

    def get(self, reference: Reference) -> Descriptor | None:
        """The image of that name; with a digest, the image of that digest in that repository (its tag does not matter)."""
        values = _entries(self._read())
        name = _written(reference)
        perhaps = _perhaps_named(values, reference.repository)
        perhaps.sort(key=lambda value: _name(value) != name)  # as it is usually spelled
        for value in perhaps:
            entry = _entry(value)
            if entry is not None and entry.reference is not None and _meets(entry, reference):
                return entry.descriptor
        return None

    def entries(self) -> tuple[Entry, ...]:
        """All images, in the order of the file; entries that are no descriptors are passed over."""
        found = (_entry(value) for value in _entries(self._read()))
        return tuple(entry for entry in found if entry is not None)

    def list(self) -> tuple[tuple[Reference | None, Descriptor], ...]:
        """All images with their names; None for those without."""
        return tuple((entry.reference, entry.descriptor) for entry in self.entries())

    def set(self, reference: Reference, descriptor: Descriptor, meanwhile: Callable[[], object] | None = None) -> None:
        """Let `reference` name `descriptor`, whose blobs are all here (else CorruptError) and are on disk thereafter.

        The image that had the name stays, without it. With a digest in `reference` (which must be the image's) the entry is
        ``name@digest``, without a tag, as docker has it. `meanwhile` is called each time that the disk is waited for.
        """
        if reference.digest is not None:
            if reference.digest != descriptor.digest:
                raise ImageError(f"{reference} can't name an image with the digest {descriptor.digest}")
            reference = replace(reference, tag=None)
        name = _written(reference)
        self._change(lambda entries: _named(entries, name, reference.repository, descriptor), self._needed(descriptor), meanwhile)

    def add_untagged(self, descriptor: Descriptor, meanwhile: Callable[[], object] | None = None) -> None:
        """Keep an image without a name, unless it is here already under any or none. `meanwhile` as above."""
        needed = self._needed(descriptor)
        value = _value(None, descriptor)
        self._change(lambda entries: entries if _holds(entries, descriptor.digest) else [*entries, value], needed, meanwhile)

    def remove(self, reference: Reference) -> Descriptor | None:
        """Take the name away, and the image's entry with it; returns what it named. Its blobs are left to the collector."""
        removed: list[Descriptor] = []

        def without(entries: Entries) -> Entries:
            removed.clear()
            kept = []
            perhaps = {id(value) for value in _perhaps_named(entries, reference.repository)}
            for value in entries:
                entry = _entry(value) if id(value) in perhaps else None
                if entry is not None and entry.reference is not None and _meets(entry, reference):
                    removed.append(entry.descriptor)
                else:
                    kept.append(value)
            return kept

        self._change(without)
        return removed[0] if removed else None

    def remove_digest(self, digest: Digest) -> tuple[Entry, ...]:
        """Remove every entry of this image; returns them."""
        return self._remove_where(lambda value: _digest(value) == digest)

    def remove_untagged(self) -> tuple[Entry, ...]:
        """Remove all dangling images; returns them."""
        return self._remove_where(lambda value: _name(value) is None)

    def unreadable(self) -> tuple[str, ...]:
        """Why entries are passed over, one sentence each."""
        reasons = []
        for value in _entries(self._read()):
            try:
                parse_descriptor(value, "entry of index.json")
            except ImageError as error:
                reasons.append(error.message)
        return tuple(reasons)

    def start_anew(self) -> None:
        """Set a file that can't be read aside, as index.json.damaged, and begin with no images."""
        with self._locks.hold("index.json"), explained(self._path):
            self._path.replace(self._path.with_name("index.json.damaged"))
        self._change(lambda entries: entries)

    def _remove_where(self, condition: Callable[[object], bool]) -> tuple[Entry, ...]:
        removed: list[Entry] = []

        def without(entries: Entries) -> Entries:
            pairs = [(value, _entry(value) if condition(value) else None) for value in entries]
            removed[:] = [entry for _, entry in pairs if entry is not None]
            return [value for value, entry in pairs if entry is None]

        self._change(without)
        return tuple(removed)

    def _needed(self, descriptor: Descriptor) -> Iterable[Digest]:
        """All blobs of an image, which are here; brought to disk if there is much to write, so that nobody has to wait for that who only
        has something to name."""
        needed = {part.digest: part for part in closure(self._blobs, descriptor)}
        for part in needed.values():
            if not self._blobs.has(part.digest):
                raise missing_blob(part.digest)
            if not self._blobs.has(part.digest, part.size):
                raise CorruptError(f"the blob {part.digest} has not the {part.size} bytes that the image says", hint=REPAIR)
        if sum(part.size for part in needed.values() if self._blobs.is_unsynced(part.digest)) > _MUCH:
            self._blobs.make_durable(needed)
        return needed

    def _change(
        self, edit: Callable[[Entries], Entries], needed: Iterable[Digest] = (), meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Replace the file, after the blobs that are `needed` are on disk."""
        with self._locks.hold("index.json"):
            document = self._read()
            entries = _entries(document)
            changed = edit(entries)
            if changed == entries and self._path.exists():
                self._blobs.make_durable(needed)
                return
            data = document_json({**document, "manifests": changed})

            def settle(new: Path) -> None:
                self._blobs.make_durable(needed, beside=(new,), meanwhile=meanwhile)

            replace_file(self._path, data, self._temporary, settle=settle)
            sync_all((self._path.parent,), meanwhile)

    def _read(self) -> dict[str, Any]:
        with explained(self._path):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _malformed(str(error)) from None
        if not isinstance(value, dict) or not isinstance(value.get("manifests", []), list):
            raise _malformed("it holds no list of manifests")
        return value


def _malformed(detail: str) -> CorruptError:
    return CorruptError("the store's index.json can't be read", hint="run `imgbuild fsck --repair`", detail=detail)


def _entries(document: dict[str, Any]) -> Entries:
    return list(document.get("manifests", []))


def _entry(value: object) -> Entry | None:
    try:
        descriptor = parse_descriptor(value, "entry of index.json")
    except ImageError:
        return None
    name = descriptor.annotation(REF_NAME)
    annotations = tuple(pair for pair in descriptor.annotations if pair[0] != REF_NAME)
    try:
        reference = None if name is None else parse_reference(name)
    except ImageError:
        reference = None
    return Entry(name, reference, replace(descriptor, annotations=annotations))


def _value(name: str | None, descriptor: Descriptor) -> dict[str, Any]:
    annotations = dict(descriptor.annotations)
    annotations.pop(REF_NAME, None)
    if name is not None:
        annotations[REF_NAME] = name
    return descriptor_json(replace(descriptor, annotations=tuple(sorted(annotations.items()))))


def _nameless(value: dict[str, Any]) -> dict[str, Any]:
    annotations = {key: text for key, text in value.get("annotations", {}).items() if key != REF_NAME}
    rest = {key: field for key, field in value.items() if key != "annotations"}
    return {**rest, "annotations": annotations} if annotations else rest


def _named(entries: Entries, name: str, repository: str, descriptor: Descriptor) -> Entries:
    wanted = _value(name, descriptor)
    perhaps = {id(value) for value in _perhaps_named(entries, repository)}
    changed: Entries = []
    for value in entries:
        entry = _entry(value) if id(value) in perhaps else None
        if entry is None or entry.reference is None or _written(entry.reference) != name:
            changed.append(value)
        elif entry.descriptor.digest != descriptor.digest:
            changed.append(_nameless(value))
        elif wanted not in changed:
            changed.append(wanted)
    return _without_needless(changed if wanted in changed else [*changed, wanted])


def _without_needless(entries: Entries) -> Entries:
    """Entries without the nameless ones of images that also have a name, or stand there twice."""
    seen = {str(value.get("digest")) for value in entries if _name(value) is not None}
    kept = []
    for value in entries:
        entry = _entry(value) if _name(value) is None else None
        if entry is None:
            kept.append(value)
        elif entry.descriptor.digest not in seen:
            seen.add(entry.descriptor.digest)
            kept.append(value)
    return kept


def _perhaps_named(entries: Entries, repository: str) -> Entries:
    """The entries whose names may be of a repository, however they are spelled: only these need to be read as references. Most of
    the time of a build in which all is cached would else be that of all the other images."""
    last = repository.rpartition("/")[2]
    return [value for value in entries if (name := _name(value)) is not None and _last_part(name) == last]


def _last_part(name: str) -> str:
    return name.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _digest(value: object) -> str | None:
    """An entry's digest, without reading the rest of it."""
    digest = value.get("digest") if isinstance(value, dict) else None
    return digest if isinstance(digest, str) else None


def _name(value: object) -> str | None:
    """An entry's name, without reading the rest of it."""
    annotations = value.get("annotations") if isinstance(value, dict) else None
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _written(reference: Reference) -> str:
    """As users write it, if that reads as the same reference: ``docker.io/a.b/c`` must keep its registry."""
    short = reference.familiar()
    return short if parse_reference(short) == reference else str(reference)


def _holds(entries: Entries, digest: Digest) -> bool:
    return any(_digest(value) == digest and _entry(value) is not None for value in entries)


def _meets(entry: Entry, wanted: Reference) -> bool:
    reference = entry.reference
    if reference is None or reference.name != wanted.name:
        return False
    if wanted.digest is not None:
        return entry.descriptor.digest == wanted.digest
    return reference.digest is None and reference.tag == wanted.tag
