"""Which step of an earlier build a step is to be compared with: the same place, the same words, or the nearest words. Pure."""

from __future__ import annotations

from imgbuild.hints import Iterator, Mapping, Sequence
from imgbuild.values import dataclass

_SIMILAR = 0.6
_MOST = 1_000_000
"""Pairs of steps that are compared at most to see which ones moved."""


@dataclass(frozen=True, slots=True)
class Place:
    """A step in a build: its number there, its stage, its position in it, and its words."""

    number: int
    stage: str
    position: int
    text: str


def predecessors(old: Sequence[Place], new: Sequence[Place]) -> dict[int, int]:
    """For the numbers of the new steps, those of the old ones that they were: each is that of one at most. What stands in the same stage
    between the same neighbours is the same step, whatever it says; then come the same words anywhere, and the most similar ones."""
    found: dict[int, int] = {}
    stages, before = _by_stage(new), _by_stage(old)
    for name, steps in stages.items():
        same = before.get(name) or before.get(_nearest(steps, before, stages), [])
        for one, other in _aligned(same, steps):
            if one.number not in found.values():
                found[other.number] = one.number
    left = {place.number: place for place in old if place.number not in set(found.values())}
    for place in new:
        if place.number not in found and (best := _best(place, list(left.values()))) is not None:
            found[place.number] = best.number
            del left[best.number]
    return found


def text_of(name: str) -> str:
    """The words of a step by its name: ``[build 2/5] RUN make``."""
    return name.partition("] ")[2] or name


def _by_stage(places: Sequence[Place]) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(place.stage, []).append(place)
    return {name: sorted(steps, key=lambda place: place.position) for name, steps in found.items()}


def _nearest(steps: Sequence[Place], before: Mapping[str, Sequence[Place]], now: Mapping[str, object]) -> str:
    """The old stage that a new one may have been under another name: one that is gone, and has most of its words."""
    words = {place.text for place in steps}
    shared = {name: len(words & {place.text for place in other}) for name, other in before.items() if name not in now}
    return max(shared, key=lambda name: shared[name], default="") if any(shared.values()) else ""


def _aligned(old: Sequence[Place], new: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    start = 0
    while start < min(len(old), len(new)) and old[start].text == new[start].text:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end].text == new[-1 - end].text:
        end += 1
    yield from zip(old[:start], new[:start], strict=True)
    yield from zip(old[len(old) - end :], new[len(new) - end :], strict=True)
    one, other = old[start : len(old) - end], new[start : len(new) - end]
    if len(one) == len(other) == 1 or len(one) * len(other) > _MOST:
        yield from zip(one, other, strict=False)
        return
    if not one or not other:
        return
    from difflib import SequenceMatcher  # here, since it takes a millisecond, and most builds need it for nothing

    blocks = SequenceMatcher(None, [place.text for place in one], [place.text for place in other], autojunk=False).get_opcodes()
    for tag, first, last, begin, stop in blocks:
        if tag == "equal" or (tag == "replace" and last - first == stop - begin):
            yield from zip(one[first:last], other[begin:stop], strict=True)


def _best(place: Place, among: Sequence[Place]) -> Place | None:
    same = [other for other in among if other.text == place.text]
    if same:
        return min(same, key=lambda other: (other.stage != place.stage, abs(other.position - place.position)))
    kind = place.text.partition(" ")[0]
    alike = [other for other in among if other.stage == place.stage and other.text.partition(" ")[0] == kind]
    if not alike:
        return None
    from difflib import SequenceMatcher

    rated = [(SequenceMatcher(None, other.text, place.text, autojunk=False).ratio(), other) for other in alike[:50]]
    ratio, nearest = max(rated, key=lambda pair: pair[0], default=(0.0, place))
    return nearest if ratio >= _SIMILAR else None
