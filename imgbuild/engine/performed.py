"""Builds that were recorded, and the root file systems of their steps: what a step stands on, and the layers that it left."""

from __future__ import annotations

from imgbuild.engine.registries import platform_of
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import CorruptError, ImageError, NotFoundError
from imgbuild.insight.builds import BuildRecord, StepRecord, find_build, find_step, recent_builds, with_steps
from imgbuild.insight.image import load_image
from imgbuild.light import json
from imgbuild.oci.digest import DiffID, Digest, chain_id
from imgbuild.oci.image import Descriptor, Layer
from imgbuild.store.history import History
from imgbuild.transfer.images import Image, media_type_of, read_image

BUILD = "build:"
_MOST_BUILDS = 1000
"""Of so many builds, the last ones, layers are looked for."""


def build_of(place: Workplace, name: str) -> BuildRecord:
    """The build that a name means: last, last~2, an id, or the beginning of one."""
    return find_build(History(place.store), name)


def step_of(build: BuildRecord, number: str) -> StepRecord:
    """The step that was shown by this number."""
    return find_step(build, number)


def result_of(place: Workplace, build: BuildRecord, platform: str | None = None) -> Image:
    """The image that a build made: of several, the one for a platform."""
    if not build.digest:
        raise NotFoundError(f"the build {build.id} has no result: it {'is still running' if build.status == 'running' else build.status}",
                            hint=f"name a step of it: {BUILD}{build.id}/1")  # fmt: skip
    return image_of(place, Digest(build.digest), f"the result of the build {build.id}", platform)


def image_of(place: Workplace, digest: Digest, name: str, platform: str | None = None) -> Image:
    """The image with this manifest, or of this index; NotFoundError, which calls it `name`, where the store has it no more."""
    try:
        data = place.store.blobs.read(digest)
        descriptor = Descriptor(media_type_of(data, ""), digest, len(data))
        chosen = load_image(place.store, descriptor, platform_of(platform), name, lenient=not platform)
        return read_image(place.store, chosen.descriptor, None)
    except CorruptError as error:
        raise NotFoundError(f"{name} is not in the store any more", detail=error.message, hint="build it again") from None


def build_that_made(place: Workplace, image: Digest) -> BuildRecord | None:
    """The last build whose result was this image."""
    return next((build for build in recent_builds(History(place.store), _MOST_BUILDS) if build.digest == image), None)


def chain_of(build: BuildRecord, step: StepRecord) -> tuple[StepRecord, ...]:
    """A step and those that it stands on, the first of its stage first."""
    chain = [step]
    while chain[-1].parent is not None and (below := build.step(chain[-1].parent)) is not None:
        chain.append(below)
    return tuple(reversed(chain))


def last_step(place: Workplace, build: BuildRecord, platform: str | None = None) -> StepRecord:
    """The last step of what a build made, or, of one that made nothing, the last that ended well."""
    ended = [step for step in with_steps(build).steps if step.outcome in ("done", "cached") and not step.test]
    if build.digest:
        diff_ids = tuple(layer.diff_id for layer in result_of(place, build, platform).layers)
        ended.sort(key=lambda step: (_agreement(build, step, diff_ids), step.number))
    if not ended:
        raise NotFoundError(f"the build {build.id} has no step that ended well")
    return ended[-1]


def layer_of(place: Workplace, step: StepRecord) -> Layer:
    """The layer that a step made."""
    assert step.layer is not None
    diff_id = DiffID(step.layer.diff_id)
    for row in place.store.index.layers_of(diff_id):
        if place.store.blobs.has(row.blob.digest, row.blob.size):
            return Layer(row.blob, diff_id)
    raise NotFoundError(f"the layer of {step.name} is not in the store any more", hint="build it again: what is cached is not performed")


def layers_after(place: Workplace, build: BuildRecord, step: StepRecord) -> tuple[Layer, ...]:
    """The layers of the root file system that a step left, lowest first."""
    if step.outcome not in ("done", "cached"):
        left = f"step {step.number} of the build {build.id} has left nothing: it was {step.outcome}"
        raise NotFoundError(left, hint="name one before it")
    chain = chain_of(build, step)
    own = [layer_of(place, each) for each in chain if each.layer is not None and not each.test]
    return (*base_of(place, build, chain), *own)


def layers_before(place: Workplace, build: BuildRecord, step: StepRecord) -> tuple[Layer, ...]:
    """The layers that a step was performed on."""
    parent = None if step.parent is None else build.step(step.parent)
    return base_of(place, build, (step,)) if parent is None else layers_after(place, build, parent)


def base_of(place: Workplace, build: BuildRecord, chain: tuple[StepRecord, ...]) -> tuple[Layer, ...]:
    """The layers of the base that steps, the first of a stage first, stand on: the one that their records speak of."""
    candidates = [(), *_bases(place, build)]
    above: list[DiffID] = []
    for step in chain:
        row = place.store.index.step(step.key)
        # What is independent of its parent says nothing of it: its record has no ground.
        ground = json.loads(row.usage).get("parent") if row is not None else None
        independent = row is not None and row.fields()["fields"].get("link")
        if ground is not None and not independent:
            for layers in candidates:
                if chain_id((*(layer.diff_id for layer in layers), *above)) == ground:
                    return layers
        if step.layer is not None and not step.test:
            above.append(DiffID(step.layer.diff_id))
    if len(build.bases) <= 1:
        return candidates[-1]
    raise NotFoundError(f"it is not known any more what the steps of the build {build.id} stood on", hint="build it again")


def performers(place: Workplace, diff_ids: tuple[DiffID, ...], image: Digest) -> dict[int, tuple[BuildRecord, StepRecord]]:
    """The builds and steps that made layers, by the layers' places. Of several that made the same layer, the one that stands on most of
    what is below this one; else of the build that made the image, or the last one."""
    places: dict[str, list[int]] = {}
    for number, diff_id in enumerate(diff_ids):
        places.setdefault(diff_id, []).append(number)
    found: dict[int, tuple[int, BuildRecord, StepRecord]] = {}
    builds = recent_builds(History(place.store), _MOST_BUILDS)
    for build in sorted(builds, key=lambda each: each.digest != image):
        for step in build.steps:
            for number in places.get(step.layer.diff_id, ()) if step.layer is not None else ():
                depth = _agreement(build, step, diff_ids[: number + 1])
                if number not in found or depth > found[number][0]:
                    found[number] = depth, build, step
    return {number: (build, step) for number, (_, build, step) in found.items()}


def _agreement(build: BuildRecord, step: StepRecord, diff_ids: tuple[DiffID, ...]) -> int:
    """How many layers from the top are those of a step and of what it stands on."""
    own = [each.layer.diff_id for each in chain_of(build, step) if each.layer is not None and not each.test]
    depth = 0
    for mine, theirs in zip(reversed(own), reversed(diff_ids), strict=False):
        if mine != theirs:
            break
        depth += 1
    return depth


def _bases(place: Workplace, build: BuildRecord) -> list[tuple[Layer, ...]]:
    found: list[tuple[Layer, ...]] = []
    for base in build.bases:
        try:
            found.append(image_of(place, Digest(base["digest"]), f"the base {base['name']}").layers)
        except (NotFoundError, ImageError):
            if len(build.bases) == 1:
                raise
    return found
