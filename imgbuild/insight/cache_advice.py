"""What is performed again and again, and need not be: for files that it does not read, for what it could keep, for failing. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from imgbuild.errors import LeakError
from imgbuild.hints import Iterator, Mapping, Sequence
from imgbuild.insight.advice import Advice, Past, counted, named, shown_bytes, took
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.opened import needless
from imgbuild.insight.tools import Tool, mounted, reads, sets_up, tools_in
from imgbuild.light.collections import Counter

_COPIES = ("COPY", "ADD")
_LEAST_SECONDS = 1.0
_LEAST_BYTES = 1 << 20
_OFTEN = 2


def misses(past: Past) -> Iterator[Advice]:
    """For each COPY and ADD of the build context: what was performed for its files."""
    for step in past.build.steps:
        if copies_context(step):
            yield from _Missed(past, step).advice()


class _Missed:
    """The builds in which files of a COPY had changed, and what stood on it."""

    def __init__(self, past: Past, step: StepRecord) -> None:
        self._step = step
        self._looked = [(build, each) for build, each in past.same(step) if each.outcome in ("cached", "done")]
        self._missed = [(build, each) for build, each in self._looked if _changed(each)]
        self._files: Counter[str] = Counter()
        for _, each in self._missed:
            for path in _changed(each):
                self._files[path] += 1
        self._above = runs_above(past.build, step)

    def advice(self) -> Iterator[Advice]:
        unknown: dict[str, list[float]] = {}
        apart = not sets_up(self._step.text)
        for above in self._above:
            needed = reads(above.text) if apart else None
            spared: list[float] = []
            spent: list[float] = []
            for build, each in self._missed:
                if (again := victim(build, each, above)) is not None:
                    fits = needless(again, each)
                    if fits is None:
                        fits = needed is not None and not each.more and not _match(_changed(each), needed)
                    (spared if fits else spent).append(took(again))
            if len(spared) >= _OFTEN and sum(spared) >= _LEAST_SECONDS:
                yield self._order(above, needed, spared)
            if needed is None and spent:
                unknown[f"{above.text} (line {above.line})"] = spent
        seconds = sum(map(sum, unknown.values()))
        if len(self._missed) >= _OFTEN and seconds >= _LEAST_SECONDS:
            yield self._later(unknown, seconds)

    def _order(self, above: StepRecord, needed: Sequence[str] | None, spared: list[float]) -> Advice:
        what = f"`{above.text}` (line {above.line})"
        names = named([name for name in needed if "*" not in name] or needed, 3) if needed else "what it opens"
        message = f"put {what} before it: that reads no file of it" if needed == () else f"copy {names} first, then {what}, then the rest"
        why = "it had opened nothing that had changed" if needed is None else f"none of {', '.join(needed)} had changed" if needed else ""
        evidence = (
            *self._evidence(),
            f"for that, {what} was performed {counted(len(spared), 'time')} without need, {sum(spared) / len(spared):.1f} s each"
            + (f": {why}" if why else ""),
        )
        kind = "order" if needed == () else "split"
        return Advice(kind, self._step, message, evidence, sum(spared), facts=self._facts(above, len(spared)))

    def _later(self, unknown: Mapping[str, list[float]], seconds: float) -> Advice:
        times = max(map(len, unknown.values()))
        evidence = (
            *self._evidence(),
            f"for that, {named([f'`{text}`' for text in unknown], 3)} was performed, up to {counted(times, 'time')}: {seconds:.1f} s",
        )
        message = "move it below what does not need its files, or copy apart what changes seldom"
        return Advice("later", self._step, message, evidence, seconds, most=True, facts=self._facts(None, times))

    def _evidence(self) -> tuple[str, ...]:
        files = [f"{path} ({counted(times, 'time')})" for path, times in sorted(self._files.items(), key=lambda item: (-item[1], item[0]))]
        return (f"its files had changed in {len(self._missed)} of {counted(len(self._looked), 'build')}: {named(files)}",)

    def _facts(self, above: StepRecord | None, times: int) -> dict[str, object]:
        counts = {"builds": len(self._looked), "missed": len(self._missed), "performed": times}
        facts: dict[str, object] = {**counts, "files": dict(self._files)}
        return facts | ({"instruction": above.text, "line": above.line} if above is not None else {})


def copies_context(step: StepRecord) -> bool:
    """Whether it is a COPY or ADD of the build context."""
    return step.text.split(" ", 1)[0] in _COPIES and "--from=" not in step.text


def _changed(step: StepRecord) -> list[str]:
    """The files of the build context for which a step was performed."""
    if step.outcome != "done":
        return []
    return [str(cause.get("subject", "")) for cause in step.causes if cause.get("kind") == "file" and not cause.get("where")]


def runs_above(build: BuildRecord, step: StepRecord) -> list[StepRecord]:
    """The RUNs that stand on a step, directly or not."""
    standing = {step.number}
    found = []
    for each in sorted(build.steps, key=lambda other: other.number):
        if each.parent in standing:
            standing.add(each.number)
            if each.text.startswith("RUN") and not each.test:
                found.append(each)
    return found


def victim(build: BuildRecord, step: StepRecord, like: StepRecord) -> StepRecord | None:
    """The same RUN as another build's, if it was performed for nothing but that `step` was."""
    for each in build.steps:
        if (each.stage, each.platform, each.text) == (like.stage, like.platform, like.text) and each.outcome == "done":
            only = [(cause.get("kind"), cause.get("subject")) for cause in each.causes] == [("parent", f"#{step.number}")]
            return each if only else None
    return None


def _match(paths: Sequence[str], names: Sequence[str]) -> bool:
    return any(fnmatchcase(path.rpartition("/")[2], name) for path in paths for name in names)


def cache_mounts(past: Past, kept: Mapping[int, Mapping[str, int]]) -> Iterator[Advice]:
    """RUNs of programs that fetch, without a cache mount. `kept` has, by the number of a step, the bytes that its layer has below each
    directory of `directories`."""
    for step in past.build.steps:
        if (found := unmounted(step)) is None:
            continue
        tool, places = found
        performed = [each for _, each in past.same(step) if each.outcome in ("done", "failed")]
        again = [took(each) for each in performed[:-1]]
        left = {path: size for path, size in kept.get(step.number, {}).items() if size >= _LEAST_BYTES}
        if sum(again) < _LEAST_SECONDS and not left:
            continue
        used = [path for path in places if path in left] or places
        sharing = ",sharing=locked" if tool.locked else ""
        flags = " ".join(f"--mount=type=cache,target={path}{sharing}" for path in used)
        idle = [word for word in tool.idle if word in step.text]
        message = f"keep what {tool.name} fetches: RUN {flags}" + (f", without {idle[0]}" if idle else "")
        message += f", after {tool.before}" if tool.before and not left and tool.before not in step.text else ""
        evidence = []
        if again:
            evidence.append(f"it was performed {counted(len(performed), 'time')}, again for {sum(again):.1f} s")
        evidence += [f"its layer has {shown_bytes(size)} below {path}" for path, size in left.items()]
        facts = {"tool": tool.name, "performed": len(performed), "directories": left}
        yield Advice("cache-mount", step, message, tuple(evidence), sum(again), sum(left.values()), most=True, facts=facts)


def unmounted(step: StepRecord) -> tuple[Tool, tuple[str, ...]] | None:
    """The first program of a RUN that fetches and has no cache mount, and where it keeps what it fetched."""
    if not step.text.startswith("RUN") or step.test:
        return None
    at = mounted(step.text)
    for tool in tools_in(step.text):
        if not any(_covers(path, cache) for path in at for cache in tool.caches):
            return tool, tool.caches
    return None


def _covers(mount: str, cache: str) -> bool:
    return f"{cache}/".startswith(f"{mount}/") or f"{mount}/".startswith(f"{cache}/")


def failing(past: Past, latest: BuildRecord) -> Iterator[Advice]:
    """Steps that failed more than once."""
    known = {(step.platform, step.stage, step.text): step for step in (*past.build.steps, *latest.steps)}
    for step in known.values():
        ended = [each for _, each in past.same(step) if each.outcome in ("done", "failed")]
        failed = [each for each in ended if each.outcome == "failed" and not _leaked(each)]
        if len(failed) < _OFTEN:
            continue
        lost = sum(map(took, failed))
        said: Counter[str] = Counter(each.error.message for each in failed if each.error is not None and each.error.message)
        evidence = [f"it failed {counted(len(failed), 'time')} of {len(ended)}, in {lost:.1f} s"]
        evidence += [f"{counted(times, 'time')}: {message}" for message, times in sorted(said.items(), key=lambda item: -item[1])[:3]]
        succeeded = len(ended) > len(failed)
        message = "it fails now and then: RUN --retry=N tries again" if succeeded else "it has never ended well: `imgbuild debug` enters it"
        if not step.text.startswith("RUN"):
            message = "it fails now and then" if succeeded else "it has never ended well"
        facts = {"failed": len(failed), "performed": len(ended), "errors": dict(said)}
        yield Advice("failing", step, message, tuple(evidence), lost, most=True, facts=facts)


def _leaked(step: StepRecord) -> bool:
    """Whether it failed for a secret in its layer: nobody enters that, and no other attempt has another one."""
    return step.error is not None and step.error.kind == LeakError.reference
