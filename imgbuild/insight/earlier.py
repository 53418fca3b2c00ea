"""What of an earlier build's record is asked before a cause is known: a few fields of it, read in a tenth of the time of
`insight.builds`, which says what they mean. What has another type than it should has not been said."""

from __future__ import annotations

from imgbuild.hints import Any, Mapping
from imgbuild.store.records import LATEST
from imgbuild.values import dataclass, field


@dataclass(frozen=True, slots=True)
class EarlierStep:
    """A step of an earlier build. `wall` is how long its process ran when it was performed."""

    number: int
    stage: str
    position: int
    platform: str
    name: str
    key: str
    outcome: str
    seconds: float
    wall: float | None
    stands: bool
    """Whether it stands on another step, and not on an image."""
    base: str

    @property
    def text(self) -> str:
        """The instruction, without its place."""
        return self.name.partition("] ")[2] or self.name


@dataclass(frozen=True, slots=True)
class EarlierBuild:
    """An earlier build, and its whole record as it stands there."""

    id: str
    status: str
    buildfile: str
    context: str
    target: str
    bake_target: str
    started: float
    bases: Mapping[str, str]
    """The names of images by their digests."""
    steps: tuple[EarlierStep, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    def step(self, number: int) -> EarlierStep | None:
        """The step with a number."""
        return next((step for step in self.steps if step.number == number), None)


def parse_earlier(raw: Mapping[str, Any]) -> EarlierBuild:
    """A build from the JSON object of its record."""
    steps, bake = raw.get("steps"), raw.get("bake")
    return EarlierBuild(
        _text(raw, "id"),
        _text(raw, "status"),
        _text(raw, "buildfile"),
        _text(raw, "context"),
        _text(raw, "target"),
        _text(bake, "target") if isinstance(bake, dict) else "",
        _seconds(raw, "started") or 0.0,
        _bases(raw.get("bases")),
        tuple([_step(step) for step in steps if isinstance(step, dict)]) if isinstance(steps, list) else (),
        raw,
    )


def _step(raw: Mapping[str, Any]) -> EarlierStep:
    number, parent, usage = _number(raw, "number"), raw.get("parent"), raw.get("usage")
    return EarlierStep(
        number,
        _text(raw, "stage"),
        _number(raw, "position"),
        _text(raw, "platform"),
        _text(raw, "name"),
        _text(raw, "key"),
        _text(raw, "outcome"),
        _seconds(raw, "seconds") or 0.0,
        _seconds(usage, "wall_seconds") if isinstance(usage, dict) else None,
        type(parent) is int and parent < number,
        _text(raw, "base"),
    )


def _bases(value: object) -> dict[str, str]:
    bases = [base for base in value if isinstance(base, dict)] if isinstance(value, list) else []
    return {_text(base, "digest"): _text(base, "name") for base in reversed(bases)}


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if type(value) is str else ""


def _number(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if type(value) is int and abs(value) < 1 << 62 else 0


def _seconds(raw: Mapping[str, Any], name: str) -> float | None:
    value: Any = raw.get(name)
    return value if type(value) in (int, float) and abs(value) < LATEST else None
