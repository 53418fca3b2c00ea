"""What a word means that names a root file system: its lowers, and those that it was made on.

``build:BUILD`` is what a build made, ``build:BUILD/N`` what its step N left; ``failed:STEP`` what a step that failed left;
``container:NAME`` is a container; other words are images of the store by name, ID or digest, or else containers. BUILD is ``last``,
``last~2``, an id, or the beginning of one; STEP is ``last``, an id, or the beginning of one.
"""

from __future__ import annotations

from imgbuild.engine.lookup import find_image
from imgbuild.engine.registries import platform_of
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import ConflictError, ImageError, NotFoundError
from imgbuild.hints import TYPE_CHECKING
from imgbuild.light.contextlib import ExitStack
from imgbuild.oci.config import ImageConfig
from imgbuild.oci.image import Layer
from imgbuild.rootfs.lowers import lower_of
from imgbuild.rootfs.materialize import materialize
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.runtime.records import ContainerRecord, Records
    from imgbuild.transfer.images import Image

CONTAINER = "container:"


@dataclass(frozen=True, slots=True)
class Subject:
    """A root file system that was named. `config` is None where there is none to compare; `below` is what it was made on, None where
    that is not known. `layers` are an image's: where its lowers were not asked for, there are none."""

    name: str
    lowers: Lowers
    config: ImageConfig | None = None
    below: Lowers | None = None
    layers: tuple[Layer, ...] = ()


def find_subject(place: Workplace, stack: ExitStack, word: str, platform: str | None, *, late: bool = False) -> Subject:
    """What the word means. The caller holds the store's lease; `stack` ends with what is done with the subject. With `late`, the lowers of
    images are left to the caller."""
    if word.startswith("failed:"):
        return _failed(place, stack, word)
    if word.startswith("build:"):
        return _built(place, word, platform, late)
    if word.startswith(CONTAINER):
        return _container(place, word.removeprefix(CONTAINER))
    try:
        image = subject_image(place, word, platform)
    except (NotFoundError, ImageError) as error:
        if any(word in (record.name, record.id) or record.id.startswith(word) for record in _records(place).all()):
            return _container(place, word)
        if isinstance(error, NotFoundError):
            error.hint = f"{error.hint}; there is no such container either"
        raise
    return _of_image(place, word, image, late)


def _of_image(place: Workplace, word: str, image: Image, late: bool) -> Subject:
    return Subject(word, () if late else image_lowers(place, image.layers), image.config, None, image.layers)


def _failed(place: Workplace, stack: ExitStack, word: str) -> Subject:
    from imgbuild.rootfs.failed import failed_lowers
    from imgbuild.store.failed import find_failed, held

    step = find_failed(place.store.root, word.removeprefix("failed:"))
    stack.enter_context(held(step))
    lowers = failed_lowers(place.store, step, place.features)
    return Subject(word, lowers, None, lowers[:-1])


def _built(place: Workplace, word: str, platform: str | None, late: bool) -> Subject:
    from imgbuild.engine.performed import build_of, layers_after, layers_before, result_of, step_of

    name, slash, number = word.removeprefix("build:").partition("/")
    build = build_of(place, name)
    if not slash:
        return _of_image(place, word, result_of(place, build, platform), late)
    step = step_of(build, number)
    after, before = layers_after(place, build, step), layers_before(place, build, step)
    return Subject(word, image_lowers(place, after), None, image_lowers(place, before))


def subject_image(place: Workplace, word: str, platform: str | None) -> Image:
    """The image of the store that a word names; without a platform, of an index the one for this machine, or the only one that is here."""
    if word.startswith("build:"):
        from imgbuild.engine.performed import build_of, result_of

        return result_of(place, build_of(place, word.removeprefix("build:")), platform)
    from imgbuild.insight.image import load_image
    from imgbuild.transfer.images import check_platform, read_image

    reference, descriptor = find_image(place.store, word)
    chosen = load_image(place.store, descriptor, platform_of(platform), word, lenient=not platform)
    image = read_image(place.store, chosen.descriptor, None, reference)
    if platform:
        check_platform(image, platform_of(platform), word)
    return image


def image_lowers(place: Workplace, layers: tuple[Layer, ...]) -> Lowers:
    """A lower for each layer, made where it is not there."""
    return materialize(place.store, layers, features=place.features, deep=False)


def _container(place: Workplace, word: str) -> Subject:
    records = _records(place)
    record = records.find(word)
    below = _stood_on(place, record)
    return Subject(record.name, (*below, DirectoryLower(records.directory(record.id) / "fs")), None, below)


def _stood_on(place: Workplace, record: ContainerRecord) -> Lowers:
    found = [lower_of(place.store, identity, place.features) for identity in record.snapshots]
    lowers = tuple(lower for lower in found if lower is not None)
    if len(lowers) < len(found):
        raise ConflictError(f"what the container {record.name} stands on is in a form that can't be read here")
    return lowers


def _records(place: Workplace) -> Records:
    from imgbuild.runtime.records import Records

    return Records(place.store.root / "containers", place.store.discard, place.store.clock)
