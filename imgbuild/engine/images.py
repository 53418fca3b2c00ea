"""Commands on the images of the store: what is there, what is in it, names, and what can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.lookup import find_image
from imgbuild.engine.machine import this_platform
from imgbuild.engine.registries import platform_of, reference
from imgbuild.engine.workplace import Workplace, sweep_groups, workplace
from imgbuild.errors import ConflictError, CorruptError, ImageError, UsageError
from imgbuild.hints import Callable
from imgbuild.light.contextlib import suppress
from imgbuild.light.functools import partial
from imgbuild.store.closure import manifests
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.insight.history import HistoryRow
    from imgbuild.insight.images import ImageRow
    from imgbuild.oci.image import Descriptor
    from imgbuild.store.fsck import Finding
    from imgbuild.store.garbage import Freed
    from imgbuild.store.usage import Usage


def list_images(invocation: Invocation, name: str | None = None) -> tuple[ImageRow, ...]:
    """All images, or those of a repository or of one tag of it, the youngest first."""
    from imgbuild.insight.images import images

    wanted = None if name is None else reference(name)
    with workplace(invocation, snapshots=False) as place:
        rows = images(place.store, this_platform())
    if wanted is None or name is None:
        return rows
    repository = replace(wanted, tag=None, digest=None).familiar()
    tags = (wanted.tag,) if ":" in name.rpartition("/")[2] else ()
    return tuple(row for row in rows if row.repository == repository and (not tags or row.tag in tags))


def inspect_images(invocation: Invocation, names: tuple[str, ...], platform: str | None) -> list[dict[str, Any]]:
    """The images as JSON objects."""
    from imgbuild.insight.inspect import inspect

    with workplace(invocation, snapshots=False) as place:
        wanted, lenient = platform_of(platform), not platform
        return [inspect(place.store, *find_image(place.store, name), wanted, lenient=lenient) for name in names]


def image_history(invocation: Invocation, name: str, platform: str | None) -> tuple[HistoryRow, ...]:
    """The image's history, the last instruction first."""
    from imgbuild.insight.history import history

    with workplace(invocation, snapshots=False) as place:
        return history(place.store, find_image(place.store, name)[1], platform_of(platform), name, lenient=not platform)


def tag_image(invocation: Invocation, source: str, names: tuple[str, ...]) -> None:
    """Give an image more names."""
    references = [reference(name) for name in names]
    if any(each.digest is not None for each in references):
        raise UsageError("a name for an image can't have a digest")
    with workplace(invocation, snapshots=False) as place, place.store.lease():
        descriptor = replace(find_image(place.store, source)[1], annotations=())
        for each in references:
            place.store.tags.set(each, descriptor)


def remove_images(invocation: Invocation, names: tuple[str, ...], force: bool) -> list[str]:
    """Take names away; an image without a name left goes, with what only it needed. Lines that say what was done."""
    done: list[str] = []
    with workplace(invocation) as place:
        for name in names:
            found, descriptor = find_image(place.store, name)
            used = _containers_of(place, descriptor)
            others = [entry for entry in place.store.tags.entries() if entry.descriptor.digest == descriptor.digest]
            if used and not force and len(others) <= 1:
                raise ConflictError(f"{name} is used by the container {used[0]}", hint="remove the container first, or use --force")
            if found is None:
                removed = place.store.tags.remove_digest(descriptor.digest)
                done += [f"Untagged: {entry.name}" for entry in removed if entry.name]
            else:
                place.store.tags.remove(found)
                done.append(f"Untagged: {found.familiar()}")
            if not any(entry.descriptor.digest == descriptor.digest for entry in place.store.tags.entries()):
                done.append(f"Deleted: {descriptor.digest}")
        # Somebody works on the store, or it is not known what a container uses: what is left over goes with the next removal or prune.
        with suppress(ConflictError, CorruptError):
            _collect(place, unused_since=None, keep_cache=True, drop_untagged=False, timeout=0.0)
    return done


def prune(invocation: Invocation, everything: bool, on_wait: Callable[[], None]) -> Freed:
    """Free what nothing needs: images without a name and steps not used for long; with `everything`, all of the cache. Then what is not
    to be kept of builds."""
    from imgbuild.engine.recorded import trim_history

    with workplace(invocation) as place:
        sweep_groups()
        since = place.store.clock() - place.settings.keep_unused
        freed = _collect(place, unused_since=since, keep_cache=not everything, drop_untagged=True, on_wait=on_wait)
        builds = trim_history(place)
        return replace(freed, builds=builds, bytes=freed.bytes + place.store.scratch.empty())


def disk_usage(invocation: Invocation) -> Usage:
    """What the store takes on the disk."""
    from imgbuild.store.usage import usage

    with workplace(invocation) as place:
        return usage(place.store, _perhaps_in_use(place))


def check_store(invocation: Invocation, repair: bool, on_wait: Callable[[], None]) -> tuple[Finding, ...]:
    """Everything that is wrong with the store."""
    from imgbuild.store.fsck import Finding, check

    with workplace(invocation) as place:
        sweep_groups()
        findings = check(place.store, repair=repair, containers=partial(_perhaps_in_use, place), on_wait=on_wait)
        try:
            _snapshots_in_use(place)
        except CorruptError as error:
            return (Finding("container", "containers", f"{error.message}; {error.hint}", repairable=False), *findings)
        return findings


def _collect(
    place: Workplace,
    *,
    unused_since: float | None,
    keep_cache: bool,
    drop_untagged: bool,
    timeout: float | None = 60.0,
    on_wait: Callable[[], None] | None = None,
) -> Freed:
    from imgbuild.engine.workplace import keep_failed
    from imgbuild.store.garbage import Policy, collect

    policy = Policy(partial(_snapshots_in_use, place), keep_cache, unused_since, drop_untagged, keep_failed(place.settings))
    return collect(place.store, policy, timeout=timeout, on_wait=on_wait)


def _snapshots_in_use(place: Workplace) -> frozenset[str]:
    """What containers stand on; CorruptError where that can't be said, since what is taken out then may be in use."""
    from imgbuild.runtime.records import Records

    return Records(place.store.root / "containers", place.store.discard, place.store.clock).snapshots()


def _perhaps_in_use(place: Workplace) -> frozenset[str]:
    """What containers stand on, or all snapshots where that can't be said."""
    try:
        return _snapshots_in_use(place)
    except CorruptError:
        return frozenset(path.name for path in (place.store.root / "snapshots").iterdir())


def _containers_of(place: Workplace, descriptor: Descriptor) -> list[str]:
    """The containers of an image, or of any that an index lists."""
    from imgbuild.runtime.records import Records

    digests = {descriptor.digest}
    with suppress(CorruptError, ImageError):
        digests |= {child.digest for child, _ in manifests(place.store.blobs, descriptor)}
    records = Records(place.store.root / "containers", place.store.discard, place.store.clock)
    return [record.name for record in records.all() if record.image_digest in digests]
