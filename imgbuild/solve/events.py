"""What happens during a solve, as values. They flow up through one callable; nothing here knows how they are shown."""

from __future__ import annotations

from imgbuild.errors import Span
from imgbuild.hints import TYPE_CHECKING, Any, Callable
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.sandbox.spec import Usage


@dataclass(frozen=True, slots=True)
class StepsKnown:
    """So many steps are looked up from now on, and performed where they are not found. Those of several builds add up."""

    steps: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step is looked up or performed from now on. `number` is unique in the build."""

    number: int
    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class StepMissed:
    """A step that has started was not found, and will be performed: the reasons (`insight.causes.Cause`), and how many more there are."""

    number: int
    causes: tuple[Any, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class StepWaiting:
    """A started step can't go on for now; `why` is a sentence."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that a step's process wrote, as they came; `stream` is 1 or 2."""

    number: int
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended: "done", "cached", "failed" or "canceled". `usage` only where a process ran."""

    number: int
    outcome: str
    seconds: float
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know that is no error."""

    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A rule of lint found something in the lines of `span`."""

    rule: str
    message: str
    span: Span


Event = StepsKnown | StepStarted | StepMissed | StepWaiting | StepOutput | StepFinished | Notice | Warned
OnEvent = Callable[[Event], None]
