"""``imgbuild advise``: what the builds of a Buildfile were recorded to have done, and what their layers hold, for advice. Nothing runs."""

from __future__ import annotations

import os

from imgbuild.engine.includes import read_buildfile
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.machine import this_platform
from imgbuild.engine.performed import build_of, chain_of, last_step, layer_of
from imgbuild.engine.source import find_source
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import CorruptError, ImgbuildError, LayerError, NotFoundError
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import make_outline, needed_by
from imgbuild.hints import Mapping, Sequence
from imgbuild.insight.advice import Advice, Past, ordered
from imgbuild.insight.builds import BuildRecord, StepRecord, parse_build, recent_builds, with_steps
from imgbuild.insight.cache_advice import cache_mounts, failing, misses, unmounted
from imgbuild.insight.layer_advice import below, big, shadowed
from imgbuild.insight.unopened import Unknown, unopened
from imgbuild.layer.compress import decompressing
from imgbuild.layer.listing import Listed, listed
from imgbuild.light.contextlib import suppress
from imgbuild.oci.platform import parse_platform
from imgbuild.store.history import History
from imgbuild.values import dataclass

_MOST = 200
"""Builds that are looked at, the last ones."""


@dataclass(frozen=True, slots=True)
class Advised:
    """What is to be said of one Buildfile: of `builds` builds, `build` is the one whose instructions it is about. `unread` are the numbers
    of steps whose layers are not in the store; `unsaid` are those of which it is not known what they opened."""

    build: BuildRecord
    builds: int
    advice: tuple[Advice, ...]
    unread: tuple[int, ...]
    unsaid: tuple[Unknown, ...] = ()


def advise(invocation: Invocation, word: str) -> Advised:
    """Advice on what a word means: a build, a context's directory, or a Buildfile. NotFoundError where no build of it is known."""
    with workplace(invocation, snapshots=False) as place, place.store.lease():
        chosen = _chosen(place, word)
        builds = _builds(place, chosen)
        steps = [step for step in chosen.steps if step.outcome in ("done", "cached")]
        image = _image_steps(place, chosen)
        wanted = {step.number: step for step in (*image, *(step for step in steps if unmounted(step) is not None))}
        read = {number: _read(place, step) for number, step in wanted.items()}
        known = {number: entries for number, entries in read.items() if entries is not None}
        layers = [(step, known[step.number]) for step in image if step.number in known]
        caches = {number: below(entries, found[1]) for number, entries in known.items() if (found := unmounted(wanted[number])) is not None}
        past = Past(chosen, builds)
        opens = _unopened(place, past)
        unsaid = tuple(each for each in opens if isinstance(each, Unknown))
        said = (each for each in opens if isinstance(each, Advice))
        advice = (*misses(past), *cache_mounts(past, caches), *shadowed(layers), *big(layers), *failing(past, builds[0]), *said)
        return Advised(chosen, len(builds), ordered(advice), tuple(sorted(read.keys() - known.keys())), unsaid)


def _unopened(place: Workplace, past: Past) -> tuple[Advice | Unknown, ...]:
    """What nobody opens; nothing where it is not known of which stages the result is made: other targets of a bake may be of any."""
    build = past.build
    if build.bake or not build.digest:
        return ()
    try:
        stages = {step.stage for step in chain_of(build, last_step(place, build))}
    except ImgbuildError:
        return ()
    performed = {build.id: build, **{each.id: each for each in past.builds}}
    history = History(place.store)
    opened = {}
    for step in build.steps:
        if step.build and step.build not in performed and (raw := history.get(step.build)) is not None:
            performed[step.build] = parse_build(raw)
        if step.build in performed:
            own = next((each.opened for each in performed[step.build].steps if each.key == step.key and each.opened), {})
            opened[step.number] = own
    return tuple(unopened(past, opened, stages, _unbuilt(build)))


def _unbuilt(build: BuildRecord) -> Mapping[str, Sequence[str]]:
    """By stage, those that need it and are no part of the build, as other targets are: by the Buildfile as it is now, if it is there."""
    found: dict[str, list[str]] = {}
    if build.buildfile.startswith("/") and os.path.isfile(build.buildfile):  # what is no file may have to be waited for
        with suppress(ImgbuildError, OSError):
            buildfile = read_buildfile(find_source(build.context, build.buildfile), build.args)
            options = LowerOptions(parse_platform("".join(build.platforms[:1]) or "local", this_platform()), build.args, build.target)
            outline = make_outline(buildfile, options, {})
            for stage in outline.stages:
                for index in needed_by(outline.stages, stage.index) - {stage.index} if stage.index not in outline.needed else ():
                    found.setdefault(outline.stages[index].name, []).append(stage.name)
    return found


def _chosen(place: Workplace, word: str) -> BuildRecord:
    """The build that a word means: of a directory or a Buildfile, the last one of it that came to its end, else the last one."""
    if not os.path.exists(word):
        return with_steps(build_of(place, word))
    file = find_source(word, None).file if os.path.isdir(word) else word
    path = os.path.realpath(str(file))
    builds = [build for build in recent_builds(History(place.store), _MOST, buildfile=path) if build.steps]
    if not builds:
        raise NotFoundError(f"no build of {path} is known", hint="build it: advice stands on what builds did")
    return next((build for build in builds if build.status == "done"), builds[0])


def _builds(place: Workplace, chosen: BuildRecord) -> list[BuildRecord]:
    """The builds of the same thing, the last one first."""
    found = []
    for build in recent_builds(History(place.store), _MOST, buildfile=chosen.buildfile):
        same = (build.target, build.bake_target) == (chosen.target, chosen.bake_target)
        if build.steps and same and (chosen.buildfile.startswith("/") or build.context == chosen.context):
            found.append(build)
    return found or [chosen]


def _image_steps(place: Workplace, build: BuildRecord) -> list[StepRecord]:
    """The steps whose layers the build's image has, the lowest first; none where there is no image any more."""
    try:
        chain = chain_of(build, last_step(place, build))
    except ImgbuildError:
        return []
    return [step for step in chain if step.layer is not None and not step.test]


def _read(place: Workplace, step: StepRecord) -> tuple[Listed, ...] | None:
    """What a step's layer says; None where it is gone, or can't be read."""
    if step.layer is None:
        return ()
    try:
        with place.store.blobs.open(layer_of(place, step).blob.digest) as stream:
            return tuple(listed(decompressing(stream)))
    except (NotFoundError, CorruptError, LayerError):
        return None
