"""What a Buildfile could do better, by what its builds have cost: values, and how they are ordered. Pure.

Every piece of advice stands on evidence: what builds were recorded to have done, and what layers hold. Of what nobody recorded,
nothing is said.
"""

from __future__ import annotations

from imgbuild.hints import Any, Iterable, Mapping, Sequence
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.values import dataclass, field

_BYTES_A_SECOND = 50e6
"""What bytes are set against seconds by: about as many are compressed, sent and fetched in one."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change at `step`. `kind`: "order" and "split" (what is performed for files that it does not read), "later" (or might
    be), "cache-mount", "cleanup", "copied", "ownership" and "overwritten" (bytes in a layer that none above it shows), "big", "failing",
    "unopened" (what no RUN of a stage opens).
    `seconds`, of all builds that were looked at, and `bytes`, of the last one's image, are what the change would have saved; with `most`,
    at most. `evidence` are sentences, `facts` the same for programs."""

    kind: str
    step: StepRecord
    message: str
    evidence: tuple[str, ...] = ()
    seconds: float = 0.0
    bytes: int = 0
    most: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where the instruction stands."""
        return f"{self.step.file}:{self.step.line}" if self.step.line else self.step.file

    @property
    def weight(self) -> float:
        """What it is ordered by."""
        return self.seconds + self.bytes / _BYTES_A_SECOND


@dataclass(frozen=True, slots=True)
class Past:
    """Builds of one thing, the last one first; `build` is the one whose instructions are looked at."""

    build: BuildRecord
    builds: Sequence[BuildRecord]

    def same(self, step: StepRecord) -> list[tuple[BuildRecord, StepRecord]]:
        """What became of an instruction in each build that had it, by its words."""
        identity = (step.platform, step.stage, step.text)
        return [(build, each) for build in self.builds for each in build.steps if (each.platform, each.stage, each.text) == identity]


def took(step: StepRecord) -> float:
    """How long it took to perform a step."""
    if step.usage is not None and step.usage.wall_seconds is not None:
        return step.usage.wall_seconds
    return max(0.0, step.seconds - step.waited)


def ordered(found: Iterable[Advice]) -> tuple[Advice, ...]:
    """What saves most first; of what says no number, as it stands in the Buildfile."""
    return tuple(sorted(found, key=lambda advice: (-advice.weight, advice.step.number, advice.kind)))


def counted(count: int, word: str) -> str:
    """A number of things."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def named(paths: Iterable[str], most: int = 4) -> str:
    """Some of the paths, and how many more there are."""
    known = list(paths)
    left = len(known) - most
    return ", ".join(known[:most]) + (f" and {left:,} more" if left > 0 else "")


def shown_bytes(count: int) -> str:
    """A size for a sentence."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count:,} bytes"
