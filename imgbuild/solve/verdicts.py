"""What the tests of a build came to. They are heard to the end, and then the build fails if one of them did."""

from __future__ import annotations

from imgbuild.errors import ImgbuildError, Span, StepFailed
from imgbuild.graph.ops import BuildGraph, Step
from imgbuild.light import threading
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """A test's end: "done", "cached", "failed", "canceled", or "skipped" where it was never started; with why, and the end of what
    it wrote, where it failed."""

    stage: str
    name: str
    span: Span
    outcome: str
    seconds: float = 0.0
    message: str = ""
    detail: str = ""


class Verdicts:
    """Collects verdicts, from any thread."""

    def __init__(self) -> None:
        self._found: dict[int, Verdict] = {}
        self._failures: list[StepFailed] = []
        self._lock = threading.Lock()

    def add(self, step: Step, outcome: str, seconds: float, failure: ImgbuildError | None = None) -> None:
        """Note how a test ended."""
        message, detail = (failure.message, failure.detail or "") if failure is not None else ("", "")
        verdict = Verdict("", text_of(step), step.span, outcome, seconds, message, detail)
        with self._lock:
            self._found[id(step)] = verdict
            if outcome == "failed" and isinstance(failure, StepFailed):
                self._failures.append(failure)

    def all(self, graph: BuildGraph) -> tuple[Verdict, ...]:
        """One for each test of the graph, in the Buildfile's order."""
        found = []
        for stage in graph.stages.values():
            suite = f"{stage.name} {stage.platform}" if len(graph.targets) > 1 else stage.name
            for test in stage.tests:
                step = test.step
                verdict = self._found.get(id(step)) or Verdict("", text_of(step), step.span, "skipped")
                found.append(Verdict(suite, *(getattr(verdict, name) for name in _REST)))
        return tuple(found)

    def check(self) -> None:
        """StepFailed where a test failed: of one, its own; of several, one that names them."""
        failures = sorted(self._failures, key=lambda error: error.at.line if error.at else 0)
        if not failures:
            return
        first = failures[0]
        if len(failures) == 1:
            error = StepFailed(f"the test failed: {first.message}", at=first.at, hint=first.hint, detail=first.detail, notes=first.notes)
            error.kept = first.kept
            raise error
        lines = [f"{error.at}: {error.message}" for error in failures]
        raise StepFailed(f"{len(failures)} tests failed, the first one here", at=first.at, detail="\n".join(lines))


_REST = ("name", "span", "outcome", "seconds", "message", "detail")


def text_of(step: Step) -> str:
    """The instruction as it is shown, without its place."""
    return step.name.partition("] ")[2]
