"""Records of builds as values, found by the names that people give them. What each field means is said here.

A record is a JSON object (`store.history` keeps them, `solve.chronicle` and `engine.recorded` write them); a reader takes what it knows
and asks for nothing, since records of older versions may lack what was added later. Times are seconds: `started` and `ended` of a build
since 1970, `started` of a step since the build's start. Sizes are bytes.

A *build* is one result of `imgbuild build`, or one target of a bake: each has a record of its own, however it ended, once its command
line had been understood. Its steps are those that were looked at, in the order in which that began; one that was never reached has none.
"""

from __future__ import annotations

from imgbuild.errors import NotFoundError, StoreError, UsageError
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Mapping, Sequence
from imgbuild.light.functools import cache
from imgbuild.store.journal import FORM
from imgbuild.store.records import LATEST
from imgbuild.values import dataclass, field, fields

if TYPE_CHECKING:
    from imgbuild.store.history import History

_MOST = 1 << 62
"""A number that no count of bytes reaches."""
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process of a RUN cost; None where this machine can't say. `cpu_seconds` is `cpu_user` and `cpu_system` together, which
    may be known where they are not. `peak_memory` is of its whole control group, or of its largest process; `peak_held` as much of it as
    was not files in the page cache, which the kernel takes back when it needs the room. `bytes_read` and `bytes_written` are what it had
    of disks. The network's are those of a network of its own (``--network=none``: nothing), and unknown on that of the host. `oom_kills`
    processes were killed for memory; it was held back by its limit of processors `throttled` times, for `throttled_seconds` in all."""

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    cpu_user: float | None = None
    cpu_system: float | None = None
    peak_memory: int | None = None
    peak_held: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    network_received: int | None = None
    network_sent: int | None = None
    oom_kills: int | None = None
    throttled: int | None = None
    throttled_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StepLayerRecord:
    """The layer that a step made: `size` of its blob (compressed), `uncompressed` of its tar, and its `entries`: files, directories,
    whiteouts and so on."""

    diff_id: str = ""
    digest: str = ""
    size: int = 0
    uncompressed: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """An error, as it was shown, and where. `kind` is its stable reference ("step-failed"), `exit_code` what imgbuild ended with.
    `source` are the lines that it is about, as they were (of many, the first); `column` and `end_column` (exclusive) what is meant of one,
    from 1."""

    message: str = ""
    detail: str = ""
    notes: str = ""
    hint: str = ""
    kind: str = ""
    exit_code: int = 1
    file: str = ""
    line: int = 0
    end_line: int = 0
    source: str = ""
    column: int = 0
    end_column: int = 0


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of one build.

    `number` is the one that was shown (but by a bake), in the order of the starts; `stage` its stage's name, `position` its place among
    that stage's steps, from 1 (TESTs follow the steps); `name` what was shown: ``[build 2/5] RUN make``; `file`, `line`, `end_line` where
    it stands; `platform` its stage's; `test`: it is a TEST. `key` is the digest of its record, under which the index keeps that record
    while the step is in the cache ("" where it failed before the key was known).

    `outcome`: "cached", "done", "failed", "canceled" (stopped for another one's failure or by the user), "interrupted" (the build was
    killed while it ran), "running". `started` and `seconds`: when and for how long it was looked up and performed, waiting included;
    its `capture` (seconds; None where it made no layer or that was made with it) runs beside the steps that follow.

    `build` is the build that performed it: this one where it is "done", another one where it is "cached"; `log`, `usage`, `layer` and
    `capture` are of that performance. `log` names its output for `store.logs.read_log`, "" where it wrote nothing. `parent` is the number
    of the step whose root file system it ran on (None: a base), `reads` are those of the last steps of the stages that it read.
    """

    number: int = 0
    stage: str = ""
    position: int = 0
    name: str = ""
    file: str = ""
    line: int = 0
    end_line: int = 0
    platform: str = ""
    test: bool = False
    key: str = ""
    outcome: str = ""
    started: float = 0.0
    seconds: float = 0.0
    build: str = ""
    parent: int | None = None
    reads: tuple[int, ...] = ()
    log: str = ""
    layer: StepLayerRecord | None = None
    capture: float | None = None
    usage: Usage | None = None
    error: Problem | None = None
    shown: int = 0
    """The number by which the bake that the build belongs to showed the step, among those of the other targets."""
    waited: float = 0.0
    """Of `seconds`, for memory that others used."""
    base: str = ""
    """The digest of the image that it stands on, where no step is between."""
    causes: tuple[Mapping[str, Any], ...] = ()
    """Why it was performed, as was said (`insight.causes.Cause`). `differs`, where that is more: all fields that were others in the step
    "number" of the build "build" that it was compared with, `against`; `more` of them are not recorded."""
    differs: tuple[Mapping[str, Any], ...] = ()
    more: int = 0
    against: Mapping[str, Any] = field(default_factory=dict)
    opened: Mapping[str, Any] = field(default_factory=dict)
    """Of a RUN that this build performed on files of the build context: "parts", for each source of a COPY (the "key" of its step) how many
    "files" of it there are, how many were "opened", and what was "unopened" (path, files, bytes, whether it was listed; "more" are not
    recorded), or "why" that is not known. Of a COPY of a stage: the paths that it came "from", where they really are."""

    @property
    def label(self) -> str:
        """The step's number, as a person has seen it."""
        return f"#{self.number} (#{self.shown} of the bake)" if self.shown else f"#{self.number}"

    @property
    def text(self) -> str:
        """The instruction, without its place."""
        return self.name.partition("] ")[2] or self.name

    @property
    def identity(self) -> tuple[str, str, int]:
        """What tells the same step of another build of the same Buildfile: platform, stage and position."""
        return (self.platform, self.stage, self.position)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One build.

    `status`: "done", "failed", "canceled" (by the user, or with the other targets of a bake), "interrupted" (killed), or "running".
    `buildfile` is the Buildfile's path (absolute; a name where it is in no file of its own), `context` the build context's, or its URL
    without credentials; `target` the stage that was asked for, "" for the last one; `names` the tags that were asked for. `bake` and
    `bake_target` are the id that all targets of one bake share, and its name there. `same`: the build that this one was the same as,
    where nothing but that was checked.

    `options` has the other options of the command line by their name, as they were given, where they were; `args` the build arguments with
    their values; `secrets` and `ssh` only ids. `bases` are the images that it started from ("name", "digest", "platform"). `image`,
    `digest` and `size` are the result's: the image's ID, the digest and the size of its manifest or index. `warnings` are lint's ("rule",
    "message", "file", "line", "end_line", "source"), and `notices` all else that was to be known. `version` is imgbuild's. `raw` is the
    JSON object.
    """

    id: str = ""
    status: str = ""
    started: float = 0.0
    ended: float = 0.0
    buildfile: str = ""
    context: str = ""
    target: str = ""
    platforms: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    bake: str = ""
    bake_target: str = ""
    same: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    bases: tuple[Mapping[str, str], ...] = ()
    image: str = ""
    digest: str = ""
    size: int = 0
    cached: int = 0
    performed: int = 0
    warnings: tuple[Mapping[str, Any], ...] = ()
    notices: tuple[str, ...] = ()
    version: str = ""
    error: Problem | None = None
    form: int = 0
    """Of the record: 0 of before there were any."""
    steps: tuple[StepRecord, ...] = ()
    count: int = 0
    """Of the steps, which a list of builds leaves out."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended - self.started)

    def step(self, number: int) -> StepRecord | None:
        """The step with a number."""
        return next((step for step in self.steps if step.number == number), None)


def parse_build(raw: Mapping[str, Any]) -> BuildRecord:
    """A record from its JSON object. What has another type than it should has not been said."""
    listed = raw.get("steps")
    steps = tuple(parse_step(step) for step in (listed if isinstance(listed, list) else ()) if isinstance(step, dict))
    return BuildRecord(**{**_facts(raw), "steps": steps, "count": len(steps)})


def parse_summary(raw: Mapping[str, Any]) -> BuildRecord:
    """A build from its record without the steps."""
    return BuildRecord(**_facts(raw))


def parse_step(raw: Mapping[str, Any]) -> StepRecord:
    """A step's record from its JSON object."""
    made: dict[str, Any] = {"error": _problem(raw)}
    known = _known(StepRecord, raw)
    number = known.get("number", 0)  # of those that it needs, each began before it
    if known.get("parent", -1) >= number:
        known.pop("parent", None)
    known["reads"] = tuple(other for other in known.get("reads", ()) if other < number)
    if isinstance(layer := raw.get("layer"), dict):
        made["layer"] = StepLayerRecord(**_known(StepLayerRecord, layer))
    if isinstance(usage := raw.get("usage"), dict):
        made["usage"] = Usage(**_known(Usage, usage))
    return StepRecord(**{**known, **made})


def recent_builds(
    history: History, limit: int | None = None, *, buildfile: str | None = None, target: str | None = None, before: float | None = None
) -> tuple[BuildRecord, ...]:
    """The builds, the last one first; those of a Buildfile (its absolute path) or of a target, or that started before a time."""
    return tuple(parse_build(raw) for raw in history.recent(limit, buildfile=buildfile, target=target, before=before))


def listed_builds(history: History, limit: int | None = None) -> tuple[BuildRecord, ...]:
    """The builds, the last one first, without their steps."""
    return tuple(map(parse_summary, history.summaries(limit)))


def find_build(history: History, name: str = "last") -> BuildRecord:
    """The build that a name means: ``last``, ``last~2`` or ``^2`` (two before the last), an id, or the unique beginning of one.
    NotFoundError where there is none, UsageError where there are several."""
    record = history.get(find_id(history.ids(), name))
    if record is None:
        raise NotFoundError(f"there is no build {name} any more")
    build = parse_build(record)
    if build.form > FORM:
        raise StoreError(
            f"the build {build.id} was recorded by a newer imgbuild, in the form {build.form}: this one knows {FORM}",
            hint=f"use imgbuild {build.version}" if build.version else "use that one",
        )
    return build


def with_steps(build: BuildRecord) -> BuildRecord:
    """The same build, if it is known what its steps were; NotFoundError where that was never recorded."""
    if reason := untold(build):
        raise NotFoundError(f"the steps of the build {build.id} are not known: {reason}", hint="build it again")
    return build


def untold(build: BuildRecord) -> str:
    """Why it is not known which steps a build had, "" where it is."""
    if build.steps or build.form or build.status != "done":
        return ""
    return f"it was the same as the build {build.same}, which is not kept" if build.same else "an older imgbuild did not record them"


def find_step(build: BuildRecord, word: str) -> StepRecord:
    """The step that a word is the number of, as a build shows it: ``3`` or ``#3``. UsageError where it is no number, NotFoundError where
    there is no such step."""
    digits = word.removeprefix("#")
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"{word!r} is not the number of a step", hint="they are numbered as a build shows them: #3")
    step = with_steps(build).step(int(digits[:_MOST_DIGITS]))
    if step is None:
        numbers = [each.number for each in build.steps]
        known = f"its steps are #{min(numbers)} to #{max(numbers)}" if numbers else "it has none"
        raise NotFoundError(f"the build {build.id} has no step {digits[:_MOST_DIGITS]}", hint=known)
    return step


def find_id(ids: Sequence[str], name: str) -> str:
    """Which of `ids`, the last one first, a name means."""
    back = _back(name)
    if back is not None:
        if back >= len(ids):
            raise NotFoundError(f"there is no build {name}: {len(ids)} are known", hint="`imgbuild builds ls` lists them")
        return ids[back]
    found = [build for build in ids if build.startswith(name)] if name else []
    if len(found) > 1 and name not in found:
        raise UsageError(f"{name} is the beginning of the ids of {len(found)} builds", hint="write more of it")
    if not found:
        raise NotFoundError(f"there is no build {name}", hint="`imgbuild builds ls` lists them; `last` is the last one")
    return name if name in found else found[0]


def _back(name: str) -> int | None:
    """How many builds before the last one a name means."""
    if name == "last":
        return 0
    number = name.removeprefix("last~") if name.startswith("last~") else name[1:] if name.startswith("^") else ""
    return int(number[:_MOST_DIGITS]) if number.isascii() and number.isdigit() else None


def _facts(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A build but for its steps."""
    bake = _texts(raw.get("bake")) or {}
    known = {name: value for name, value in _known(BuildRecord, raw).items() if name != "steps"}
    return {**known, "bake": bake.get("id", ""), "bake_target": bake.get("target", ""), "raw": raw, "error": _problem(raw)}


def _problem(raw: Mapping[str, Any]) -> Problem | None:
    return Problem(**_known(Problem, error)) if isinstance(error := raw.get("error"), dict) and error else None


def _known(kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a value that a JSON object has, as far as they are what they should be; lists as tuples."""
    readers = _readers(kind)
    found: dict[str, Any] = {}
    for name, given in raw.items():
        if given is not None and (read := readers.get(name)) is not None and (value := read(given)) is not None:
            found[name] = value
    return found


@cache
def _readers(kind: type) -> dict[str, Callable[[Any], Any]]:
    return {item.name: read for item in fields(kind) if (read := _FORMS.get(str(item.type))) is not None}


def _plain(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) is kind else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < _MOST else None


def _real(value: Any) -> float | None:
    return value if type(value) in (int, float) and abs(value) < LATEST else None


def _texts(value: Any) -> dict[str, str] | None:
    return {name: item for name, item in value.items() if type(item) is str} if type(value) is dict else None


def _all(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...] | None]:
    """A reader of lists, which leaves out what `read` does not take."""
    return lambda value: tuple(item for each in value if (item := read(each)) is not None) if type(value) is list else None


_FORMS: dict[str, Callable[[Any], Any]] = {
    "str": _plain(str), "bool": _plain(bool), "int": _whole, "int | None": _whole, "float": _real, "float | None": _real,
    "tuple[int, ...]": _all(_whole), "tuple[str, ...]": _all(_plain(str)), "Mapping[str, str]": _texts, "Mapping[str, Any]": _plain(dict),
    "tuple[Mapping[str, str], ...]": _all(_texts), "tuple[Mapping[str, Any], ...]": _all(_plain(dict)),
}  # fmt: skip
"""What takes a value of a field that is declared so: None where it is of another type, or a number that nothing here can be."""
