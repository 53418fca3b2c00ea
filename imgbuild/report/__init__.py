"""One build as one HTML page that needs nothing else: no network, no other file, and no JavaScript to be read.

Pure: the values below become a text (`page.render`), the same one each time. Whatever is in them is shown, and nothing of it is ever
markup or code: all text goes through `markup`. The layouts (`squarify`, `lanes`, `routes`) know nothing of HTML.
Not here: where the values come from (engine), words for causes (cli).
"""

from __future__ import annotations

from imgbuild.hints import Callable
from imgbuild.insight.beside import Comparison
from imgbuild.insight.builds import BuildRecord
from imgbuild.insight.cause import Cause
from imgbuild.report.files import Files
from imgbuild.values import dataclass

CauseWords = Callable[[Cause], str]
"""Says a cause for a person."""


@dataclass(frozen=True, slots=True)
class ReportLayer:
    """A layer: its place from 1, the lowest; the `step` of the build that made it, None of a base's; the instruction; the size of its blob
    and of its tar; its `files`, None where the store does not have them any more; the number of names that it deletes."""

    number: int
    step: int | None
    instruction: str
    diff_id: str
    size: int
    uncompressed: int
    files: Files | None
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a step wrote, `seconds` after it began, with no escape sequences but those of colors."""

    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class ReportLog:
    """What a step wrote: the first lines, and the last ones, where `lines_left_out` and `bytes_left_out` are between them. `build` is the
    one that performed the step. `gone`: there was a log that is no longer kept."""

    step: int
    build: str
    head: tuple[LogLine, ...] = ()
    tail: tuple[LogLine, ...] = ()
    lines_left_out: int = 0
    bytes_left_out: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page tells. `before` is the last build of the same before this one, and `comparison` how this one differs from it.
    `of_image`: the layers are those of the image that was built, and not just those that its steps made."""

    build: BuildRecord
    before: BuildRecord | None = None
    comparison: Comparison | None = None
    layers: tuple[ReportLayer, ...] = ()
    of_image: bool = False
    logs: tuple[ReportLog, ...] = ()
