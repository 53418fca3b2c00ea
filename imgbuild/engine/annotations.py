"""``--annotation`` and the ``annotation`` keys of ``--output``: what is said of an image in its manifest, its index, or where they are
listed. docker buildx's words."""

from __future__ import annotations

from imgbuild.engine.machine import this_platform
from imgbuild.errors import ImageError, UsageError
from imgbuild.hints import Iterable, Literal
from imgbuild.oci.platform import Platform, parse_platform
from imgbuild.patterns import ASCII, pattern
from imgbuild.values import dataclass

Level = Literal["manifest", "index", "manifest-descriptor", "index-descriptor"]
_LEVELS: tuple[Level, ...] = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_PLACE = pattern(r"\s*([a-z-]*)(?:\[([A-Za-z0-9_/.-]+)\])?\s*", ASCII)
_OUTPUT_KEY = pattern(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/.-]+)\])?\.(\S+)", ASCII)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation: `level` says where it stands, `platform` of which image only, if not of all."""

    level: Level
    platform: Platform | None
    key: str
    value: str


def parse_annotations(texts: Iterable[str]) -> tuple[Annotation, ...]:
    """Read ``[LEVEL[PLATFORM],...:]KEY=VALUE``; UsageError where one is not understood."""
    return tuple(annotation for text in texts for annotation in _parse(text))


def _parse(text: str) -> list[Annotation]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--annotation {text!r} has no value", hint="write KEY=VALUE or LEVEL:KEY=VALUE")
    places, colon, key = name.partition(":")
    if not colon:
        places, key = "manifest", name
    if not key.strip():
        raise UsageError(f"--annotation {text!r} has no key")
    found = []
    for place in places.split(","):
        match = _PLACE.fullmatch(place)
        if match is None:
            raise UsageError(f"--annotation {text!r}: {place!r} is not a level", hint=f"it is one of {', '.join(_LEVELS)}")
        found.append(_made(f"--annotation {text!r}", match[1] or "manifest", match[2], key.strip(), value))
    return found


def output_annotation(option: str, key: str, value: str) -> Annotation | None:
    """What a key of ``--output`` says: ``annotation[-LEVEL][[PLATFORM]].KEY``; None for another key."""
    match = _OUTPUT_KEY.fullmatch(key)
    return None if match is None else _made(option, match[1] or "manifest", match[2], match[3], value)


def _made(option: str, level: str, platform: str | None, key: str, value: str) -> Annotation:
    known = next((each for each in _LEVELS if each == level), None)
    if known is None:
        raise UsageError(f"{option}: {level!r} is not a level", hint=f"it is one of {', '.join(_LEVELS)}")
    try:
        wanted = parse_platform(platform, this_platform()) if platform else None
    except ImageError as error:
        raise UsageError(f"{option}: {error.message}", hint=error.hint) from None
    return Annotation(known, wanted, key, value)


def check_annotations(annotations: Iterable[Annotation], platforms: tuple[Platform, ...], index: bool) -> None:
    """UsageError where there will be no place for one."""
    for annotation in annotations:
        if annotation.level in ("index", "index-descriptor") and not index:
            raise UsageError(
                f"the annotation {annotation.key} is for an index, and a build for one platform makes none",
                hint="leave out the level, or add --build-arg BUILDKIT_MULTI_PLATFORM=1",
            )
        if annotation.platform is not None and annotation.platform not in platforms:
            built = ", ".join(map(str, platforms))
            raise UsageError(f"the annotation {annotation.key} is for {annotation.platform}, which is not built", hint=f"built is: {built}")


def pairs(annotations: Iterable[Annotation], level: Level, platform: Platform | None = None) -> tuple[tuple[str, str], ...]:
    """What stands in one place, sorted; the last one of a key counts."""
    found = {each.key: each.value for each in annotations if each.level == level and each.platform in (None, platform)}
    return tuple(sorted(found.items()))
